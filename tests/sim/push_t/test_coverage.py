"""Coverage against hand-made cases and against polygon clipping by shapely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.coverage import coverage


def test_is_one_at_the_goal_and_zero_far_away():
    goal = np.array(geometry.GOAL_POSE, np.float32)
    changes = np.array([[0, 0, 0], [0, 0, 2 * np.pi], [200, 0, 0]], np.float32)
    np.testing.assert_allclose(coverage(goal + changes), [1, 1, 0], atol=1e-6)


def test_slides_linearly_along_the_stem():
    """Shifting the block by d along its own axis uncovers the bar's width and the stem's width."""
    angle = geometry.GOAL_POSE[2]
    shift = 10.0
    pose = np.array([256 - np.sin(angle) * shift, 256 + np.cos(angle) * shift, angle], np.float32)
    # Lost: a 120-wide strip of the bar, except where the goal's stem continues (30 wide), and the
    # part of the block's stem that sticks out (30 wide).
    expected = 1 - (120 * shift) / geometry.BLOCK_AREA
    np.testing.assert_allclose(coverage(pose), expected, atol=1e-5)


def test_equals_shapely():
    shapely_geometry = pytest.importorskip("shapely.geometry")
    rng = np.random.default_rng(0)
    poses = np.concatenate(
        [
            np.array(geometry.GOAL_POSE) + rng.normal(size=(200, 3)) * [20, 20, 0.3],
            rng.uniform([100, 100, -20], [400, 400, 20], (200, 3)),
        ]
    ).astype(np.float32)
    corners = np.asarray(geometry.transform(poses, geometry.OUTLINE), np.float64)
    goal_pose = np.array(geometry.GOAL_POSE)
    goal = shapely_geometry.Polygon(np.asarray(geometry.transform(goal_pose, geometry.OUTLINE)))
    expected = [goal.intersection(shapely_geometry.Polygon(c)).area / goal.area for c in corners]
    assert 0.1 < np.mean(np.array(expected) > 0.05) < 0.9
    np.testing.assert_allclose(jax.jit(coverage)(poses), expected, atol=3e-6)


def test_is_smooth_enough_for_gradients():
    pose = jnp.array([260.0, 250.0, 0.9])
    gradient = jax.grad(coverage)(pose)
    step = jnp.array([0.1, 0.1, 0.01])
    numeric = [
        (coverage(pose.at[i].add(step[i])) - coverage(pose.at[i].add(-step[i]))) / (2 * step[i])
        for i in range(3)
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=0.05, atol=2e-4)
