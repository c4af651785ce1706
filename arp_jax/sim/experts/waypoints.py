"""Way-points of a hand -> a path of poses, one for each control step.

In: poses with times (`Waypoint` rows). Out: tracks [T, 8] = position (m), quaternion (w, x, y, z),
gripper (0 closed ... 1 open). Straight lines between way-points, the quaternion component by
component, as ACT's scripted policies do; pure JAX, one hand, callers vmap. No robot here.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


class Waypoint(NamedTuple):
    """Where a hand is at a control step.

    Attributes:
        step: control step, known when the program is written.
        pos: [3] m.
        quat: [4] (w, x, y, z).
        gripper: 0 closed ... 1 open.
    """

    step: int
    pos: ArrayLike | Sequence[float]
    quat: ArrayLike | Sequence[float]
    gripper: float


def interpolate(waypoints: Sequence[Waypoint], length: int) -> Array:
    """Poses at the control steps 0 ... length - 1: float32 [length, 8].

    Quaternions are not normalised. After the last way-point the hand stays.

    Raises:
        ValueError: the first way-point is not at step 0, or steps do not increase.
    """
    steps = [w.step for w in waypoints]
    if not steps or steps[0] != 0 or any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"way-points must start at step 0 and follow each other, found {steps}")
    rows = jnp.stack(
        [
            jnp.concatenate(
                [jnp.asarray(v, jnp.float32) for v in (w.pos, w.quat)]
                + [jnp.asarray([w.gripper], jnp.float32)]
            )
            for w in waypoints
        ]
    )  # [W, 8]
    times = jnp.arange(length, dtype=jnp.float32)
    knots = jnp.asarray(steps, jnp.float32)
    return jax.vmap(lambda column: jnp.interp(times, knots, column), 1, 1)(rows)


def disturb(track: Array, rng: Array, noise: ArrayLike) -> Array:
    """Adds a uniform disturbance to the position at every step.

    Args:
        track: [T, 8].
        rng: key.
        noise: half width in m; 0 leaves the track as it is.
    """
    offsets = jax.random.uniform(rng, (len(track), 3), jnp.float32, -1.0, 1.0)
    return track.at[:, :3].add(jnp.asarray(noise) * offsets)
