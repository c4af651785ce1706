"""What a caller of ``generate`` may fix: contexts per chunk, guides, given tokens, own pickers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import struct

Picker = Callable[[list[jax.Array], jax.Array | None], jax.Array]


@struct.dataclass
class ChunkContexts:
    """A context that differs between chunks: ``values[i]`` serves the chunks ``chunks[i]``.

    ``None`` in ``chunks`` marks the default. Chunks are matched exactly.
    """

    values: tuple[jax.Array | None, ...]
    chunks: tuple[tuple[int, ...] | None, ...] = struct.field(pytree_node=False)

    def select(self, chunk: int, name: str) -> int:
        """Index of the entry that serves ``chunk``; ValueError if there is none."""
        for i, members in enumerate(self.chunks):
            if members is not None and chunk in members:
                return i
        if None in self.chunks:
            return self.chunks.index(None)
        raise ValueError(f"context {name!r} has no entry for chunk {chunk} and no default")


@struct.dataclass
class Guide:
    """Values to keep: ``values`` [B or 1, L, D] where ``known`` [B or 1, L] is True."""

    values: jax.Array
    known: jax.Array


@dataclass(frozen=True)
class Inputs:
    """What a caller may fix besides the prompt; see ``generate``."""

    given: Mapping[int, float | jax.Array]
    guide: Guide | None
    statistics: Mapping[str, Any]
    pickers: Mapping[int, Picker]
