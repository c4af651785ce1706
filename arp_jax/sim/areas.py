"""Rectangles on a table, and the factor "quadrant": in which quarter something starts.

In: bounds, and where an initial condition has a point. Out: uniform draws, and a `Factor` by which
results are broken down. What stands where is the tasks' business.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.sim.task import Factor

FROM_ROBOT = ("near right", "near left", "far right", "far left")


@dataclasses.dataclass(frozen=True)
class Area:
    """A rectangle on the table: (low, high) of x and of y in the world, m."""

    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def middle(self) -> tuple[float, float]:
        """Centre (x, y)."""
        return sum(self.x) / 2, sum(self.y) / 2

    def draw(self, rng: Array) -> Array:
        """A point [2], uniform."""
        low = jnp.array([self.x[0], self.y[0]])
        high = jnp.array([self.x[1], self.y[1]])
        return jax.random.uniform(rng, (2,), jnp.float32, low, high)


def quadrant_factor(
    point: Callable[[Array], Array],
    middle: tuple[float, float],
    values: tuple[str, str, str, str],
    name: str = "quadrant",
) -> Factor:
    """The factor that says on which side of `middle` both coordinates of a point lie.

    Args:
        point: initial condition [K] -> [2].
        middle: where the quarters meet, in the point's units.
        values: names of the quarters: both coordinates low, first high, second high, both high.
        name: of the factor.
    """

    def classify(initial: Array) -> Array:
        first, second = (point(initial) >= jnp.array(middle)).astype(jnp.int32)
        return first + 2 * second

    return Factor(name, values, classify)


def robot_quadrant(point: Callable[[Array], Array], middle: tuple[float, float]) -> Factor:
    """Factor "quadrant" as a robot sees it that looks along x, with y to its left.

    Args:
        point: initial condition [K] -> x, y first [>= 2].
        middle: x, y.
    """
    return quadrant_factor(lambda initial: point(initial)[1::-1], middle[::-1], FROM_ROBOT)
