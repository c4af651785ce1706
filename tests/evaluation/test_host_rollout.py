"""The host protocol gives the jitted rollout's outcomes when both run the same environment."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.evaluation.controllers import Controller
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


class Walk:
    """A point on a line, in numpy, importable by a worker: over at +-3, solved at +3 only."""

    name = "walk"
    success_metric = "place"

    def __init__(self, fails=False, dies=False):
        self._fails, self._dies = fails, dies

    def reset(self, seed):
        return self.reset_to(np.random.RandomState(seed).uniform(-1, 1, 1).astype(np.float32))

    def reset_to(self, initial):
        self._x = np.float32(initial[0])
        return self._observation()

    def step(self, action):
        if self._fails:
            raise ArithmeticError("the gearbox is broken")
        if self._dies:
            os._exit(3)
        self._x += np.float32(action[0])
        over = bool(abs(self._x) >= 3)
        metrics = {"place": float(self._x), "success": float(self._x >= 3)}
        return self._observation(), float(self._x), over, metrics

    def _observation(self):
        return {"x": np.array([self._x], np.float32)}


@pytest.fixture
def away():
    """Walks away from zero by what it sees two observations ago, with noise."""

    def act(params, decision):
        x = decision.observation["x"][0, 0]
        noise = 0.1 * jax.random.normal(decision.rng, (3, 1))
        return params * jnp.sign(x) + noise

    return Controller("away", 2, 3, act)


CONFIG = RolloutConfig(episodes=7, envs=5, seed=4, max_steps=40)


def test_workers_do_not_change_outcomes(away):
    here = host_rollout(Walk, away, 0.3, CONFIG, first_seed=10)
    assert 0 < here.success.sum() < 7  # both ends are reached
    assert (here.length < 40).all()
    np.testing.assert_array_equal(here.success, here.score >= 3)
    there = host_rollout(Walk, away, 0.3, CONFIG, first_seed=10, workers=2)
    for field in ("episode", "seed", "length", "success", "max_reward"):
        np.testing.assert_array_equal(getattr(here, field), getattr(there, field))
    np.testing.assert_array_equal(here.best["place"], there.best["place"])
    np.testing.assert_array_equal(here.final["place"], there.final["place"])


@pytest.mark.parametrize("workers", [0, 2])
def test_episodes_start_from_given_initial_conditions(away, workers):
    initial = np.linspace(-0.9, 1.1, 7, dtype=np.float32)[:, None]
    config = RolloutConfig(episodes=7, envs=5, seed=4, max_steps=40)
    results = host_rollout(Walk, away, 0.3, config, workers=workers, initial=initial)
    np.testing.assert_array_equal(results.initial, initial)
    np.testing.assert_array_equal(results.success, initial[:, 0] > 0)
    with pytest.raises(ValueError, match="6 initial conditions for 7 episodes"):
        host_rollout(Walk, away, 0.3, config, initial=initial[:6])


def test_an_environment_that_draws_its_own_starts_says_so(away):
    class Fixed(Walk):
        reset_to = None

    initial = np.zeros((7, 1), np.float32)
    with pytest.raises(ValueError, match="walk cannot start from a given initial condition"):
        host_rollout(Fixed, away, 0.3, CONFIG, initial=initial)


def test_failures_of_workers_are_reported(away):
    broken = functools.partial(Walk, fails=True)
    with pytest.raises(RuntimeError, match=r"(?s)failed in a worker process.*gearbox is broken"):
        host_rollout(broken, away, 0.3, CONFIG, workers=2)
    dead = functools.partial(Walk, dies=True)
    with pytest.raises(RuntimeError, match="a worker process of the environments died"):
        host_rollout(dead, away, 0.3, CONFIG, workers=2)
    with pytest.raises(ValueError, match="--workers must be at least 0"):
        host_rollout(Walk, away, 0.3, CONFIG, workers=-1)
