"""A mobile base that answers late: its commands are sent earlier than those of the arms.

Flows in: chunks [..., H, A] and the action's spec. Flows out: chunks of the same meaning with D
fewer rows, in which the base's columns are those predicted for D steps later. Everything behind it
(receding horizon, ensembling, latency) works on such chunks as on any others. numpy and jax.

Mobile ALOHA plays chunks so: arms from rows 0..H-D-1, the base from rows D..H-1, a new query after
H - D steps (D = 13 at 50 Hz). With ensembling its code would ask every 1 - D steps; here the policy
is asked at every step, and the base gets the mean of what was predicted for D steps later.
"""

from typing import Any

from arp_jax.specs import ActionSpec

BASE_PREFIX = "base_"  # how datasets name the base's dimensions


def base_columns(action: ActionSpec) -> tuple[bool, ...]:
    """Per dimension, whether it drives the base: its name begins with "base_".

    Raises:
        ValueError: none does.
    """
    columns = tuple(name.startswith(BASE_PREFIX) for name in action.dims)
    if not any(columns):
        raise ValueError(
            f"base_delay needs action dimensions that are called {BASE_PREFIX}..., as in "
            f"base_linear; there are {', '.join(action.dims)}"
        )
    return columns


def base_ahead(chunk: Any, action: ActionSpec, delay: int) -> Any:
    """Chunks whose base commands are `delay` steps ahead.

    Args:
        chunk: [..., H, A], row 0 meant for now.
        action: names the dimensions.
        delay: D, steps from a command of the base to its effect, 0 .. H - 1.

    Returns:
        [..., H - D, A]: row j holds the arms' action of row j and the base's of row j + D.
    """
    if delay == 0:
        return chunk
    xp = chunk.__array_namespace__()
    columns = xp.asarray(base_columns(action))
    return xp.where(columns, chunk[..., delay:, :], chunk[..., : chunk.shape[-2] - delay, :])
