"""Which of an episode's instructions goes with an example: pure integer maths.

Flows in: the alternatives of every episode, as indices into the dataset's list of instructions.
Flows out: one index an example, -1 for none. The sentences themselves, and what a policy makes of
them, are not here.
"""

from collections.abc import Sequence

import numpy as np

from arp_jax.data import draws

NONE = -1


class EpisodeInstructions:
    """The alternatives of every episode, in one flat array."""

    def __init__(self, alternatives: Sequence[Sequence[int]]) -> None:
        """Takes, per episode, the indices of its instructions; an empty sequence means none."""
        counts = [len(choices) for choices in alternatives]
        self._counts = np.asarray(counts, np.int64)  # [E]
        self._first = np.cumsum(self._counts) - self._counts  # [E]
        flat = [index for choices in alternatives for index in choices]
        # One spare entry: an episode without instructions may stand at the very end.
        self._flat = np.asarray([*flat, NONE], np.int32)

    def choose(
        self,
        episodes: np.ndarray,
        seed: int,
        epochs: np.ndarray,
        examples: np.ndarray,
        dropout: float = 0.0,
    ) -> np.ndarray:
        """One instruction an example, every alternative of its episode equally likely.

        Args:
            episodes: episode ids [B].
            seed, epochs, examples: which draw this is (`draws.draw_bits`).
            dropout: probability with which an example goes without an instruction.

        Returns:
            int32 [B], `NONE` where the episode has no instruction or where it was dropped.
        """
        counts = self._counts[episodes]
        bits = draws.draw_bits(seed, draws.LANGUAGE, epochs, examples)
        choice = self._first[episodes] + draws.draw_below(bits, np.maximum(counts, 1))
        bits = draws.draw_bits(seed, draws.LANGUAGE_DROPOUT, epochs, examples)
        absent = (counts == 0) | draws.draw_chance(bits, dropout)
        return np.where(absent, np.int32(NONE), self._flat[choice])
