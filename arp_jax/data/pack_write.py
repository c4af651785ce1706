"""Writing a step store: the shards that are missing, then meta.json, which makes it a store.

Flows in: a dataset folder and what of it is wanted. Flows out: files in one folder. Worker
processes write whole shards; a shard counts once its shard-NNNNN.json lies beside it, and what was
interrupted is written again. The command line is in `pack.py`, the plan in `pack_plan.py`, one
shard in `shards.py`.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arp_jax.data.locks import exclusive
from arp_jax.data.pack_plan import (
    SHARD_BYTES,
    check_host,
    content_hash,
    packed_specs,
    plan_shards,
    select,
)
from arp_jax.data.processes import run_jobs
from arp_jax.data.records import FixedRecords
from arp_jax.data.shards import (
    PARTIAL,
    Selection,
    ShardJob,
    shard_file,
    write_shard,
    write_text,
)
from arp_jax.data.source import Source
from arp_jax.data.stats import RunningStats
from arp_jax.data.store import (
    ENCODED,
    FORMAT,
    FORMAT_VERSION,
    META_FILE,
    check_shard_file,
    meta_text,
    read_meta,
    record_groups,
)
from arp_jax.data.threads import available_cores
from arp_jax.normalize import Stats, stats_to_json
from arp_jax.specs import ActionSpec, ObservationSpec

# Starting worker processes takes seconds; less than this is packed sooner without.
_SMALL_BYTES = 32 << 20
_OWN_FILES = ("vectors-*.array_record", "images*-*.array_record", "shard-*.json", f"*{PARTIAL}")


def pack_part(
    dataset_path: str | Path,
    out_dir: str | Path,
    features: Sequence[str] = (),
    progress: bool = True,
    *,
    split: str = "train",
    images: str = ENCODED,
    resize: Mapping[str, tuple[int, int]] | None = None,
    card: str | Path | None = None,
    workers: int = 0,
    host: tuple[int, int] = (0, 1),
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Writes one host's part of a store; the last of all hosts finishes it.

    Args:
        dataset_path, out_dir, features, progress: as for `pack_dataset`.
        split: split of the source or a part of it ("train[:90]").
        images: "encoded" keeps PNG and JPEG bytes exactly as stored (pixels that the source holds
            as plain arrays become PNG); "raw" stores uint8 pixels: larger, no decoding later.
        resize: camera -> (height, width); resized once (Lanczos) and, when encoded, stored as JPEG
            of quality 95. Pictures that have the size are kept as they are.
        card: name or file of the dataset's card; None takes specs.json or finds it by name.
        workers: processes; 0 takes one a core, 1 works in this process.
        host: (index, count): writes the index-th of `count` contiguous parts of the shards into
            `out_dir`, which the hosts may share, or each its own that are copied together later:
            the files have different names, and all shards in one folder are one store.
        overwrite: replace a pack of other content instead of refusing.
        shard_bytes: about the size of a shard; there are `MAX_SHARDS` at most.

    Returns:
        Number of shards that are not in the folder yet, left to other hosts; 0 when the store is
        finished.

    Raises:
        ValueError: unknown feature, camera or split; an episode that cannot be packed (names file,
            episode, field and step); or `out_dir` holds a pack of other content.
    """
    check_host(host)
    if workers < 0 or shard_bytes < 0:
        raise ValueError(f"workers {workers} and shard_bytes {shard_bytes} must not be negative")
    selection, source = select(dataset_path, split, features, images, resize or {}, card)
    digest = content_hash(source, selection)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    index, count = host
    with exclusive(out, f".lock-{index}-of-{count}" if count > 1 else ".lock"):
        if _is_finished(out, source, selection, digest, overwrite):
            return 0
        jobs = plan_shards(source, selection, digest, out, shard_bytes)
        _check_plan(out, jobs, overwrite)
        specs = packed_specs(source, selection, jobs[0].layout)
        own = jobs[index * len(jobs) // count : (index + 1) * len(jobs) // count]
        _write_shards(own, _worker_count(source, selection, workers), progress)
        return _finish(out, source, selection, jobs, specs)


def _finish(
    out: Path,
    source: Source,
    selection: Selection,
    jobs: Sequence[ShardJob],
    specs: tuple[ObservationSpec, ActionSpec],
) -> int:
    """Writes meta.json when all shards are there; returns how many are not."""
    with exclusive(out, ".lock-finish"):  # two hosts may end at the same moment
        if not (out / META_FILE).is_file():
            shards = [shard for job in jobs if (shard := _finished_shard(job)) is not None]
            if len(shards) < len(jobs):
                return len(jobs) - len(shards)
            _remove(out, [f"{META_FILE}.*{PARTIAL}"])
            meta = _meta(source, selection, jobs, shards)
            meta["specs"] = {"observation": specs[0].to_json(), "action": specs[1].to_json()}
            write_text(out / META_FILE, meta_text(meta))
        _remove(out, ["shard-*.json"])
    return 0


def _is_finished(
    out: Path, source: Source, selection: Selection, digest: str, overwrite: bool
) -> bool:
    """Whether the folder holds this very pack; clears it of another when that may be replaced."""
    finished = (out / META_FILE).is_file()
    try:
        if finished:
            _check_meta(out, source, selection, digest)
        for path in out.glob("shard-*.json"):
            with contextlib.suppress(FileNotFoundError):  # another host finished just now
                _check_same(path, json.loads(path.read_text())["content_hash"], digest)
    except ValueError:
        if not overwrite:
            raise
        _remove(out, [META_FILE, *_OWN_FILES])
        return False
    if finished:
        _remove(out, ["shard-*.json"])  # a kill may have left them behind
    return finished


def _check_meta(out: Path, source: Source, selection: Selection, digest: str) -> None:
    meta = read_meta(out)
    if meta["format_version"] == 1 and not selection.resize:
        # It holds raw pixels, whatever is asked for now: a run that was begun with it goes on.
        digest = content_hash(source, selection, version=1)
    _check_same(out / META_FILE, meta["content_hash"], digest)


def _check_same(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path}: packed from another source or selection (hash {found[:12]}, wanted "
            f"{expected[:12]}); choose another --out or pass --overwrite"
        )


def _check_plan(out: Path, jobs: Sequence[ShardJob], overwrite: bool) -> None:
    """Refuses, or removes, shards that were cut at other episodes."""
    ranges = {shard_file(job.index): [job.start, job.stop] for job in jobs}
    for path in out.glob("shard-*.json"):
        with contextlib.suppress(FileNotFoundError):
            if json.loads(path.read_text())["episodes"] == ranges.get(path.name):
                continue
            if not overwrite:
                raise ValueError(
                    f"{path}: was begun with another --shard-mb; give that one or pass --overwrite"
                )
            return _remove(out, _OWN_FILES)


def _worker_count(source: Source, selection: Selection, workers: int) -> int:
    if workers:
        return workers
    name = source.dataset.resolve(selection.split)[0]
    size = sum(shard.path.stat().st_size for shard in source.dataset.shards[name])
    return 1 if size < _SMALL_BYTES else available_cores()


def _write_shards(jobs: Sequence[ShardJob], workers: int, progress: bool) -> None:
    """Writes the shards of this host that are missing; removes what an interrupted run left."""
    missing = [job for job in jobs if _finished_shard(job, verify=True) is None]
    _remove_partial(jobs)
    total = sum(job.stop - job.start for job in jobs)
    done = total - sum(job.stop - job.start for job in missing)
    bar = tqdm(total=total, initial=done, desc="pack", unit="episode", disable=not progress)
    try:
        with bar:
            for shard in run_jobs(write_shard, missing, workers):
                bar.update(len(shard["episode_lengths"]))
    except BaseException:
        _remove_partial(jobs)
        raise


def _remove_partial(jobs: Sequence[ShardJob]) -> None:
    for job in jobs:
        _remove(job.out, [f"*-{job.index:05d}.*{PARTIAL}"])


def _finished_shard(job: ShardJob, verify: bool = False) -> dict[str, Any] | None:
    """Description of a shard that is there and whole; None when it must be written."""
    path = job.out / shard_file(job.index)
    try:
        shard = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    try:
        for entry in shard["files"].values():
            check_shard_file(job.out, entry, verify)
    except ValueError:
        return None  # it was damaged since
    return shard


def _meta(
    source: Source,
    selection: Selection,
    jobs: Sequence[ShardJob],
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Content of meta.json."""
    numbers: dict[str, int] = {}  # instruction -> index, in order of first appearance
    entries = []
    for shard in shards:
        language = [
            [numbers.setdefault(text, len(numbers)) for text in texts]
            for texts in shard["language"]
        ]
        entries.append(
            {
                "episode_lengths": shard["episode_lengths"],
                "episode_language": language,
                "files": shard["files"],
            }
        )
    job, dataset = jobs[0], source.dataset
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "content_hash": job.content_hash,
        "source": f"{dataset.name}/{dataset.version}",
        "card": None if source.card is None else source.card.name,
        "split": selection.split,
        "features": job.layout,
        "instructions": list(numbers),
        "stats": stats_to_json(_stats(job.out, job.layout, entries)),
        "shards": entries,
    }


def _stats(
    out: Path, layout: Mapping[str, Mapping[str, Any]], shards: Sequence[Mapping[str, Any]]
) -> Stats:
    """Statistics of the vectors as they lie on disk: a resumed run gives the same numbers."""
    running: dict[str, RunningStats] = {}
    vectors, *_ = record_groups(out, layout, shards)
    assert isinstance(vectors, FixedRecords)
    first = 0
    for length in (n for shard in shards for n in shard["episode_lengths"]):
        for name, rows in vectors.take(np.arange(first, first + length), vectors.names).items():
            running.setdefault(name, RunningStats()).update(rows)
        first += length
    vectors.close()
    return {name: stats.result() for name, stats in running.items()}


def _remove(out: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in out.glob(pattern):
            path.unlink(missing_ok=True)
