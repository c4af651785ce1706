"""The static plan of a generation: which pass reads what, and which passes repeat.

In: a ``ChunkSchedule``, the length of the prompt, what is given. Out: one ``ChunkStep`` per chunk,
and their grouping into runs that one compiled loop body serves. Plain Python over static facts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.tokens import TokenType

# Runs of at least this many passes become a loop: a pass compiles in about half a second.
LOOP_FROM = 8
# Longest repeating pattern looked for: e.g. row, column, row, column has period 2.
LONGEST_PERIOD = 4


@dataclass(frozen=True)
class ChunkStep:
    """One chunk: values ``cached .. filled`` and queries ``filled .. stop`` go through the layers.

    Keys and values of everything before ``cached`` are known. ``is_predicted`` False: nothing goes
    through, the chunk's values are given. ``selection`` says which entry of each per-chunk context
    is in force.
    """

    chunk: int
    cached: int
    filled: int
    stop: int
    is_predicted: bool
    selection: tuple[int, ...] = ()

    @property
    def fresh(self) -> range:
        """Positions whose values are encoded in this pass."""
        return range(self.cached, self.filled)

    @property
    def queries(self) -> range:
        """Positions that are filled by this chunk."""
        return range(self.filled, self.stop)


@dataclass(frozen=True)
class Run:
    """``repeats`` times the same ``period`` of passes; a single step is a run of one."""

    steps: tuple[ChunkStep, ...]
    period: int

    @property
    def repeats(self) -> int:
        """How often the pattern is passed through."""
        return len(self.steps) // self.period


def plan_steps(
    schedule: ChunkSchedule,
    tokens: Sequence[TokenType],
    prompt_length: int,
    given: Mapping[int, Any],
    select: Callable[[int], tuple[int, ...]],
    shared_out: Collection[int] = (),
) -> tuple[ChunkStep, ...]:
    """One step per chunk after the prompt; ``select`` tells which contexts serve a chunk.

    Tokens of the types ``shared_out`` are divided among the views of a map, all of one type so far
    together: a new one changes the embeddings of older ones, so the past is encoded again.

    Raises:
        ValueError: a chunk mixes control and predicted tokens, or a control token has no value.
    """
    steps = []
    cached, filled = 0, prompt_length
    current: tuple[int, ...] | None = None
    done = filled == schedule.length
    for chunk in range(
        schedule.num_chunks if done else schedule.chunk_ids[filled], schedule.num_chunks
    ):
        positions = schedule.chunk_positions(chunk)
        stop = filled + len(positions)
        controls = [tokens[schedule.token_ids[i]].is_control for i in positions]
        if any(controls):
            _check_controls(chunk, positions, controls, given)
        if all(i in given for i in positions):
            steps.append(ChunkStep(chunk, cached, filled, stop, False))
        else:
            if (selection := select(chunk)) != current:  # the past's keys are of other contexts
                current, cached = selection, 0
            ids = schedule.token_ids
            if set(ids[:cached]) & set(ids[cached:filled]) & set(shared_out):
                cached = 0
            steps.append(ChunkStep(chunk, cached, filled, stop, True, selection))
            cached = filled
        filled = stop
    return tuple(steps)


def _check_controls(
    chunk: int, positions: Sequence[int], controls: Sequence[bool], given: Mapping[int, Any]
) -> None:
    if not all(controls):
        raise ValueError(f"chunk {chunk} mixes control and predicted tokens")
    for position in positions:
        if position not in given:
            raise ValueError(
                f"position {position} is a control token after the prompt: pass its value in "
                f"given={{{position}: ...}}"
            )


def group_runs(
    steps: Sequence[ChunkStep], schedule: ChunkSchedule, apart: set[int]
) -> tuple[Run, ...]:
    """Steps in order, repeating ones grouped; steps of the chunks ``apart`` stand alone."""

    def signature(step: ChunkStep) -> tuple[Any, ...]:
        if not step.is_predicted or step.chunk in apart or step.cached == 0:
            return ("alone", step.chunk)
        types = tuple(schedule.token_ids[i] for i in range(step.cached, step.stop))
        return (types, step.filled - step.cached, step.selection)

    signatures = [signature(step) for step in steps]
    runs, start = [], 0
    while start < len(steps):
        period, length = _longest_repeat(signatures[start:])
        runs.append(Run(tuple(steps[start : start + length]), period))
        start += length
    return tuple(runs)


def _longest_repeat(signatures: Sequence[Any]) -> tuple[int, int]:
    """(period, number of steps) of the longest repetition from the start, or (1, 1)."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        length = period
        while length < len(signatures) and signatures[length] == signatures[length - period]:
            length += 1
        length -= length % period
        if length >= max(LOOP_FROM, 2 * period) and length > best[1]:
            best = (period, length)
    return best
