"""The order in which training examples come: a pure function of (seed, position).

Flows in: a seed, how many examples there are, positions in the endless stream. Flows out: which
example stands there. Any position is found without going through those before it. What an example
contains is `windows.py` and `examples.py`; how often each dataset of a mixture comes is
`mixtures.py`.
"""

from collections.abc import Sequence

import numpy as np

# A block of a mixture holds at least this many examples, and enough for its rarest member.
LEAST_BLOCK, MOST_BLOCK = 1024, 1 << 20
_RAREST = 8


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation of 0 .. size-1 of one epoch, int64 [size].

    Sorts raw Philox-4x64 output keyed by (seed, epoch). Raw bits, unlike `Generator.permutation`,
    are the same in every version of numpy, so a run resumes in its old order after an upgrade.
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    return np.argsort(bits, kind="stable")


class EpochOrder:
    """The examples 0 .. size-1 in endless epochs, each one a permutation of its own."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._orders: dict[int, np.ndarray] = {}

    def at(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epochs, examples), int64 [n] each, at positions `stream` [n] of the endless stream."""
        epochs, slots = np.divmod(stream, self._size)
        examples = np.empty_like(stream)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            examples[here] = self._order(int(epoch))[slots[here]]
        return epochs, examples

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # Two epochs are enough for a batch that straddles them; a tiny set has more, rarely.
            for old in [e for e in self._orders if e < epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = epoch_order(self._seed, epoch, self._size)
        return self._orders[epoch]


def block_counts(fractions: Sequence[float]) -> np.ndarray:
    """How many examples each member of a mixture gives to a block, int64 [M], each at least 1.

    The block is the smallest power of two from `LEAST_BLOCK` on in which the rarest member has
    about `_RAREST` examples; the counts are `fractions` of it, rounded by largest remainders, so
    that they add up exactly.

    Args:
        fractions: share of each member, > 0, adding up to 1.

    Raises:
        ValueError: a member is so rare that a block of `MOST_BLOCK` would not hold it.
    """
    shares = np.asarray(fractions, np.float64)
    size = LEAST_BLOCK
    while size < MOST_BLOCK and size * shares.min() < _RAREST:
        size *= 2
    counts = np.floor(shares * size).astype(np.int64)
    # Of remainders that are equal but for rounding the earlier member's is rounded up.
    remainders = np.round(shares * size - counts, 9)
    largest = np.argsort(-remainders, kind="stable")[: size - counts.sum()]
    counts[largest] += 1
    if (counts == 0).any():
        rare = int(np.argmin(counts))
        raise ValueError(
            f"member {rare} of the mixture has a share of {shares[rare]:.2g}: less than one "
            f"example in {MOST_BLOCK}; raise its weight or leave it out"
        )
    return counts


class BlockOrder:
    """Members of a mixture in endless blocks of exact counts, each block in an order of its own."""

    def __init__(self, seed: int, counts: Sequence[int] | np.ndarray) -> None:
        """Takes each member's examples a block, `counts` [M] (see `block_counts`)."""
        self._seed = seed
        self._counts = np.asarray(counts, np.int64)
        self._size = int(self._counts.sum())
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who stands at positions `stream` [n] of the mixture.

        Returns:
            (members, positions), int64 [n] each: the member, and the position in its own endless
            stream, which goes on from block to block without gaps.
        """
        blocks, slots = np.divmod(stream, self._size)
        members, positions = np.empty_like(stream), np.empty_like(stream)
        for block in np.unique(blocks):
            here = blocks == block
            member, rank = self._block(int(block))
            members[here] = member[slots[here]]
            positions[here] = block * self._counts[members[here]] + rank[slots[here]]
        return members, positions

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Member and rank among that member's slots of every slot of a block, [size] each."""
        if block not in self._blocks:
            for old in [b for b in self._blocks if b < block - 1]:
                del self._blocks[old]
            order = epoch_order(self._seed, block, self._size)
            member = np.repeat(np.arange(len(self._counts)), self._counts)[order]
            rank = np.empty(self._size, np.int64)
            for index, count in enumerate(self._counts):
                rank[member == index] = np.arange(count)
            self._blocks[block] = member, rank
        return self._blocks[block]
