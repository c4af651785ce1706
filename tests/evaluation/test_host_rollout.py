"""The host protocol gives the jitted rollout's outcomes when both run the same environment."""

import jax
import numpy as np

from arp_jax.evaluation.host_rollout import host_rollout
from arp_jax.evaluation.rollout import Rollout, RolloutConfig

FIRST_SEED = 100_000


class PointMassOnHost:
    """The point mass of conftest.py behind the host interface; seeds are made by RandomState."""

    name = "point_mass_host"
    success_metric = "closeness"

    def __init__(self, env):
        self._env, self._step = env, jax.jit(env.step)
        self.observation_spec, self.action_spec = env.observation_spec, env.action_spec
        self.resets = []

    @staticmethod
    def initial(seed):
        return np.random.RandomState(seed).uniform(-1, 1, 2).astype(np.float32)

    def reset(self, seed):
        self.resets.append(seed)
        self._state = self._env.reset_to(self.initial(seed))
        return self._observation()

    def step(self, action):
        self._state = self._step(self._state, action)
        metrics = {name: float(value) for name, value in self._state.metrics.items()}
        state = self._state
        return self._observation(), float(state.reward), bool(state.done), metrics

    def _observation(self):
        return {name: np.asarray(value) for name, value in self._state.observation.items()}


def test_host_and_jitted_rollouts_agree(env, controller, params):
    config = RolloutConfig(episodes=5, envs=3, seed=FIRST_SEED, max_steps=38)
    made = []

    def make_env():
        made.append(PointMassOnHost(env))
        return made[-1]

    host = host_rollout(make_env, controller, params, config, first_seed=FIRST_SEED)
    seeds = FIRST_SEED + np.arange(5)
    initial = np.stack([PointMassOnHost.initial(seed) for seed in seeds])
    jitted = Rollout(env, controller, config, initial=initial)(params)
    assert sorted(seed for e in made for seed in e.resets) == seeds.tolist()
    np.testing.assert_array_equal(host.seed, seeds)
    np.testing.assert_array_equal(host.length, jitted.length)
    np.testing.assert_array_equal(host.success, jitted.success)
    np.testing.assert_allclose(host.max_reward, jitted.max_reward, atol=1e-5)
    np.testing.assert_allclose(host.score, jitted.score, atol=1e-5)
    np.testing.assert_allclose(host.final["steps"], host.length)
