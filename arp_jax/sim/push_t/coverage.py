"""Exact share of the Push-T goal that the block covers.

A block pose flows in, a number in [0, 1] flows out: differentiable almost everywhere, branch-free,
elementwise over batch dimensions. By Green's theorem the area of (block and box) is a boundary
integral along the block's outline of the height clamped to the box; two boxes make the goal.
Agrees with shapely to 1e-6 in float32.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.push_t import geometry


def coverage(pose: ArrayLike, goal: tuple[float, float, float] = geometry.GOAL_POSE) -> Array:
    """Area of (block and goal) over the area of the goal.

    Args:
        pose: [..., 3] block pose: x, y (px), angle (rad).
        goal: pose of the goal.

    Returns:
        [...] in [0, 1].
    """
    pose = jnp.asarray(pose)
    dx, dy = pose[..., 0] - goal[0], pose[..., 1] - goal[1]
    cos, sin = float(np.cos(goal[2])), float(np.sin(goal[2]))
    in_goal_frame = jnp.stack(
        [cos * dx + sin * dy, -sin * dx + cos * dy, pose[..., 2] - goal[2]], -1
    )
    start = geometry.transform(in_goal_frame, geometry.OUTLINE)  # [..., 8, 2]
    end = jnp.roll(start, -1, axis=-2)
    area = sum(_area_within(start, end, box) for box in geometry.BOXES)
    return jnp.clip(area / geometry.BLOCK_AREA, 0.0, 1.0)


def _area_within(start: Array, end: Array, box: tuple[tuple[float, float], tuple[float, float]]):
    """Area inside an axis-aligned box of the polygon with these edges.

    Args:
        start, end: [..., N, 2] the polygon's edges, in the orientation of `geometry.OUTLINE`.
        box: low and high corner.

    Returns:
        [...] px^2.
    """
    (x0, y0), (x1, y1) = box
    dx, dy = end[..., 0] - start[..., 0], end[..., 1] - start[..., 1]
    vertical = jnp.abs(dx) < 1e-12
    safe_dx = jnp.where(vertical, 1.0, dx)
    # The part of the edge whose x lies in the box, as parameters in [0, 1].
    enter = jnp.clip((x0 - start[..., 0]) / safe_dx, 0.0, 1.0)
    leave = jnp.clip((x1 - start[..., 0]) / safe_dx, 0.0, 1.0)
    first, last = jnp.minimum(enter, leave), jnp.maximum(enter, leave)
    y_first, y_last = start[..., 1] + first * dy, start[..., 1] + last * dy
    # clamp(y, y0, y1) - y0 = relu(y - y0) - relu(y - y1)
    height = _mean_relu(y_first - y0, y_last - y0) - _mean_relu(y_first - y1, y_last - y1)
    # The outline runs so that its low edges go to +x: they count negative under this integral.
    return -jnp.sum(jnp.where(vertical, 0.0, dx * (last - first) * height), axis=-1)


def _mean_relu(a: Array, b: Array) -> Array:
    """Mean of max(v, 0) for v running linearly from a to b."""
    crosses = (a >= 0) != (b >= 0)
    high = jnp.maximum(a, b)
    # The unused branch divides by 1, so that its gradient is finite.
    partly = high * high / (2.0 * jnp.where(crosses, jnp.abs(a - b), 1.0))
    return jnp.where(crosses, partly, (jnp.maximum(a, 0.0) + jnp.maximum(b, 0.0)) / 2.0)
