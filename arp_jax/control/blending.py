"""Seams between chunks: for a few steps the running chunk fades into the new one.

Flows in: what two chunks say about one time. Flows out: an action between them, so that a change of
mind does not jerk the robot. The share of the new chunk grows linearly, 1 / (n + 1) .. n / (n + 1)
over n steps: every dimension stays between its two predictions, whatever the chunks say. Not for
dimensions that wrap around (an angle beyond pi). numpy and jax.
"""

from typing import Any


def check_blend(rows: int, execute: int, latency: int, blend: int) -> None:
    """Raises ValueError unless the running chunk still says something at every blended step.

    Args:
        rows: actions of a chunk from the newest observation on.
        execute, latency: steps between two chunks; steps until a chunk arrives.
        blend: n, steps over which one chunk fades into the next.
    """
    if blend < 0:
        raise ValueError(f"blend must be at least 0 steps, found {blend}")
    # More would mix three chunks.
    most = max(min(execute, rows - execute - latency), 0)
    if blend > most:
        raise ValueError(
            f"blend={blend} is not possible with execute={execute} and latency={latency}: a chunk "
            f"holds {rows} actions from the newest observation on, and fades out behind those that "
            f"are executed; choose a blend of at most {most}"
        )


def cross_fade(running: Any, new: Any, age: float, blend: int) -> Any:
    """The action [A] `age` steps after the new chunk's arrival, 0 <= age < blend.

    Args:
        running, new: [A], what the two chunks say about this step.
        age, blend: steps since the arrival, and n.
    """
    share = (age + 1) / (blend + 1)
    return running + share * (new - running)
