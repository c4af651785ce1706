"""Which later step of the episode serves as an example's goal: pure integer maths.

Flows in: the examples' current and last steps. Flows out: the absolute step index of each goal. An
example without a later step (the episode's last one) has that step as its goal. Reading the goal's
observation is `task.py`; which actions lie behind the goal is `windows.py`.
"""

import numpy as np

from arp_jax.data import draws

# "uniform": any later step of the episode, each equally likely. "hindsight": the episode's last
# step, whatever the episode was meant to reach.
GOALS = ("uniform", "hindsight")


def goal_steps(
    kind: str,
    current: np.ndarray,
    last: np.ndarray,
    seed: int,
    epochs: np.ndarray,
    examples: np.ndarray,
) -> np.ndarray:
    """Absolute step indices of the goals.

    Args:
        kind: one of `GOALS`.
        current, last: absolute indices of the current step t and of the episode's last step, [B].
        seed, epochs, examples: which draw this is (`draws.draw_bits`); "hindsight" ignores them.

    Returns:
        int64 [B] in t+1 .. last, or t where t is the last step.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in GOALS:
        raise ValueError(f"goal {kind!r} is unknown; choose one of {GOALS}")
    last = np.asarray(last, np.int64)
    if kind == "hindsight":
        return last.copy()
    later = last - current  # [B], steps to choose from
    bits = draws.draw_bits(seed, draws.GOAL, epochs, examples)
    return np.where(later > 0, current + 1 + draws.draw_below(bits, np.maximum(later, 1)), last)
