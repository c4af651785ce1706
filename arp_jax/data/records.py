"""Records of a step store: the files of one group over all shards, in memory or on disk.

Flows in: paths of ArrayRecord files, steps in each. Flows out: arrays for any step indices. Rows of
numbers (`FixedRecords`) are raw little-endian bytes of one size, all features of the group side by
side; pictures (`EncodedRecords`) are PNG or JPEG files as the dataset stored them, decoded when
read. Each distinct step of a request is read once, much data by all cores. Nothing is cached beyond
what `load` puts into memory at once. What the groups of a store are is in `store.py`.
"""

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from arp_jax.data.buffers import BufferPool
from arp_jax.data.images import decode_image
from arp_jax.data.threads import Threads

# Read-ahead threads would fetch records that random access does not want.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BLOCK_BYTES = 16 << 20
# What a thread does in one go: enough to hide the overhead, little enough to share out.
_PICTURES_A_TASK = 8
_TASK_BYTES = 1 << 20


class RecordFiles:
    """Reads records by step from the files of one group; safe to use from several threads."""

    def __init__(self, paths: Sequence[Path], steps: Sequence[int]) -> None:
        self.paths = list(paths)
        self.bounds = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)  # [shards + 1]
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    @property
    def num_steps(self) -> int:
        """Number of records of all files."""
        return int(self.bounds[-1])

    def read(self, steps: np.ndarray) -> list[bytes]:
        """Records of sorted step indices [n]; raises ValueError naming the file."""
        records: list[bytes] = []
        shards = self.shard_of(steps)
        for shard in np.unique(shards).tolist():
            local = (steps[shards == shard] - self.bounds[shard]).tolist()
            try:
                records.extend(self._reader(shard).read(local))
            except (RuntimeError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"{self.paths[shard]}: cannot be read ({reason}); pack the dataset again"
                ) from error
        return records

    def shard_of(self, steps: np.ndarray | int) -> Any:
        """Number of the file that holds each step."""
        return np.searchsorted(self.bounds, steps, side="right") - 1

    def _reader(self, shard: int) -> Any:
        # Reading by index is safe from several threads, opening a file twice would waste it.
        with self._lock:
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(str(self.paths[shard]), _READER_OPTIONS)
            return self._readers[shard]

    def close(self) -> None:
        """Closes the files; a later read opens them again."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A request for steps, sorted, each of them once.

    Attributes:
        steps: distinct step indices, ascending.
        places: for each of them a row of the result, the first that asks for it.
        copies: (rows that ask for a step again, rows of the result that have it).
    """

    steps: np.ndarray
    places: np.ndarray
    copies: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, indices: np.ndarray) -> "_Wanted":
        """Of step indices of any shape."""
        steps, places, inverse = np.unique(indices, return_index=True, return_inverse=True)
        source = places[inverse.reshape(-1)]
        again = np.flatnonzero(source != np.arange(indices.size))
        return cls(steps, places, (again, source[again]))

    def repeat(self, rows: np.ndarray) -> None:
        """Fills the rows whose step stands in another row of the result."""
        again, source = self.copies
        for block in _blocks(len(again), max(rows[:1].nbytes, 1)):
            rows[again[block]] = rows[source[block]]


