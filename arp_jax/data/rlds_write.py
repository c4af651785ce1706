"""Writing an RLDS dataset from episodes that can be read in any order: parallel and resumable.

In: a `Conversion` (name, specs, TFDS features), a list of jobs, one an episode, and the function
that reads a job. Out: the TFDS folder OUT/NAME/VERSION with ArrayRecord shards. Worker processes
write whole shards into OUT/NAME/VERSION.incomplete; a shard counts when its description lies beside
it, so a run that was killed continues behind what it finished. Some episodes are read back and
compared before the folder gets its name. What an episode looks like is said by `episode_rlds.py`;
datasets that must be made in one sequence belong to `rlds_build.py`.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from arp_jax.data.locks import exclusive
from arp_jax.data.processes import run_jobs
from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.data.rlds_build import check_arguments, write_sidecars
from arp_jax.data.rlds_features import Field
from arp_jax.data.shards import PARTIAL, write_json
from arp_jax.data.threads import available_cores

Example = dict[str, Any]
Read = Callable[[Any], Example]

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is written.

    Attributes:
        name, version: of the dataset.
        specs: what the numbers mean; becomes specs.json.
        features: of `episode_rlds.episode_features`.
        description, license, citation: for people.
        arguments: plain JSON values that determine the result; becomes build.json. A folder made
            with others is not continued.
    """

    name: str
    specs: DatasetSpecs
    features: tfds.features.FeaturesDict
    description: str
    arguments: Mapping[str, Any]
    license: str = ""
    citation: str = ""
    version: str = "1.0.0"


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Jobs [begin, end) of a split, to be written into one file."""

    split: str
    index: int
    count: int
    begin: int
    end: int

    def file_name(self, name: str) -> str:
        return f"{name}-{self.split}.array_record-{self.index:05d}-of-{self.count:05d}"


def convert(
    out: str | Path,
    conversion: Conversion,
    jobs: Sequence[Any] | Mapping[str, Sequence[Any]],
    read: Read,
    *,
    workers: int = 0,
    per_shard: int = 0,
    spot_checks: int = 3,
    progress: bool = True,
) -> Path:
    """Writes the dataset, continues an interrupted run, or finds it finished.

    Args:
        out: data folder; the dataset becomes OUT/NAME/VERSION.
        conversion: what is written.
        jobs: one picklable description an episode, in the order of storage; or {split: jobs}. A
            plain list is the split "train".
        read: job -> example (see `episode_rlds.episode_example`); picklable, as it runs in worker
            processes, and again for the episodes that are checked.
        workers: processes; 0 takes one a core, 1 works in this process.
        per_shard: episodes in a shard; 0 chooses by their number.
        spot_checks: episodes of each split that are read back and compared.
        progress: print a progress bar to stderr.

    Returns:
        The dataset's folder.

    Raises:
        ValueError: `read` refused an episode (the message begins with its number), no jobs, a
            spot check found a difference, or the folder was made with other arguments. Finished
            shards stay in OUT/NAME/VERSION.incomplete for the next run; OUT/NAME/VERSION appears
            only when everything is there.
    """
    splits = dict(jobs) if isinstance(jobs, Mapping) else {"train": jobs}
    splits = {name: list(entries) for name, entries in splits.items() if len(entries)}
    if not splits:
        raise ValueError(f"{conversion.name}: no episodes to write")
    folder = Path(out) / conversion.name / conversion.version
    if folder.exists():
        check_arguments(folder, conversion.arguments)
        return folder
    work = folder.with_name(f"{folder.name}.incomplete")
    work.mkdir(parents=True, exist_ok=True)
    with exclusive(work):
        if folder.exists():  # another process was writing it
            return folder
        shards = [s for name, entries in splits.items() for s in _plan(name, entries, per_shard)]
        _check_plan(work, conversion, shards)
        _write_missing(work, conversion, splits, shards, read, workers, progress)
        _finish(work, conversion, shards)
        for name, entries in splits.items():
            _spot_check(work, name, entries, read, spot_checks)
        for path in (work / _PLAN, *work.glob("*.json.done")):
            path.unlink()
        work.rename(folder)
        (folder / ".lock").unlink(missing_ok=True)
    return folder


def _plan(split: str, jobs: Sequence[Any], per_shard: int) -> list[_Shard]:
    """Cuts the jobs of a split: small shards make resuming cheap, too many burden the folder."""
    total = len(jobs)
    size = per_shard or max(-(-total // 512), min(32, -(-total // 16)))
    count = -(-total // size)
    return [_Shard(split, i, count, i * size, min((i + 1) * size, total)) for i in range(count)]


def _check_plan(work: Path, conversion: Conversion, shards: Sequence[_Shard]) -> None:
    """Refuses to continue a folder that was begun for something else."""
    plan = {
        "arguments": dict(conversion.arguments),
        "features": conversion.features.to_json(),
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    plan = json.loads(json.dumps(plan))
    path = work / _PLAN
    if not path.is_file():
        write_json(path, plan)
    elif json.loads(path.read_text()) != plan:
        raise ValueError(
            f"{work}: was begun with other arguments or other input; delete it to start again"
        )


def _write_missing(
    work: Path,
    conversion: Conversion,
    splits: Mapping[str, Sequence[Any]],
    shards: Sequence[_Shard],
    read: Read,
    workers: int,
    progress: bool,
) -> None:
    for path in work.glob(f"*{PARTIAL}"):
        path.unlink()
    missing = [s for s in shards if not _done_file(work, conversion, s).is_file()]
    total = sum(s.end - s.begin for s in shards)
    tasks = [
        (work, conversion, shard, splits[shard.split][shard.begin : shard.end], read)
        for shard in missing
    ]
    done = total - sum(s.end - s.begin for s in missing)
    workers = workers or available_cores()
    bar = tqdm(
        total=total, initial=done, desc=conversion.name, unit="episode", disable=not progress
    )
    with bar:
        for count in run_jobs(_write_task, tasks, workers):
            bar.update(count)


def _write_task(task: tuple[Any, ...]) -> int:
    return _write_shard(*task)


def _write_shard(
    work: Path, conversion: Conversion, shard: _Shard, jobs: Sequence[Any], read: Read
) -> int:
    """Writes one file and then the description that makes it count; returns its episodes."""
    path = work / shard.file_name(conversion.name)
    partial = Path(f"{path}{PARTIAL}")
    writer, size = ArrayRecordWriter(str(partial), "group_size:1"), 0
    try:
        for number, job in enumerate(jobs, shard.begin):
            try:
                record = _record(conversion.features, read(job))
            except ValueError as error:
                raise ValueError(f"episode {number} of {shard.split!r}: {error}") from error
            writer.write(record)
            size += len(record)
    finally:
        writer.close()
    partial.replace(path)
    write_json(_done_file(work, conversion, shard), {"bytes": size})
    return len(jobs)


def _record(features: tfds.features.FeaturesDict, example: Example) -> bytes:
    """The example as stored; the same bytes each time (a protocol buffer's map has no order)."""
    message = tf_example_pb2.Example.FromString(features.serialize_example(example))
    return message.SerializeToString(deterministic=True)


def _done_file(work: Path, conversion: Conversion, shard: _Shard) -> Path:
    return work / f"{shard.file_name(conversion.name)}.json.done"


def _finish(work: Path, conversion: Conversion, shards: Sequence[_Shard]) -> None:
    """Writes the files that make the folder a TFDS dataset."""
    splits: dict[str, dict[str, Any]] = {}
    for shard in shards:
        entry = splits.setdefault(
            shard.split,
            {"name": shard.split, "filepathTemplate": _TEMPLATE, "numBytes": 0, "shardLengths": []},
        )
        entry["numBytes"] += json.loads(_done_file(work, conversion, shard).read_text())["bytes"]
        entry["shardLengths"].append(str(shard.end - shard.begin))
    info = {
        "name": conversion.name,
        "version": conversion.version,
        "description": conversion.description,
        "citation": conversion.citation,
        "redistributionInfo": {"license": conversion.license},
        "fileFormat": "array_record",
        "disableShuffling": True,
        "releaseNotes": {conversion.version: "First version."},
        # Protocol buffers write 64-bit integers as strings in JSON.
        "splits": [{**entry, "numBytes": str(entry["numBytes"])} for entry in splits.values()],
    }
    conversion.features.save_config(work)
    write_sidecars(work, conversion.specs, conversion.arguments)
    write_json(work / "dataset_info.json", info)


def _spot_check(work: Path, split: str, jobs: Sequence[Any], read: Read, spot_checks: int) -> None:
    """Reads some episodes back and compares them with their jobs; raises ValueError."""
    dataset = open_dataset(work)
    count = min(spot_checks, len(jobs))
    for number in np.random.default_rng(0).choice(len(jobs), count, replace=False).tolist():
        example = read(jobs[number])
        (stored,) = dataset.episodes(f"{split}[{number}:{number + 1}]", decode_images=False)
        for field in dataset.features.values():
            if field.kind != "unsupported" and not _equal(field, example, stored):
                raise ValueError(
                    f"{work}: spot check: field {field.name!r} of episode {number} of {split!r} "
                    f"reads back differently; delete the folder and convert again"
                )


def _equal(field: Field, example: Example, stored: Mapping[str, Any]) -> bool:
    """Whether a field of an episode was stored as the example has it."""
    found = _at(stored, field.path)
    if not field.per_step:
        return _same(_at(example, field.path), found)
    steps = list(example["steps"])
    return len(steps) == len(found) and all(
        _same(_at(step, field.path), value) for step, value in zip(steps, found, strict=True)
    )


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node[key]
    return node


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, io.BytesIO):
        return wanted.getvalue() == found
    if isinstance(found, bytes):
        # TFDS encoded the pixels itself.
        return isinstance(wanted, np.ndarray) or wanted == found
    found = np.asarray(found)
    if found.dtype.kind in "USO":
        return np.array_equal(np.asarray(wanted, object), np.asarray(found, object))
    return np.array_equal(
        np.asarray(wanted).astype(found.dtype), found, equal_nan=found.dtype.kind == "f"
    )
