"""Where things lie at the start: random places on the table that keep a distance.

In: a key and a rectangle. Out: planar positions and yaws. Things get different cells of a grid and
move inside their cell only, so that nothing has to be drawn again (rejection does not vmap). Also
the factors that all tasks have: where the thing that matters lies, and how near the others are.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.sim.areas import Area, robot_quadrant
from arp_jax.sim.task import Factor


def scatter(
    key: Array, area: Area, grid: tuple[int, int], count: int, spacing: tuple[float, float]
) -> Array:
    """Positions [count, 2] of things; any two keep their spacing along x or along y.

    Args:
        key: of the draw.
        area: where centres may be.
        grid: cells along x and y; `count` of them are used.
        count: number of things.
        spacing: along x and y, m; what is left of a cell is the room for the random offset.

    Raises:
        ValueError: more things than cells, or cells smaller than `spacing`.
    """
    sides = (area.x[1] - area.x[0], area.y[1] - area.y[0])
    # The outermost centres may reach the border: n cells share the side plus one spacing.
    cell = [(side + gap) / cells for side, gap, cells in zip(sides, spacing, grid, strict=True)]
    if count > grid[0] * grid[1] or cell[0] < spacing[0] or cell[1] < spacing[1]:
        raise ValueError(f"scatter: {count} things {spacing} m apart do not fit {grid} of {area}")
    cell_key, offset_key = jax.random.split(key)
    taken = jax.random.permutation(cell_key, grid[0] * grid[1])[:count]
    place = jnp.stack([taken // grid[1], taken % grid[1]], -1) + 0.5
    gaps, sizes = jnp.array(spacing), jnp.array(cell)
    corner = jnp.array([area.x[0], area.y[0]]) - gaps / 2
    offset = jax.random.uniform(offset_key, (count, 2), minval=-0.5, maxval=0.5)
    return corner + place * sizes + offset * (sizes - gaps)


def scatter_poses(
    key: Array,
    area: Area,
    grid: tuple[int, int],
    count: int,
    spacing: tuple[float, float],
    turn: float,
) -> Array:
    """As `scatter`, with a yaw uniform in [-turn, turn]: planar poses [count, 3]."""
    place_key, yaw_key = jax.random.split(key)
    yaw = jax.random.uniform(yaw_key, (count, 1), minval=-turn, maxval=turn)
    return jnp.concatenate([scatter(place_key, area, grid, count, spacing), yaw], -1)


def distractor_factor(
    positions: Callable[[Array], Array], distractors: slice, near: float
) -> Factor:
    """Factor "distractors": is one of them closer than `near` m to the thing that matters?

    Args:
        positions: [K] -> rows [n, >= 2], the thing that matters first.
        distractors: the rows that are distractors.
        near: m.
    """

    def classify(initial: Array) -> Array:
        rows = positions(initial)[:, :2]
        distance = jnp.linalg.norm(rows[distractors] - rows[0], axis=-1)
        return (jnp.min(distance) > near).astype(jnp.int32)

    return Factor("distractors", ("near", "far"), classify)


def place_factors(
    area: Area,
    positions: Callable[[Array], Array],
    distractors: slice = slice(1, None),
    near: float = 0.14,
) -> tuple[Factor, Factor]:
    """Factors "quadrant" of the thing that matters in its area, and "distractors", see there."""
    return (
        robot_quadrant(lambda initial: positions(initial)[0], area.middle),
        distractor_factor(positions, distractors, near),
    )
