"""The packed step store: random access to the steps of a dataset.

Flows in: a folder written by `pack.py`. Flows out: arrays for any step indices. A store is

    meta.json                      format version, layout, episode lengths, specs, stats, checksums
    vectors-00000.array_record     one record a step: all vector features, raw little-endian bytes
    images-00000.array_record      one record a step: all camera images, raw uint8

with whole episodes in each shard. Vectors and images have files of their own, so that gathering a
chunk of H actions never reads an image. What fits a byte budget is kept in memory as contiguous
arrays, vectors first; the rest is read by record. Nothing is normalised or cut into windows here.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from arp_jax.normalize import Stats, stats_from_json
from arp_jax.specs import ActionSpec, ObservationSpec

FORMAT = "arp_jax.pack"
FORMAT_VERSION = 1
META_FILE = "meta.json"
GROUPS = ("vectors", "images")
MEMORY_BUDGET = 2 << 30
# Read-ahead threads would fetch records that random access does not want.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BLOCK_BYTES = 16 << 20


def group_dtype(features: Mapping[str, Mapping[str, Any]], group: str) -> np.dtype | None:
    """Structured dtype of one record of a group, or None when no feature belongs to it.

    Args:
        features: {name: {"dtype", "shape", "group"}} as in meta.json; the order is the layout.
    """
    fields = [
        (name, np.dtype(f["dtype"]).newbyteorder("<"), tuple(f["shape"]))
        for name, f in features.items()
        if f["group"] == group
    ]
    return np.dtype(fields) if fields else None


def checksum(path: Path) -> int:
    """CRC-32 of a file, read in blocks."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


