"""What a stream's datasets hold, found in one pass: exact statistics and episode lengths.

Flows in: members of a stream, opened, local or remote. Flows out: a `Survey`, kept under what
identifies the data, so that a later start reads nothing. Every step of a surveyed split counts,
held-out episodes too, as in a pack. How statistics are made is `stats.py`, how records are read
`stream_records.py`; pictures are not decoded.

Data too large to pack are too large to hash before every start. So what identifies them is what
describes them: see `identity`.
"""

import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arp_jax.data.locks import exclusive
from arp_jax.data.rlds import SPECS_FILE, Episode
from arp_jax.data.source import Source
from arp_jax.data.stats import merge_stats, results, running_stats
from arp_jax.data.stats_cache import Lists, cached
from arp_jax.data.stream_member import StreamMember, read_episode
from arp_jax.data.stream_records import EpisodeRecords
from arp_jax.normalize import Stats

_DESCRIPTIONS = ("features.json", "dataset_info.json", SPECS_FILE)
# Questions that a remote file system is asked at a time.
_REQUESTS = 16
# Shards read at a time. A constant: beyond the reservoir quantiles depend on the order of rows.
_CYCLE = 8
# Between two lines of progress in a log file.
_LOG_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the pass found.

    Attributes:
        stats: of every vector asked for and the action, over all members asked for together.
        lengths: steps of every episode of each member's split in stored order, int64 [E]; None for
            members that were not read.
    """

    stats: Stats
    lengths: tuple[np.ndarray | None, ...]


def identity(source: Source, split: str) -> str:
    """Identifies the data of a split without reading its records, as SHA-256 in hexadecimal.

    It is made of features.json, dataset_info.json, specs.json, the card, the range of episodes, and
    name, size in bytes and number of episodes of each shard. A copy elsewhere is therefore the same
    data; a shard rewritten in place with as many bytes is not noticed.

    Raises:
        ValueError: unknown split, or a file that cannot be reached.
    """
    dataset = source.dataset
    name, start, stop = dataset.resolve(split)
    paths = [source.path / file for file in _DESCRIPTIONS]
    shards = dataset.shards[name]
    try:
        described = [path.read_text() if path.is_file() else None for path in paths]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            sizes = list(pool.map(lambda shard: int(shard.path.stat().st_size), shards))
    except OSError as error:
        raise ValueError(f"{source.path}: cannot be reached ({error}); try again") from error
    files = [
        [shard.path.name, size, shard.episodes] for shard, size in zip(shards, sizes, strict=True)
    ]
    card = None if source.card is None else source.card.to_json()
    content = json.dumps([described, card, name, start, stop, files])
    return hashlib.sha256(content.encode()).hexdigest()


def survey(
    members: Sequence[StreamMember],
    identities: Sequence[str],
    vectors: Sequence[str],
    of_stats: Sequence[int],
    counted: Sequence[int],
    cache_dir: Path,
    reader: str = "tensorflow",
    progress: bool = True,
) -> Survey:
    """Reads members once, unless the cache has the result.

    Args:
        members: datasets and splits.
        identities: of each, see `identity`.
        vectors: observations whose statistics are wanted; the action's come along.
        of_stats: indices of the members whose statistics are merged, at least one; every step
            counts the same.
        counted: indices of further members whose episode lengths are wanted.
        cache_dir: made; the result is kept there. Of several processes that ask for the same, one
            reads and the others wait for its result.
        reader: one of `stream_records.READERS`.
        progress: print a bar to stderr.

    Raises:
        ImportError: TensorFlow is missing and would be used.
        ValueError: an episode cannot be read, or holds a value that is not finite.
    """
    wanted = sorted({*of_stats, *counted})
    asked = [[identities[i] for i in wanted], [wanted.index(i) for i in of_stats], sorted(vectors)]
    key = hashlib.sha256(json.dumps(["survey", *asked]).encode()).hexdigest()

    def compute() -> tuple[Stats, Lists]:
        parts, lists = [], Lists()
        for index in wanted:
            # Lengths alone need the action alone.
            names = tuple(vectors) if index in of_stats else ()
            one_pass = _Pass(members[index], names, reader, progress)
            running = running_stats(one_pass, stream=index)
            if index in of_stats:
                parts.append(running)
            lists[str(wanted.index(index))] = one_pass.lengths.tolist()
        return results(merge_stats(parts)), lists

    cache_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(cache_dir, ".lock-survey"):
        stats, lists = cached(cache_dir, key, compute)
    lengths: list[Any] = [None] * len(members)
    for place, index in enumerate(wanted):
        lengths[index] = np.asarray(lists[str(place)], np.int64)
    return Survey(stats, tuple(lengths))


class _Pass:
    """Episodes of one member, once each, in whatever order they are read.

    Attributes:
        lengths: steps of each episode in stored order, as far as they were read.
    """

    def __init__(
        self, member: StreamMember, names: tuple[str, ...], reader: str, progress: bool
    ) -> None:
        dataset = member.source.dataset
        name, start, stop = dataset.resolve(member.split)
        self.lengths = np.zeros(stop - start, np.int64)
        # File -> place of its first episode in the split (negative: the split begins behind it).
        episodes = [shard.episodes for shard in dataset.shards[name]]
        files = [str(shard.path) for shard in dataset.shards[name]]
        places = itertools.accumulate(episodes, initial=-start)
        self._first = dict(zip(files, places, strict=False))
        self._records = EpisodeRecords(dataset, member.split, 0, cycle=_CYCLE, reader=reader)
        self._where = f"{dataset.path}, split {member.split!r}"
        self._names, self._parse = names, member.source.record_parser(names)
        self._title, self._progress = f"statistics of {dataset.name}", progress

    def __iter__(self) -> Iterator[Episode]:
        total = self._records.per_pass
        records = itertools.islice(self._records.endless(), total)
        bar = tqdm(
            records,
            self._title,
            total,
            unit="episode",
            disable=not self._progress,
            mininterval=0.1 if sys.stderr.isatty() else _LOG_SECONDS,
        )
        for record in bar:
            episode = read_episode(record, self._parse, self._names)
            self.lengths[self._first[record.file] + record.number] = len(episode["action"])
            yield episode
        if not self.lengths.all():
            raise ValueError(
                f"{self._where}: episode {np.argmin(self.lengths)} of it is missing or empty "
                "(truncated copy?); copy the folder again or find the file with "
                "python -m arp_jax.data.validate"
            )
