"""Rectangles are filled evenly, and quarters have the right names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.areas import Area, quadrant_factor, robot_quadrant

AREA = Area(x=(0.1, 0.4), y=(-0.3, 0.3))


def test_draws_fill_the_area():
    draws = np.asarray(jax.vmap(AREA.draw)(jax.random.split(jax.random.key(0), 500)))
    np.testing.assert_allclose(draws.min(0), [0.1, -0.3], atol=0.01)
    np.testing.assert_allclose(draws.max(0), [0.4, 0.3], atol=0.01)
    np.testing.assert_allclose(draws.mean(0), AREA.middle, atol=0.03)


@pytest.mark.parametrize(
    ("corner", "value"),
    [((0.1, -0.3), "a"), ((0.4, -0.3), "b"), ((0.1, 0.3), "c"), ((0.4, 0.3), "d")],
)
def test_values_follow_the_first_coordinate_fastest(corner, value):
    factor = quadrant_factor(
        lambda initial: initial[1:], AREA.middle, ("a", "b", "c", "d"), "where"
    )
    assert factor.name == "where"
    assert factor.values[int(factor.classify(jnp.array([9.0, *corner])))] == value


@pytest.mark.parametrize(
    ("corner", "value"),
    [
        ((0.1, -0.3), "near right"),
        ((0.4, -0.3), "far right"),
        ((0.1, 0.3), "near left"),
        ((0.4, 0.3), "far left"),
    ],
)
def test_a_robot_looks_along_x(corner, value):
    factor = robot_quadrant(lambda initial: initial, AREA.middle)
    assert factor.values[int(factor.classify(jnp.array([*corner, 9.0])))] == value
