"""Random integers as pure functions of (seed, purpose, epoch, example).

Flows in: integers that say which draw is meant. Flows out: 64 random bits each, and choices made of
them. There is no generator and no state, so that any example of any epoch is drawn alone, in any
order, on any host, with the same result. The order of the examples is drawn in `loader.py`.

The bits are SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
applied once a word; choices are integer arithmetic, the same on every machine.
"""

import numpy as np

# What is drawn; two purposes share no bits.
GOAL, LANGUAGE, LANGUAGE_DROPOUT, MEMBER = 1, 2, 3, 4

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def splitmix64(state: np.ndarray) -> np.ndarray:
    """The output of SplitMix64 whose state is `state` (uint64 [...]) before the call."""
    z = state + _GOLDEN_GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def draw_bits(seed: int, purpose: int, epochs: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """64 random bits for each example.

    Args:
        seed: 0 .. 2^63-1.
        purpose: one of `GOAL`, `LANGUAGE`, `LANGUAGE_DROPOUT`, `MEMBER`.
        epochs, examples: integers [B], not negative.

    Returns:
        uint64 [B].
    """
    bits = np.zeros(len(examples), np.uint64)
    for word in (seed, purpose, epochs, examples):
        bits = splitmix64(bits ^ np.asarray(word).astype(np.uint64))
    return bits


def draw_below(bits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Integers 0 .. counts-1, each equally likely up to a share of counts / 2^32: int64 [B].

    Args:
        bits: uint64 [B] of `draw_bits`.
        counts: how many choices each example has, [B], 1 .. 2^32-1. All of them can come, the last
            one included: the largest bits give counts-1.
    """
    upper = bits >> np.uint64(32)
    return ((upper * counts.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def draw_chance(bits: np.ndarray, probability: float) -> np.ndarray:
    """Bool [B], True with this probability; never at 0, always at 1."""
    return (bits >> np.uint64(11)) < np.uint64(round(probability * 2**53))