class RecordGroup:
    """The records of one group over all shards, in memory or on disk."""

    def __init__(self, paths: Sequence[Path], steps: Sequence[int], dtype: np.dtype) -> None:
        self.dtype = dtype
        self._paths = list(paths)
        self._bounds = np.concatenate([[0], np.cumsum(steps)])  # [shards + 1]
        self._readers: dict[int, Any] = {}
        self._columns: dict[str, np.ndarray] | None = None

    @property
    def nbytes(self) -> int:
        """Size of all records, decompressed."""
        return int(self._bounds[-1]) * self.dtype.itemsize

    @property
    def in_memory(self) -> bool:
        """Whether `load` was called."""
        return self._columns is not None

    def load(self) -> None:
        """Reads everything into one contiguous array a feature."""
        total = int(self._bounds[-1])
        columns = {
            name: np.empty((total, *self.dtype[name].shape), self.dtype[name].base)
            for name in self.dtype.names or ()
        }
        block = max(1, _BLOCK_BYTES // self.dtype.itemsize)
        for start in range(0, total, block):
            stop = min(start + block, total)
            rows = self._read(np.arange(start, stop))
            for name, column in columns.items():
                column[start:stop] = rows[name]
        self.close()
        self._columns = columns

    def take(self, indices: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Features `names` at absolute step indices of any shape [...] -> [..., *shape]."""
        if self._columns is not None:
            return {name: self._columns[name].take(indices, axis=0) for name in names}
        unique, inverse = np.unique(indices, return_inverse=True)
        rows = self._read(unique)
        inverse = inverse.reshape(indices.shape)
        return {name: rows[name][inverse] for name in names}

    def _read(self, steps: np.ndarray) -> np.ndarray:
        """Records of sorted step indices [n] as a structured array [n]."""
        shards = np.searchsorted(self._bounds, steps, side="right") - 1
        parts = []
        for shard in np.unique(shards):
            local = (steps[shards == shard] - self._bounds[shard]).tolist()
            try:
                parts.extend(self._reader(int(shard)).read(local))
            except (RuntimeError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"{self._paths[shard]}: cannot be read ({reason}); pack the dataset again"
                ) from error
        return np.frombuffer(b"".join(parts), self.dtype)

    def _reader(self, shard: int) -> Any:
        if shard not in self._readers:
            self._readers[shard] = ArrayRecordReader(str(self._paths[shard]), _READER_OPTIONS)
        return self._readers[shard]

    def close(self) -> None:
        """Closes the files; a later read opens them again."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


class Pack:
    """An opened step store. Reading from disk is for one thread at a time.

    Attributes:
        directory: the folder.
        split: split of the source that was packed.
        episode_lengths: int64 [E].
        shapes, dtypes: {name: of one step}, the action under the key "action".
        observation_spec, action_spec: what the numbers mean; None when the source did not say.
        stats: statistics of the vector features and the action.
        content_hash: identifies source content and selection.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any]) -> None:
        self.directory = directory
        self.split: str = meta["split"]
        self.episode_lengths = np.asarray(meta["episode_lengths"], np.int64)
        self.shapes = {name: tuple(f["shape"]) for name, f in meta["features"].items()}
        self.dtypes = {name: np.dtype(f["dtype"]) for name, f in meta["features"].items()}
        specs = meta["specs"]
        self.observation_spec = ObservationSpec.from_json(specs["observation"]) if specs else None
        self.action_spec = ActionSpec.from_json(specs["action"]) if specs else None
        self.stats: Stats = stats_from_json(meta["stats"])
        self.content_hash: str = meta["content_hash"]
        self._groups = record_groups(directory, meta["features"], meta["shards"])

    @property
    def num_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.episode_lengths)

    @property
    def num_steps(self) -> int:
        """Number of steps of all episodes."""
        return int(self.episode_lengths.sum())

    @property
    def in_memory(self) -> tuple[str, ...]:
        """Names of the features that are held in memory."""
        return tuple(n for g in self._groups if g.in_memory for n in g.dtype.names or ())

    def load(self, memory_budget: int) -> None:
        """Keeps in memory what fits `memory_budget` bytes, vectors before images."""
        for group in self._groups:
            if group.nbytes <= memory_budget:
                group.load()
                memory_budget -= group.nbytes

    def read_steps(
        self, indices: np.ndarray, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Features at absolute step indices.

        Args:
            indices: integers of any shape [...], 0 .. num_steps-1, repeats allowed.
            names: features to read; None reads all (the action is "action").

        Returns:
            {name: [..., *shapes[name]]}, fresh arrays.

        Raises:
            ValueError: an index or a name does not exist, or a shard cannot be read.
        """
        indices = np.asarray(indices)
        if indices.size and not (indices.min() >= 0 and indices.max() < self.num_steps):
            raise ValueError(
                f"{self.directory}: step indices {indices.min()} .. {indices.max()} leave "
                f"0 .. {self.num_steps - 1}"
            )
        wanted = list(self.shapes) if names is None else list(names)
        for name in wanted:
            if name not in self.shapes:
                raise ValueError(f"{self.directory}: no feature {name!r}; has {list(self.shapes)}")
        arrays: dict[str, np.ndarray] = {}
        for group in self._groups:
            chosen = [name for name in wanted if name in (group.dtype.names or ())]
            if chosen:
                arrays.update(group.take(indices, chosen))
        return arrays

    def close(self) -> None:
        """Closes the files."""
        for group in self._groups:
            group.close()


def record_groups(
    directory: Path,
    features: Mapping[str, Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
) -> list[RecordGroup]:
    """The groups that a layout has, vectors first."""
    groups = []
    for group in GROUPS:
        dtype = group_dtype(features, group)
        if dtype is not None:
            paths = [directory / shard["files"][group]["name"] for shard in shards]
            steps = [sum(shard["episode_lengths"]) for shard in shards]
            groups.append(RecordGroup(paths, steps, dtype))
    return groups


def open_pack(
    directory: str | Path, memory_budget: int = MEMORY_BUDGET, verify: bool = False
) -> Pack:
    """Opens a finished step store.

    Args:
        directory: folder written by `pack_dataset`.
        memory_budget: bytes that may be kept in memory (vectors first, then images); 0 keeps none.
        verify: also compare the checksum of every shard (reads all files); sizes are always
            compared.

    Raises:
        ValueError: no finished pack, another format version, or a missing, truncated or changed
            shard; the message names the file.
    """
    directory = Path(directory)
    meta = read_meta(directory)
    for shard in meta["shards"]:
        for entry in shard["files"].values():
            check_shard_file(directory, entry, verify)
    pack = Pack(directory, meta)
    pack.load(memory_budget)
    return pack


def read_meta(directory: Path) -> dict[str, Any]:
    """Content of meta.json with the episode lengths of all shards joined."""
    path = directory / META_FILE
    if not path.is_file():
        raise ValueError(
            f"{directory}: no finished pack ({META_FILE} is missing); make one with "
            f"`python -m arp_jax.data.pack --source DATASET --out {directory} --features NAMES`"
        )
    try:
        meta = json.loads(path.read_text())
        found = (meta.get("format"), meta.get("format_version"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a JSON object ({error}); pack the dataset again") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{path}: format {found[0]!r} version {found[1]!r}, this program reads {FORMAT!r} "
            f"version {FORMAT_VERSION}; pack the dataset again"
        )
    meta["episode_lengths"] = [n for shard in meta["shards"] for n in shard["episode_lengths"]]
    return meta


def check_shard_file(directory: Path, entry: Mapping[str, Any], verify: bool) -> None:
    """Raises ValueError when a shard file is missing or not what was written."""
    path = directory / entry["name"]
    if not path.is_file():
        raise ValueError(f"{path}: shard is missing; copy it again or pack the dataset again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(
            f"{path}: {size} bytes, written were {entry['bytes']}; pack the dataset again"
        )
    if verify and checksum(path) != entry["crc32"]:
        raise ValueError(f"{path}: checksum differs from {META_FILE}; pack the dataset again")
