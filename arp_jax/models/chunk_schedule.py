"""Which token is in which chunk, and who may attend to whom: static facts, plain numpy.

In: a ``ChunkSchedule`` (hashable, so a jitted function can be keyed on it). Out: index tables and
the boolean attention mask of the two-stream pass. Training, cached generation and ``describe``
all read the *same* mask. Not here: any array that depends on data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from arp_jax.models.arp_config import ArpConfig


@dataclass(frozen=True)
class ChunkSchedule:
    """Layout of one sequence: token type and chunk of every position, prompt included.

    Attributes:
        token_ids: type of each position (index into ``ArpConfig.tokens``).
        chunk_ids: chunk of each position; starts at 0, never falls, rises by at most 1. Tokens of a
            chunk are predicted in one pass, independently given all earlier chunks.
        blocked: (from, to) type ids: a token of type ``from`` never attends to one of type ``to``.
        layer_match: only layers whose name contains this text run; None runs all.
    """

    token_ids: tuple[int, ...]
    chunk_ids: tuple[int, ...]
    blocked: tuple[tuple[int, int], ...] = ()
    layer_match: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", tuple(int(i) for i in self.token_ids))
        object.__setattr__(self, "chunk_ids", tuple(int(i) for i in self.chunk_ids))
        object.__setattr__(self, "blocked", tuple((int(a), int(b)) for a, b in self.blocked))
        if not self.token_ids:
            raise ValueError("ChunkSchedule: token_ids is empty; give at least one token")
        if len(self.token_ids) != len(self.chunk_ids):
            raise ValueError(
                f"ChunkSchedule: {len(self.token_ids)} token_ids, {len(self.chunk_ids)} chunk_ids"
            )
        for position, chunk in enumerate(self.chunk_ids):
            before = self.chunk_ids[position - 1] if position else -1
            if chunk - before not in ((0, 1) if position else (1,)):
                follows = f"after {before}" if position else "at the start"
                raise ValueError(
                    f"ChunkSchedule: position {position} has chunk id {chunk} {follows}; chunk_ids "
                    f"must start at 0 and then stay or rise by 1, found {self.chunk_ids}"
                )

    @property
    def length(self) -> int:
        """Number of positions L."""
        return len(self.token_ids)

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return self.chunk_ids[-1] + 1

    def chunk_positions(self, chunk: int) -> tuple[int, ...]:
        """Positions of chunk ``chunk``, ascending."""
        return tuple(i for i, c in enumerate(self.chunk_ids) if c == chunk)

    def positions_of(self, token_id: int) -> tuple[int, ...]:
        """Positions holding type ``token_id``, ascending."""
        return tuple(i for i, t in enumerate(self.token_ids) if t == token_id)

    def check(self, config: "ArpConfig") -> None:
        """Raise ValueError if ``config`` cannot run this schedule (ids, sizes, layers)."""
        highest = len(config.tokens) - 1
        used = (*self.token_ids, *(t for pair in self.blocked for t in pair))
        if max(used) > highest or min(used) < 0:
            raise ValueError(f"ChunkSchedule: token ids must lie in 0..{highest}, found {used}")
        if self.length > config.max_seq_len:
            raise ValueError(
                f"ChunkSchedule: {self.length} tokens exceed max_seq_len {config.max_seq_len}"
            )
        largest = int(relative_index(self.chunk_ids).max()) + 1
        if largest > config.max_chunk_size:
            raise ValueError(
                f"ChunkSchedule: a chunk of {largest} tokens exceeds max_chunk_size "
                f"{config.max_chunk_size}"
            )
        match = self.layer_match
        if match is not None and not any(match in layer.name for layer in config.layers):
            names = [layer.name for layer in config.layers]
            raise ValueError(f"ChunkSchedule: layer_match {match!r} selects none of {names}")


def relative_index(chunk_ids: Sequence[int]) -> np.ndarray:
    """Rank of each position inside its chunk: [0, 0, 0, 1, 2, 2] -> [0, 1, 2, 0, 0, 1] (int32)."""
    ids = np.asarray(chunk_ids)
    positions = np.arange(len(ids))
    starts_here = np.r_[True, ids[1:] != ids[:-1]]
    first = np.maximum.accumulate(np.where(starts_here, positions, 0))
    return (positions - first).astype(np.int32)


def two_stream_mask(chunk_ids: Sequence[int]) -> np.ndarray:
    """Attention mask [2L, 2L] bool over (value rows, query rows) x (value keys, query keys).

    A value row i sees values j <= i (chunks ignored) and no query. A query row i sees the values
    of older chunks and the queries of its own chunk (Zhang et al. 2024, attention interleaving).
    """
    ids = np.asarray(chunk_ids)
    length = len(ids)
    older = ids[None, :] < ids[:, None]
    same = ids[None, :] == ids[:, None]
    causal = np.tril(np.ones((length, length), bool))
    never = np.zeros((length, length), bool)
    return np.block([[causal, never], [older, same]])


def allowed_pairs(token_ids: np.ndarray, blocked: Sequence[tuple[int, int]]) -> np.ndarray:
    """[..., L] type ids -> [..., L, L] bool: False where (type of row, type of key) is blocked."""
    ids = np.asarray(token_ids)
    allowed = np.ones((*ids.shape, ids.shape[-1]), bool)
    for source, target in blocked:
        allowed &= ~((ids[..., :, None] == source) & (ids[..., None, :] == target))
    return allowed


def schedule_mask(schedule: ChunkSchedule) -> np.ndarray:
    """The two-stream mask [2L, 2L] of ``schedule`` with its blocked directions removed."""
    allowed = allowed_pairs(np.asarray(schedule.token_ids), schedule.blocked)
    return two_stream_mask(schedule.chunk_ids) & np.tile(allowed, (2, 2))


def describe(schedule: ChunkSchedule, config: "ArpConfig") -> str:
    """The sequence and its attention mask as text, for printing and for reading in reviews."""
    schedule.check(config)
    rank = relative_index(schedule.chunk_ids)
    mask = schedule_mask(schedule)
    lines = ["pos chunk slot type"]
    for i, (token_id, chunk) in enumerate(zip(schedule.token_ids, schedule.chunk_ids, strict=True)):
        token = config.tokens[token_id]
        role = "given" if token.is_control else f"predicted by {token.predictor}"
        lines.append(f"{i:3d} {chunk:5d} {rank[i]:4d} {token.name} ({role})")
    for source, target in schedule.blocked:
        names = config.tokens[source].name, config.tokens[target].name
        lines.append(f"{names[0]} never attends to {names[1]}")
    layers = [
        i
        for i, layer in enumerate(config.layers)
        if schedule.layer_match is None or schedule.layer_match in layer.name
    ]
    lines.append(f"layers run: {layers}")
    lines.append("attention, rows attend to columns: v = value stream, q = query stream")
    length = schedule.length
    for row in range(2 * length):
        cells = "".join("x" if seen else "." for seen in mask[row])
        stream, position = ("v", row) if row < length else ("q", row - length)
        lines.append(f"{stream}{position:<3d} {cells[:length]} {cells[length:]}")
    return "\n".join(lines)
