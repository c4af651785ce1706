"""The gym-pusht adapter speaks our names and units, and its physics is that of our twin."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.gym_pusht_env import GymPushT
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.env import PushT
from arp_jax.sim.push_t.reset_laws import legacy_initial_conditions

STATE = ("agent_pos", "keypoints", "block_pose")
SEEDS = (100_000, 100_003, 100_011)
STEPS = 30


def _actions(initial: np.ndarray, seed: int) -> np.ndarray:
    """Random targets around the block, so that the agent keeps pushing it. [STEPS, 2]"""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(initial[2:4] + np.array([0, 45]), 60, (STEPS, 2)), 20, 490)


@pytest.fixture(scope="module")
def twin_rollout():
    env = PushT(observations=STATE)

    @jax.jit
    def roll(initial, actions):
        first = env.reset_to(initial)

        def body(state, action):
            state = env.step(state, action)
            return state, (state.observation, state.metrics["coverage"], state.reward)

        return first.observation, jax.lax.scan(body, first, actions)[1]

    return roll


@pytest.mark.parametrize("seed", SEEDS)
def test_thirty_steps_equal_the_analytic_engine(twin_rollout, seed):
    pytest.importorskip("gym_pusht")
    host = GymPushT(observations=STATE)
    initial = legacy_initial_conditions([seed])[0]
    actions = _actions(initial, seed)
    first, (observations, coverages, rewards) = twin_rollout(
        jnp.asarray(initial), jnp.asarray(actions, jnp.float32)
    )
    found = host.reset(seed)
    for name in STATE:
        np.testing.assert_allclose(found[name], first[name], atol=0.02)
    travelled = 0.0
    for time, action in enumerate(actions):
        previous = found["keypoints"]
        found, reward, done, metrics = host.step(action)
        travelled += float(np.abs(found["keypoints"] - previous).max())
        for name in ("agent_pos", "keypoints"):
            np.testing.assert_allclose(found[name], observations[name][time], atol=0.05)
        assert metrics["coverage"] == pytest.approx(float(coverages[time]), abs=1e-3)
        assert reward == pytest.approx(float(rewards[time]), abs=2e-3)
        assert done == (metrics["coverage"] > geometry.SUCCESS_COVERAGE)
    assert travelled > 20.0  # the block was pushed, so that the comparison means something
    host.close()


def test_observations_follow_the_spec():
    pytest.importorskip("gym_pusht")
    host = GymPushT(observations=("image", *STATE))
    observation = host.reset(100_000)
    assert set(observation) == {"image", *STATE}
    assert observation["image"].shape == (96, 96, 3)
    assert observation["image"].dtype == np.uint8
    for feature in host.observation_spec.features:
        assert observation[feature.name].shape == (feature.size,)
        assert observation[feature.name].dtype == np.float32
    expected = np.asarray(geometry.keypoints(jnp.asarray(observation["block_pose"])))
    np.testing.assert_allclose(observation["keypoints"], expected, atol=1e-3)
    again = host.reset(100_000)
    np.testing.assert_array_equal(again["image"], observation["image"])
    host.close()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="colour"):
        GymPushT(observations=("colour",))
    with pytest.raises(ValueError, match="reset_law"):
        GymPushT(reset_law="newest")


def test_missing_package_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without_gym_pusht(name, *args, **kwargs):
        if name == "gym_pusht":
            raise ImportError("No module named 'gym_pusht'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gym_pusht)
    with pytest.raises(ImportError, match=r"pip install 'arp_jax\[dev\]'"):
        GymPushT()
