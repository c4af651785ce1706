"""Serialised episodes of one dataset, endlessly, several shards at a time.

Flows in: an opened dataset, which host this is. Flows out: (file, number, bytes) of one record
after the other. Each pass goes over all of this host's records once, shards in an order that is a
function of (seed, pass); records of `cycle` shards alternate. tf.data reads TFRecord shards, in
threads of its own and from any file system; ArrayRecord, and TFRecord without TensorFlow, is read
in Python, in the same order. What a record means is `source.py`'s business.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from arp_jax.data.order import epoch_order
from arp_jax.data.rlds import RldsDataset, Shard
from arp_jax.data.tensorflow_files import import_tensorflow

READERS = ("tensorflow", "python")
# Records that tf.data prepares ahead: one is a whole episode, so few.
_READ_AHEAD = 2


class Record(NamedTuple):
    """A serialised episode and where it came from."""

    file: str
    number: int
    content: bytes


class _Part(NamedTuple):
    """Records [begin, end) of a shard."""

    shard: Shard
    begin: int
    end: int


class EpisodeRecords:
    """The records of one host of one split.

    Attributes:
        per_pass: records of this host in one pass over the split.
    """

    def __init__(
        self,
        dataset: RldsDataset,
        split: str,
        seed: int,
        host: tuple[int, int] = (0, 1),
        cycle: int = 8,
        reader: str = "tensorflow",
    ) -> None:
        """Finds this host's part.

        Args:
            dataset: an opened folder, local or remote.
            split: name, or a part of it ("train[:90%]").
            seed: of the order of shards.
            host: (index, count). With at least `count` shards a host reads every count-th shard,
                otherwise every count-th record of all.
            cycle: shards read alternately.
            reader: one of `READERS`.

        Raises:
            ImportError: TensorFlow is missing and would be used.
            ValueError: unknown split or reader, or fewer records than hosts.
        """
        if reader not in READERS:
            raise ValueError(f"reader {reader!r} is unknown; choose one of {READERS}")
        self._dataset, self._seed, self._cycle = dataset, seed, cycle
        name, start, stop = dataset.resolve(split)
        parts, first = [], 0
        for shard in dataset.shards[name]:
            begin, end = max(start - first, 0), min(stop - first, shard.episodes)
            if begin < end:
                parts.append(_Part(shard, begin, end))
            first += shard.episodes
        is_array_record = any(".array_record" in part.shard.path.name for part in parts)
        self._in_tensorflow = reader == "tensorflow" and not is_array_record
        if self._in_tensorflow:
            import_tensorflow()  # says at once if it is missing
        index, count = host
        by_shard = len(parts) >= count
        self._parts = parts[index::count] if by_shard else parts
        self._every = (0, 1) if by_shard else host
        total = sum(part.end - part.begin for part in self._parts)
        self.per_pass = len(range(self._every[0], total, self._every[1]))
        if self.per_pass == 0:
            raise ValueError(
                f"{dataset.path}: split {split!r} has {stop - start} episodes for {count} hosts; "
                "use fewer hosts or leave the dataset out"
            )

    def endless(self, skip: int = 0) -> Iterator[Record]:
        """Yields records, pass after pass.

        Args:
            skip: records to leave out at the start, counted over all passes. Whole shards are left
                out unread as far as they go, then single records.

        Raises:
            ValueError: a shard cannot be read; names the file or the folder.
        """
        first, inside = divmod(skip, self.per_pass)
        for number in itertools.count(first):
            yield from self._one_pass(number, inside if number == first else 0)

    def _one_pass(self, number: int, skip: int) -> Iterator[Record]:
        index, step = self._every
        parts = [self._parts[i] for i in epoch_order(self._seed, number, len(self._parts))]
        skip *= step
        while len(parts) > 1 and skip >= parts[0].end - parts[0].begin:
            skip -= parts[0].end - parts[0].begin
            parts = parts[1:]
        read = self._by_tensorflow if self._in_tensorflow else self._by_python
        yield from itertools.islice(read(parts), skip + index, None, step)

    def _by_tensorflow(self, parts: list[_Part]) -> Iterator[Record]:
        tf = import_tensorflow()
        columns = (
            [str(part.shard.path) for part in parts],
            np.array([part.begin for part in parts], np.int64),
            np.array([part.end - part.begin for part in parts], np.int64),
        )

        def records(path, begin, count):  # type: ignore[no-untyped-def]
            numbered = tf.data.TFRecordDataset(path).skip(begin).take(count).enumerate(begin)
            return numbered.map(lambda number, content: (path, number, content))

        dataset = tf.data.Dataset.from_tensor_slices(columns).interleave(
            records,
            cycle_length=min(self._cycle, len(parts)),
            block_length=1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        failure = tf.errors.OpError  # looked up now: at the interpreter's end `tf` is gone
        try:
            for path, number, content in dataset.prefetch(_READ_AHEAD).as_numpy_iterator():
                yield Record(path.decode(), int(number), content)
        except failure as error:
            reason = str(error.message).splitlines()[0]
            raise ValueError(
                f"{self._dataset.path}: a shard cannot be read ({reason}); copy it again or "
                "find it with python -m arp_jax.data.validate"
            ) from error

    def _by_python(self, parts: list[_Part]) -> Iterator[Record]:
        waiting = iter(parts)
        places: list[Iterator[Record] | None] = [None] * min(self._cycle, len(parts))
        finished = 0
        # As tf.data does it: a finished shard's place is taken by the next one when its turn comes.
        for place in itertools.cycle(range(len(places))):
            if places[place] is None:
                part = next(waiting, None)
                if part is None:
                    finished += 1
                    if finished == len(places):
                        return
                    continue
                places[place] = self._records(part)
            reading = places[place]
            record = next(reading, None) if reading is not None else None
            if record is None:
                places[place] = None
            else:
                yield record
            finished = 0

    def _records(self, part: _Part) -> Iterator[Record]:
        contents: Iterable[bytes] = self._dataset.records(part.shard, part.begin, part.end)
        number = part.begin
        try:
            for number, content in enumerate(contents, part.begin):
                yield Record(str(part.shard.path), number, content)
        except (ValueError, OSError) as error:
            raise ValueError(f"{part.shard.path}: {error}; copy the file again") from error
