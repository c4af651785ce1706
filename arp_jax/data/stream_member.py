"""One dataset of a stream: its episodes become shuffled windows, within a bound of bytes.

Flows in: a source, the policy's spec, how much memory may be used. Flows out: windows
(`window_buffer.py`), endlessly. Reading records is `stream_records.py`, joining members and making
batches `stream.py`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

import numpy as np

from arp_jax.data import draws
from arp_jax.data.goals import goal_steps
from arp_jax.data.rlds import Episode
from arp_jax.data.source import Source
from arp_jax.data.stats import check_finite
from arp_jax.data.stream_records import EpisodeRecords, Record
from arp_jax.data.task import EMBEDDING, TaskConfig
from arp_jax.data.window_buffer import Window, WindowBuffer
from arp_jax.data.windows import WindowTable, window_table
from arp_jax.specs import PolicySpec

# Episodes whose windows are counted to estimate how many were read before an interruption.
_PROBED_EPISODES = 32


@dataclasses.dataclass(frozen=True)
class StreamMember:
    """One dataset of the stream.

    Attributes:
        source: opened, local or remote (`open_source(open_remote(URL))`).
        share: of the examples, relative to the other members' shares.
        split: name, or a part of it ("train[:95%]").
    """

    source: Source
    share: float = 1.0
    split: str = "train"


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How a stream is read.

    Attributes:
        buffer_mb: memory for waiting episodes of all members together, in MiB, divided by shares;
            exceeded by at most one episode a member.
        cycle: shards of a member read alternately.
        reader: see `stream_records.READERS`.
        pad_after, stride: see `windows.window_table`.
        differences: what members may differ in from the policy's spec, of `mixes.DIFFERENCES`.
            Pictures of other sizes are resized.
        task: goals and instructions (as vectors), see `task.py`.
    """

    buffer_mb: float = 1024
    cycle: int = 8
    reader: str = "tensorflow"
    pad_after: int | None = None
    stride: int = 1
    differences: tuple[str, ...] = ()
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)

    def __post_init__(self) -> None:
        if self.buffer_mb <= 0 or self.cycle < 1:
            raise ValueError(
                f"buffer_mb must be positive and cycle >= 1, found {self.buffer_mb}, {self.cycle}"
            )


class MemberStream:
    """Windows of one member in shuffled order, endlessly; memory is bounded by `budget` bytes."""

    def __init__(
        self,
        member: StreamMember,
        spec: PolicySpec,
        config: StreamConfig,
        budget: float,
        seed: int,
        host: tuple[int, int],
    ) -> None:
        self._member, self._spec, self._config = member, spec, config
        self._budget, self._seed = budget, seed
        self._records = EpisodeRecords(
            member.source.dataset, member.split, seed, host, config.cycle, config.reader
        )
        names = spec.observation.names
        self._vectors = [feature.name for feature in spec.observation.features]
        if config.task.language and EMBEDDING not in names:
            names, self._vectors = (*names, EMBEDDING), [*self._vectors, EMBEDDING]
        self._parse = member.source.record_parser(names)
        self.skip(0)

    @property
    def nbytes(self) -> int:
        """Bytes that wait in the buffer."""
        return self._buffer.nbytes

    def skip(self, examples: float) -> None:
        """Starts anew about `examples` windows behind the beginning of the stream."""
        records = round(examples / self._mean_windows()) if examples else 0
        self._buffer = WindowBuffer((self._seed, records))
        self._coming = enumerate(self._records.endless(records), records)

    def draw(self) -> Window:
        """The next window.

        Raises:
            ValueError: an episode cannot be read (names file and record), or a whole pass has no
                episode long enough.
        """
        without = 0
        while self._buffer.nbytes < self._budget and self._buffer.episodes < self._records.per_pass:
            number, record = next(self._coming)
            episode, table = self._read(record)
            if table is not None:
                self._buffer.add(episode, table, *self._task(number, table), _where(record))
                without = 0
                continue
            without += 1
            if without > self._records.per_pass and not len(self._buffer):
                raise ValueError(
                    f"{self._member.source.path}: no episode of {self._member.split!r} has room "
                    f"for horizon {self._spec.horizon} with pad_after {self._config.pad_after}"
                )
        return self._buffer.draw()

    def _task(self, number: int, table: WindowTable) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(goal steps, whether the instruction is dropped) of all windows of episode `number`."""
        task, rows = self._config.task, np.arange(len(table))
        visits = np.full(len(table), number)
        goals = dropped = None
        if task.goal:
            current, last = table.current_steps(rows), table.last[rows]
            goals = goal_steps(task.goal, current, last, self._seed, visits, rows)
        if task.language:
            bits = draws.draw_bits(self._seed, draws.LANGUAGE_DROPOUT, visits, rows)
            dropped = draws.draw_chance(bits, task.language_dropout)
        return goals, dropped

    def _mean_windows(self) -> float:
        count = min(_PROBED_EPISODES, self._records.per_pass)
        first = itertools.islice(self._records.endless(), count)
        tables = [self._read(record)[1] for record in first]
        return max(sum(len(table) for table in tables if table is not None) / count, 1 / count)

    def _read(self, record: Record) -> tuple[Episode, WindowTable | None]:
        """The canonical episode and its windows; None where it is too short for any."""
        episode = read_episode(record, self._parse, self._vectors)
        table = windows_of(len(episode["action"]), self._spec, self._config)
        return episode, table


def read_episode(
    record: Record, parse: Callable[[bytes], Episode], vectors: Iterable[str]
) -> Episode:
    """The canonical episode of a record, its vectors and action checked to be finite.

    Args:
        record: what was read.
        parse: `Source.record_parser`.
        vectors: observations that are checked.

    Raises:
        ValueError: it cannot be parsed, or holds NaN or infinity; names file and record.
    """
    try:
        episode = parse(record.content)
        for name in ("action", *vectors):
            rows = episode["action"] if name == "action" else episode["observation"][name]
            check_finite(rows, name, record.number)
    except ValueError as error:
        raise ValueError(f"{_where(record)}: {error}") from error
    return episode


def windows_of(length: int, spec: PolicySpec, config: StreamConfig) -> WindowTable | None:
    """The windows of one episode of `length` steps, or None when it is too short for any."""
    horizon, offset = spec.horizon, spec.action_offset
    pad_after = horizon - 1 if config.pad_after is None else config.pad_after
    if 0 <= pad_after < horizon and length + pad_after - horizon - offset + 1 <= 0:
        return None
    return window_table([length], spec.window, horizon, offset, pad_after, stride=config.stride)


def _where(record: Record) -> str:
    return f"{record.file}: episode {record.number} of the file"