class FixedRecords:
    """Records of one structured dtype: vectors, and pictures as raw pixels."""

    def __init__(self, files: RecordFiles, dtype: np.dtype) -> None:
        self._files, self._dtype = files, dtype
        self._buffers, self._threads = BufferPool(), Threads()
        self._columns: dict[str, np.ndarray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Features of the group."""
        return self._dtype.names or ()

    @property
    def nbytes(self) -> int:
        """Size of all records in memory."""
        return self._files.num_steps * self._dtype.itemsize

    @property
    def in_memory(self) -> bool:
        """Whether `load` was called."""
        return self._columns is not None

    def load(self) -> None:
        """Reads everything into one contiguous array a feature."""
        total = self._files.num_steps
        columns = {
            name: np.empty((total, *self._dtype[name].shape), self._dtype[name].base)
            for name in self.names
        }
        for steps in _blocks(total, self._dtype.itemsize):
            rows = self._read(steps)
            for name, column in columns.items():
                column[steps[0] : steps[-1] + 1] = rows[name]
        self.close()
        self._columns = columns

    def take(self, indices: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Features `names` at absolute step indices of any shape [...] -> [..., *shape]."""
        columns = {
            name: self._buffers.empty(
                (indices.size, *self._dtype[name].shape), self._dtype[name].base
            )
            for name in names
        }
        if self._columns is not None:
            for name, column in columns.items():
                # "clip" only says that numpy need not check the indices a second time.
                self._columns[name].take(indices.reshape(-1), 0, column, mode="clip")
        else:
            wanted = _Wanted.of(indices)

            def fill(part: np.ndarray) -> None:
                rows = self._read(wanted.steps[part])
                for name, column in columns.items():
                    column[wanted.places[part]] = rows[name]

            parts = _blocks(len(wanted.steps), self._dtype.itemsize, _TASK_BYTES)
            self._threads.run(fill, list(parts))
            for column in columns.values():
                wanted.repeat(column)
        return {n: c.reshape(*indices.shape, *c.shape[1:]) for n, c in columns.items()}

    def _read(self, steps: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"".join(self._files.read(steps)), self._dtype)

    def close(self) -> None:
        """Closes the files and ends the threads; a later read starts them again."""
        self._files.close()
        self._threads.close()


class EncodedRecords:
    """Records of one camera: PNG or JPEG files, decoded when read."""

    def __init__(
        self, files: RecordFiles, name: str, shape: tuple[int, ...], record_bytes: int
    ) -> None:
        """Files of camera `name`, whose pictures are uint8 `shape` = (H, W, 3)."""
        self.names: tuple[str, ...] = (name,)
        self.nbytes = record_bytes
        self._files, self._shape = files, shape
        self._buffers, self._threads = BufferPool(), Threads()
        self._memory: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def in_memory(self) -> bool:
        """Whether `load` was called."""
        return self._memory is not None

    def load(self) -> None:
        """Reads all encoded pictures into one array of bytes."""
        total = self._files.num_steps
        content = np.empty(self.nbytes, np.uint8)
        ends = np.zeros(total + 1, np.int64)  # picture t is content[ends[t]:ends[t + 1]]
        for steps in _blocks(total, max(self.nbytes // max(total, 1), 1)):
            records = self._files.read(steps)
            first = ends[steps[0]]
            ends[steps + 1] = first + np.cumsum([len(record) for record in records])
            content[first : ends[steps[-1] + 1]] = np.frombuffer(b"".join(records), np.uint8)
        self.close()
        self._memory = content, ends

    def take(self, indices: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Pixels uint8 [..., H, W, 3] at absolute step indices of any shape [...]."""
        (name,) = names
        wanted = _Wanted.of(indices)
        rows = self._buffers.empty((indices.size, *self._shape))

        def fill(part: np.ndarray) -> None:
            steps = wanted.steps[part]
            places = wanted.places[part].tolist()
            for step, data, place in zip(steps, self.encoded(steps), places, strict=True):
                self._decode(int(step), data, rows[place])

        self._threads.run(fill, list(_blocks(len(wanted.steps), 1, _PICTURES_A_TASK)))
        wanted.repeat(rows)
        return {name: rows.reshape(*indices.shape, *self._shape)}

    def encoded(self, steps: np.ndarray) -> Sequence[bytes | memoryview]:
        """The pictures at sorted step indices [n] as they are stored."""
        if self._memory is None:
            return self._files.read(steps)
        content, ends = self._memory
        return [content[ends[t] : ends[t + 1]].data for t in steps.tolist()]

    def _decode(self, step: int, data: bytes | memoryview, out: np.ndarray) -> None:
        try:
            decode_image(data, out)
        except ValueError as error:
            shard = self._files.shard_of(step)
            raise ValueError(
                f"{self._files.paths[shard]}: {self.names[0]!r} of step "
                f"{step - self._files.bounds[shard]}: {error}; pack the dataset again"
            ) from error

    def close(self) -> None:
        """Closes the files and ends the threads; a later read starts them again."""
        self._files.close()
        self._threads.close()


Records = FixedRecords | EncodedRecords


def group_dtype(features: Mapping[str, Mapping[str, Any]], group: str) -> np.dtype:
    """Structured dtype of one record of a group of numbers.

    Args:
        features: {name: {"dtype", "shape", "group"}} as in meta.json; the order is the layout.
    """
    return np.dtype(
        [
            (name, np.dtype(f["dtype"]).newbyteorder("<"), tuple(f["shape"]))
            for name, f in features.items()
            if f["group"] == group
        ]
    )


def _blocks(total: int, record_bytes: int, block_bytes: int = _BLOCK_BYTES) -> Iterator[np.ndarray]:
    """Consecutive indices 0 .. total-1 in blocks of at most `block_bytes`."""
    size = max(1, block_bytes // record_bytes)
    for start in range(0, total, size):
        yield np.arange(start, min(start + size, total))
