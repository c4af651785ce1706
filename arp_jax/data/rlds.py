"""Reading RLDS datasets in TFDS folders (TFRecord or ArrayRecord shards) without TensorFlow.

In: a folder `DATA_DIR/<name>/<version>/` with features.json, dataset_info.json and shards. Out:
episodes as dicts of stacked numpy arrays, in stored order, decoded as features.json says. Nothing
is shuffled, cut into windows or normalised here; steps are bounded by the episode, never by the
`is_last` flags (public datasets leave them unset).
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from arp_jax.data.rlds_features import Field, fields_from_json, select_fields
from arp_jax.data.tf_example import parse_episode
from arp_jax.data.tfrecord import read_tfrecord
from arp_jax.specs import ActionSpec, ObservationSpec

Episode = dict[str, Any]

SPECS_FILE = "specs.json"
_SLICE = re.compile(r"^(?P<name>[^\[\]]+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?$")


@dataclass(frozen=True)
class DatasetSpecs:
    """What the dataset's numbers mean: names, units, frames and limits."""

    observation: ObservationSpec
    action: ActionSpec

    def write(self, folder: Path) -> None:
        """Writes specs.json into a dataset folder."""
        content = {"observation": self.observation.to_json(), "action": self.action.to_json()}
        (folder / SPECS_FILE).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "DatasetSpecs | None":
        """Reads specs.json, or returns None when the folder has none (foreign datasets)."""
        path = folder / SPECS_FILE
        if not path.is_file():
            return None
        content = _read_json(path)
        try:
            return cls(
                ObservationSpec.from_json(content["observation"]),
                ActionSpec.from_json(content["action"]),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: {error}; rebuild the dataset") from error


@dataclass(frozen=True)
class Shard:
    """One file of a split: its path and the number of episodes in it."""

    path: Path
    episodes: int


# The records [begin, end) of a shard; raises ValueError naming a damaged record.
RecordReader = Callable[[Shard, int, int], Iterator[bytes]]


def local_records(shard: Shard, begin: int, end: int) -> Iterator[bytes]:
    """The `RecordReader` of files on a disk."""
    is_array_record = ".array_record" in shard.path.name
    return (_array_records if is_array_record else _tfrecords)(shard, begin, end)


@dataclass(frozen=True)
class RldsDataset:
    """An opened dataset folder.

    Attributes:
        path: the folder.
        name, version: from dataset_info.json.
        features: `{name: Field}`, e.g. "observation/image", "action", "episode_metadata/seed".
        shards: `{split: files in order}`.
        specs: what the numbers mean, or None when the folder has no specs.json.
        records: how shards are read.
    """

    path: Path
    name: str
    version: str
    features: dict[str, Field]
    shards: dict[str, tuple[Shard, ...]]
    specs: DatasetSpecs | None
    records: RecordReader = local_records

    @property
    def splits(self) -> dict[str, int]:
        """Number of episodes of each split."""
        return {name: sum(s.episodes for s in shards) for name, shards in self.shards.items()}

    def num_episodes(self, split: str) -> int:
        """Number of episodes of a split or of a part of it ("train[:90]")."""
        _, start, stop = self.resolve(split)
        return stop - start

    def episodes(
        self, split: str, select: Iterable[str] | None = None, decode_images: bool = True
    ) -> Iterator[Episode]:
        """Yields the episodes of a split in stored order.

        Args:
            split: name, or a part of it by episode number or percentage: "train[10:90]",
                "train[90%:]".
            select: fields to decode; None takes all. A name is a field ("observation/image"), a
                group ("observation") or the bare name of an observation ("image").
            decode_images: False leaves images as they are stored: object arrays [T] of bytes.

        Returns:
            Iterator of nested dicts: per-step fields are stacked to [T, ...], fields of the whole
            episode stand beside them as stored.

        Raises:
            ValueError: unknown split or field (at the call); missing, truncated or corrupt
                shard, missing key, image that cannot be decoded (while iterating). The message
                names the file, the episode and the field.
        """
        name, start, stop = self.resolve(split)
        try:
            fields = select_fields(self.features, select)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        return self._read(name, start, stop, fields, decode_images)

    def _read(
        self, name: str, start: int, stop: int, fields: list[Field], decode_images: bool
    ) -> Iterator[Episode]:
        first = 0
        for shard in self.shards[name]:
            begin, end = max(start - first, 0), min(stop - first, shard.episodes)
            if begin < end:
                for record, content in _read_shard(shard, begin, end, self.records):
                    try:
                        episode = parse_episode(content, fields, decode_images)
                    except ValueError as error:
                        raise ValueError(
                            f"{shard.path}: episode {first + record} of split {name!r}: {error}; "
                            "rebuild the dataset or leave the field out with select="
                        ) from error
                    yield episode
            first += shard.episodes

    def resolve(self, split: str) -> tuple[str, int, int]:
        """Split expression to (name of the split, first episode, end); raises ValueError."""
        match = _SLICE.match(split)
        if match is None or match["name"] not in self.shards:
            raise ValueError(
                f"{self.path}: no split {split!r}; there are {self.splits} "
                "(a part is written like 'train[10:90]' or 'train[90%:]')"
            )
        total = self.splits[match["name"]]
        start, stop = (
            _position(match[end], total, default)
            for end, default in (("start", 0), ("stop", total))
        )
        if not start < stop:
            raise ValueError(f"{self.path}: split {split!r} selects none of {total} episodes")
        return match["name"], start, stop


def open_dataset(path: str | Path, records: RecordReader = local_records) -> RldsDataset:
    """Opens a TFDS dataset folder (the one that holds features.json).

    Args:
        path: the folder.
        records: how shards are read; for folders that are not on a disk (`rlds_tfds.py`).

    Raises:
        ValueError: the folder, one of its JSON files or one of its shards is missing or
            malformed, or the file format is not tfrecord or array_record.
    """
    folder = Path(path) if isinstance(path, str) else path
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such dataset folder; build it or correct the path")
    if not (folder / "features.json").is_file():
        inner = sorted(p.parent.relative_to(folder) for p in folder.glob("*/features.json"))
        hint = f"; did you mean {folder / inner[-1]}?" if inner else ""
        raise ValueError(f"{folder}: no features.json, so it is no TFDS dataset folder{hint}")
    features, info = _read_json(folder / "features.json"), _read_json(folder / "dataset_info.json")
    try:
        return RldsDataset(
            path=folder,
            name=info["name"],
            version=info["version"],
            features=fields_from_json(features),
            shards={s["name"]: _shards(folder, info, s) for s in info["splits"]},
            specs=DatasetSpecs.read(folder),
            records=records,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}: features.json or dataset_info.json lacks {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); rebuild it") from error


def _shards(folder: Path, info: dict[str, Any], split: dict[str, Any]) -> tuple[Shard, ...]:
    """Files of a split, named by TFDS's template."""
    file_format = info.get("fileFormat") or "tfrecord"
    if file_format not in ("tfrecord", "array_record"):
        raise ValueError(
            f"{folder}: file format {file_format!r} is not supported; "
            "convert it to tfrecord or array_record"
        )
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    lengths = [int(n) for n in split.get("shardLengths", ())]  # JSON of an empty split has none
    shards = []
    for index, length in enumerate(lengths):
        number, count = f"{index:05d}", f"{len(lengths):05d}"
        name = template.format(
            DATASET=info["name"],
            SPLIT=split["name"],
            FILEFORMAT=file_format,
            SHARD_INDEX=number,
            NUM_SHARDS=count,
            SHARD_X_OF_Y=f"{number}-of-{count}",
        )
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: shard is missing; copy it again or rebuild")
        shards.append(Shard(folder / name, length))
    return tuple(shards)


def _read_shard(
    shard: Shard, begin: int, end: int, records: RecordReader
) -> Iterator[tuple[int, bytes]]:
    """Yields (number, bytes) of the records [begin, end) of a shard."""
    read = begin
    try:
        for read, record in enumerate(records(shard, begin, end), begin + 1):
            yield read - 1, record
    except (ValueError, RuntimeError, IndexError, OSError) as error:
        raise ValueError(f"{shard.path}: {error}; copy the file again or rebuild") from error
    if read < end:
        raise ValueError(
            f"{shard.path}: {read} records, dataset_info.json says {shard.episodes} "
            "(truncated copy?); copy the file again or rebuild"
        )


def _tfrecords(shard: Shard, begin: int, end: int) -> Iterator[bytes]:
    for index, record in enumerate(read_tfrecord(shard.path)):
        if index >= end:
            return
        if index >= begin:
            yield record


def _array_records(shard: Shard, begin: int, end: int) -> Iterator[bytes]:
    # Read one by one: the read-ahead threads would only cost memory for a streaming pass.
    reader = ArrayRecordReader(str(shard.path), "readahead_buffer_size:0")
    try:
        if not reader.ok() or reader.num_records() != shard.episodes:
            raise ValueError(
                f"no complete ArrayRecord file of {shard.episodes} records (truncated copy?)"
            )
        reader.seek(begin)
        for index in range(begin, end):
            try:
                record = reader.read()
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"record {index}: {reason}") from error
            yield record
    finally:
        # A reader that failed raises its error once more when closed.
        with contextlib.suppress(RuntimeError):
            reader.close()


def _position(text: str | None, total: int, default: int) -> int:
    if text is None:
        return default
    if text.endswith("%"):
        return min(round(int(text[:-1]) * total / 100), total)
    return min(int(text), total)
