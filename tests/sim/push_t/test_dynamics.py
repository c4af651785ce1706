"""Properties of the analytic engine that hold without any reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.push_t import dynamics, geometry, reset_laws

STEP = jax.jit(dynamics.step)
RESET = jax.jit(dynamics.reset)


@jax.jit
def roll(initial, actions):
    """Block poses [T, ..., 3] after each action [T, ..., 2]."""

    def advance(physics, action):
        physics = dynamics.step(physics, action)
        return physics, dynamics.pose(physics)

    return jax.lax.scan(advance, dynamics.reset(initial), actions)[1]


@pytest.fixture(scope="module")
def episodes():
    """Initial conditions [8, 5] and pushing actions [30, 8, 2], walls and overlaps included."""
    rng = np.random.default_rng(3)
    initial = reset_laws.legacy_initial_conditions(range(8))
    return initial, rng.uniform(0, 512, (30, 8, 2)).astype(np.float32)


def test_reset_turns_the_block_about_its_center_of_gravity():
    initial = np.array([50, 60, 200, 300, 1.2], np.float32)
    agent, block = dynamics.pose(RESET(initial))
    np.testing.assert_allclose(agent, [50, 60])
    np.testing.assert_allclose(geometry.center_of_gravity(block), [200, 345], atol=1e-3)


def test_initial_from_pose_inverts_reset():
    agent, block = np.array([40.0, 50.0]), np.array([250.0, 260.0, -2.5])
    initial = reset_laws.initial_from_pose(agent, block)
    found_agent, found_block = dynamics.pose(RESET(initial.astype(np.float32)))
    np.testing.assert_allclose(found_agent, agent, atol=1e-4)
    np.testing.assert_allclose(found_block, block, atol=1e-4)


def test_block_rests_without_contact_and_agent_reaches_its_target():
    physics = RESET(jnp.array([60.0, 60.0, 300.0, 300.0, 0.4]))
    before = dynamics.pose(physics)[1]
    for _ in range(15):
        physics = STEP(physics, jnp.array([90.0, 70.0]))
    agent, block = dynamics.pose(physics)
    np.testing.assert_array_equal(block, before)
    np.testing.assert_allclose(agent, [90, 70], atol=0.01)


def test_central_push_translates_without_turning():
    # The block stands at angle 0 and the agent pushes the middle of the bar along the stem's axis.
    physics = RESET(jnp.array([256.0, 190.0, 256.0, 220.0, 0.0]))
    for _ in range(10):
        physics = STEP(physics, jnp.array([256.0, 260.0]))
    agent, block = dynamics.pose(physics)
    assert block[1] > 250
    np.testing.assert_allclose(block[2], 0, atol=1e-4)
    # Resting contact: the disc touches the bar's outer edge up to the allowed overlap.
    assert abs((block[1] - agent[1]) - geometry.AGENT_RADIUS) < 0.3


def test_push_off_center_turns_the_right_way():
    physics = RESET(jnp.array([300.0, 190.0, 256.0, 220.0, 0.0]))
    for _ in range(10):
        physics = STEP(physics, jnp.array([300.0, 260.0]))
    assert dynamics.pose(physics)[1][2] > 0.1


def test_walls_hold_the_block():
    physics = RESET(jnp.array([300.0, 256.0, 200.0, 200.0, np.pi / 2]))
    for x in np.linspace(290, 110, 25):
        physics = STEP(physics, jnp.array([x, 256.0]))
    points = np.asarray(geometry.keypoints(dynamics.pose(physics)[1])).reshape(8, 2)
    touching = geometry.WALL_LOW + geometry.WALL_RADIUS
    assert touching - 2.0 < points[:, 0].min() < touching + 1.0


def test_vmap_equals_batched_arrays_equals_one_by_one(episodes):
    initial, actions = episodes
    batched = roll(initial, actions)[1]
    mapped = jax.vmap(roll, in_axes=(0, 1), out_axes=1)(initial, actions)[1]
    single = jnp.stack([roll(initial[i], actions[:, i])[1] for i in range(2)], 1)
    assert batched.shape == (30, 8, 3)
    assert jnp.isfinite(batched).all()
    np.testing.assert_allclose(batched, mapped, atol=1e-3)
    # Different fusions round differently and contacts amplify it: compare a few steps closely.
    np.testing.assert_allclose(batched[:10, :2], single[:10], atol=1e-2)


def test_keeps_the_dtype_that_flows_in(episodes):
    initial, actions = episodes
    from_integers = jax.eval_shape(dynamics.reset, initial[0].astype(np.int32))
    assert from_integers.x.dtype == jnp.float32
    with jax.enable_x64(True):
        double = roll(initial[0].astype(np.float64), actions[:5, 0].astype(np.float64))[1]
    assert double.dtype == np.float64
    single = roll(initial[0], actions[:5, 0])[1]
    np.testing.assert_allclose(single, double, atol=1e-2)


def test_a_turn_of_the_world_turns_the_motion(episodes):
    """Without walls nearby, physics does not depend on direction."""
    initial = np.array([256, 180, 236, 226, 0.3], np.float32)
    offsets = np.array([[256, 200], [250, 230], [270, 250]], np.float32)
    _, block = roll(initial, offsets)

    def turn(points):
        return np.array([256, 256]) + (points - 256) @ np.array([[0, 1], [-1, 0]])

    center = turn(np.array([236.0, 271.0])) - [0, geometry.CENTER_OF_GRAVITY_Y]
    turned_initial = np.concatenate([turn(initial[:2]), center, [0.3 + np.pi / 2]])
    _, turned = roll(turned_initial.astype(np.float32), turn(offsets).astype(np.float32))
    assert np.abs(block[-1] - block[0]).max() > 3
    np.testing.assert_allclose(turned[:, :2], turn(np.asarray(block)[:, :2]), atol=5e-3)
    np.testing.assert_allclose(turned[:, 2] - np.pi / 2, block[:, 2], atol=1e-4)
