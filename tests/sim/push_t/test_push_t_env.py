"""The Push-T environment: specs, observations, reward, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC, PushT
from arp_jax.sim.push_t.reset_laws import initial_from_pose


def test_observations_match_their_specs():
    env = PushT(observations=OBSERVATION_SPEC.names)
    state = env.reset(jax.random.key(0))
    for feature in env.observation_spec.features:
        value = state.observation[feature.name]
        assert value.shape == (feature.size,)
        assert value.dtype == jnp.float32
        assert (value >= jnp.array(feature.low)).all()
        assert (value <= jnp.array(feature.high)).all()
    camera = env.observation_spec.cameras[0]
    assert state.observation["image"].shape == (camera.height, camera.width, 3)


def test_only_the_chosen_observations_exist():
    env = PushT(observations=["block_pose"])
    assert set(env.reset(jax.random.key(0)).observation) == {"block_pose"}
    assert env.observation_spec.names == ("block_pose",)
    assert hash(env) == hash(PushT(observations=("block_pose",)))


def test_keypoints_are_the_corners_in_gym_pushts_order():
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("gym_pusht")
    reference = gymnasium.make("gym_pusht/PushT-v0", obs_type="environment_state_agent_pos")
    expected, info = reference.unwrapped.reset(seed=3)
    found = geometry.keypoints(info["block_pose"].astype(np.float32))
    np.testing.assert_allclose(found, expected["environment_state"], atol=1e-3)


def test_angle_is_observed_modulo_a_turn():
    env = PushT(observations=("block_pose",))
    observed = env.reset_to(jnp.array([60.0, 60.0, 250.0, 250.0, -7.0])).observation["block_pose"]
    np.testing.assert_allclose(observed[2], -7 + 4 * np.pi, atol=1e-5)


def test_success_at_the_goal_and_done_does_not_latch():
    env = PushT()
    initial = initial_from_pose(np.array([60.0, 60.0]), np.array(geometry.GOAL_POSE))
    state = env.reset_to(jnp.asarray(initial, jnp.float32))
    np.testing.assert_allclose(state.metrics[env.success_metric], 1, atol=1e-4)
    assert state.done
    assert state.reward == 1
    step = jax.jit(env.step)
    for _ in range(10):
        state = step(state, jnp.array([256.0, 256.0]))
    assert state.metrics["coverage"] < 0.95
    assert not state.done
    np.testing.assert_allclose(state.reward, state.metrics["coverage"] / 0.95, rtol=1e-6)


def test_vmaps_and_scans_with_a_fixed_structure():
    env = PushT(observations=OBSERVATION_SPEC.names)

    @jax.jit
    def roll(rng):
        state = jax.vmap(env.reset)(jax.random.split(rng, 3))
        actions = jnp.full((4, 3, ACTION_SPEC.size), 256.0)
        return jax.lax.scan(lambda s, a: (jax.vmap(env.step)(s, a), s.reward), state, actions)

    state, rewards = roll(jax.random.key(1))
    assert rewards.shape == (4, 3)
    assert state.done.dtype == bool
    assert state.observation["image"].shape == (3, 96, 96, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observations": ("keypoint",)}, "no observation 'keypoint'"),
        ({"engine": "bullet"}, "engine='bullet' is unknown"),
        ({"reset_law": "new"}, "reset_law='new' is unknown"),
    ],
)
def test_errors_name_the_field(arguments, message):
    with pytest.raises(ValueError, match=message):
        PushT(**arguments)
