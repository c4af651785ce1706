"""The MJX engine follows the analytic one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.push_t import geometry, mjx
from arp_jax.sim.push_t.env import PushT
from arp_jax.sim.push_t.reset_laws import legacy_initial_conditions

NAMES = ("agent_pos", "keypoints")


def _pushes(initial: np.ndarray, steps: int, depth: float) -> np.ndarray:
    """Targets [steps, N, 2] on the line from each agent through the block's centre of gravity.

    `depth` 1 ends at the centre of gravity as it was at the start.
    """
    centre = initial[:, 2:4] + np.array([0.0, geometry.CENTER_OF_GRAVITY_Y])
    share = depth * np.linspace(1 / steps, 1.0, steps)[:, None, None]
    return (initial[:, :2] + share * (centre - initial[:, :2])).astype(np.float32)


def _rollout(engine: str, initial: np.ndarray, actions: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Keypoints [T, N, 16] and coverage [T, N]."""
    env = PushT(observations=NAMES, engine=engine)

    @jax.jit
    def roll(initial, actions):
        def body(state, action):
            state = jax.vmap(env.step)(state, action)
            return state, (state.observation["keypoints"], state.metrics["coverage"])

        return jax.lax.scan(body, jax.vmap(env.reset_to)(initial), actions)[1]

    return roll(jnp.asarray(initial), jnp.asarray(actions))


def test_fifty_steps_follow_the_analytic_engine():
    # The block stands free of the walls, the agent outside of it.
    initial = np.array(
        [
            [100, 256, 256, 200, 0.3],
            [400, 150, 240, 230, 2.0],
            [256, 450, 260, 200, -1.0],
            [120, 120, 300, 250, -2.5],
        ],
        np.float32,
    )
    actions = _pushes(initial, steps=50, depth=1.0)
    expected, expected_coverage = _rollout("analytic", initial, actions)
    found, found_coverage = _rollout("mjx", initial, actions)
    travelled = np.abs(np.asarray(expected[-1] - expected[0])).max(axis=-1)
    assert (travelled > 15.0).all(), travelled
    assert np.abs(np.asarray(found - expected)).max() < 1.0
    np.testing.assert_allclose(found_coverage, expected_coverage, atol=0.01)


def test_reset_places_agent_and_block_like_the_analytic_engine():
    initial = legacy_initial_conditions(range(100_000, 100_020))
    for condition in initial:
        agent, block = mjx.pose(mjx.reset(condition))
        np.testing.assert_allclose(agent, condition[:2])
        expected = condition[2:4] + geometry.CENTER_OF_GRAVITY_Y * np.array(
            [np.sin(condition[4]), 1.0 - np.cos(condition[4])]
        )
        np.testing.assert_allclose(block[:2], expected, atol=1e-3)


def test_model_has_the_mass_and_moment_of_the_public_environment():
    model = mjx.load_model()
    block = model.body("block")
    assert block.mass[0] == geometry.BLOCK_MASS
    assert block.inertia[2] == geometry.BLOCK_INERTIA
    assert model.geom("agent").size[0] == geometry.AGENT_RADIUS
    for name, (low, high) in zip(("bar", "stem"), geometry.BOXES, strict=True):
        geom = model.geom(name)
        centre = geom.pos[:2] + np.array([0.0, geometry.CENTER_OF_GRAVITY_Y])
        np.testing.assert_allclose(centre - geom.size[:2], low)
        np.testing.assert_allclose(centre + geom.size[:2], high)


@pytest.mark.slow
def test_pushes_across_the_board_follow_the_analytic_engine():
    initial = legacy_initial_conditions(range(100_000, 100_032))
    actions = _pushes(initial, steps=100, depth=1.5)
    expected, _ = _rollout("analytic", initial, actions)
    found, _ = _rollout("mjx", initial, actions)
    error = np.abs(np.asarray(found - expected)).max(axis=-1)  # [T, N]
    # Some of these end with the block squeezed against a wall, where the engines part.
    assert np.median(error[-1]) < 0.5, error[-1]
    assert np.median(error[49]) < 0.2, error[49]
