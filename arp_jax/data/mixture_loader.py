"""Several packs -> one endless stream of training batches, exactly resumable.

Flows in: the examples of each member and how many of them a block holds. Flows out: batches as of
`loader.py`, whose examples come from all members. Example k of the stream is found from k alone:
its block (`order.BlockOrder`) says which member it is taken from and where that member's own
endless stream then stands. Weights and what members must agree on are `mixtures.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arp_jax.data.examples import Batch, Examples
from arp_jax.data.loader import BatchStream
from arp_jax.data.order import BlockOrder


class MixtureLoader(BatchStream):
    """Batches of several packs. `position` is the whole state; any is reached at once."""

    def __init__(
        self,
        members: Sequence[Examples],
        counts: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        position: int = 0,
        host: tuple[int, int] = (0, 1),
    ) -> None:
        """Joins the members.

        Args:
            members: with equal features; each in an order of its own (give each its own seed).
            counts: examples of each member in a block (`order.block_counts`).
            batch_size, position, host: see `BatchStream`.
            seed: of the order inside the blocks.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__(batch_size, position, host)
        if not members or len(members) != len(counts):
            raise ValueError(f"a mixture of {len(members)} members needs as many counts: {counts}")
        self._members = tuple(members)
        self._order = BlockOrder(seed, counts)

    @property
    def num_windows(self) -> int:
        """Training examples of all members together."""
        return sum(len(member) for member in self._members)

    def sources(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(member, position in its own stream), int64 [n] each, at positions `stream` [n]."""
        return self._order.at(stream)

    def read(self, stream: np.ndarray) -> Batch:
        """The examples at positions `stream` [B] of the endless stream; a pure function."""
        members, positions = self.sources(stream)
        batch: Batch = {}
        for index in np.unique(members):
            here = np.flatnonzero(members == index)
            _scatter(self._members[index].read(positions[here]), here, len(stream), batch)
        return batch


def _scatter(part: dict[str, Any], rows: np.ndarray, size: int, whole: dict[str, Any]) -> None:
    """Writes arrays [len(rows), ...] into rows of arrays [size, ...], made by the first part."""
    fresh = not whole
    if not fresh and whole.keys() != part.keys():
        raise ValueError(f"members of a mixture give {sorted(whole)} and {sorted(part)}")
    for name, value in part.items():
        if isinstance(value, dict):
            _scatter(value, rows, size, whole.setdefault(name, {}))
            continue
        if fresh:
            whole[name] = np.empty((size, *value.shape[1:]), value.dtype)
        whole[name][rows] = value
