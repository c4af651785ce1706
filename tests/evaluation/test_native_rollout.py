"""The host loop gives the compiled rollout's outcomes when both run the same environment."""

import jax
import numpy as np
import pytest

from arp_jax.control.execution import Execution
from arp_jax.evaluation.controllers import hold_controller, policy_controller
from arp_jax.evaluation.native_rollout import NativeRollout
from arp_jax.evaluation.rollout import Rollout, RolloutConfig
from arp_jax.policies.base import make_physical_act
from arp_jax.sim.physics import Physics
from arp_jax.sim.task import Start

N = 23


class PointMasses:
    """E of conftest's point masses, stepped on the host; it notes who was moved."""

    success_metric = "closeness"

    def __init__(self, env, envs):
        self._env, self.envs, self.moved = env, envs, []
        self._reset, self._step = jax.jit(jax.vmap(env.reset_to)), jax.jit(jax.vmap(env.step))
        self.initial_condition = env.initial_condition

    def reset(self, initial):
        assert len(initial) == self.envs
        self._state = jax.device_get(self._reset(initial))
        return self._offered()

    def step(self, actions, active=None):
        self.moved.append(active)
        new = jax.device_get(self._step(self._state, actions))
        where = lambda a, b: np.where(active.reshape(-1, *[1] * (a.ndim - 1)), a, b)  # noqa: E731
        self._state = jax.tree.map(where, new, self._state)
        return self._offered()

    def _offered(self):
        readings = {"qpos": self._state.physics[0]}
        return self._state.replace(physics=Physics(readings, {}, Start(qpos=readings["qpos"])))


def run_native(env, controller, params, envs=N, seed=0, max_steps=40, **kwargs):
    config = RolloutConfig(episodes=N, envs=envs, seed=seed, max_steps=max_steps)
    return NativeRollout(lambda e: PointMasses(env, e), controller, config, **kwargs)(params)


def assert_same_outcomes(found, expected):
    np.testing.assert_array_equal(found.initial, expected.initial)
    np.testing.assert_array_equal(found.episode, expected.episode)
    np.testing.assert_array_equal(found.length, expected.length)
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_allclose(found.max_reward, expected.max_reward, atol=1e-5)
    for name in expected.best:
        np.testing.assert_allclose(found.best[name], expected.best[name], atol=1e-5)
        np.testing.assert_allclose(found.final[name], expected.final[name], atol=1e-5)


@pytest.fixture(scope="module")
def compiled(env, controller, params):
    return Rollout(env, controller, RolloutConfig(episodes=N, envs=N, max_steps=40))(params)


@pytest.mark.parametrize("envs", [1, 7, 256])
def test_native_and_compiled_rollouts_agree_for_any_number_of_environments(
    env, controller, params, compiled, envs
):
    native = run_native(env, controller, params, envs)
    assert_same_outcomes(native, compiled)
    assert native.success.any()
    assert not native.success.all()


def test_controllers_with_memory_agree_in_both(env, policy, normalizer, params):
    act = make_physical_act(policy, normalizer)
    execution = Execution(4, ensemble=0.05, latency=2)
    controller = policy_controller("p", act, policy.spec, execution)
    config = RolloutConfig(episodes=N, envs=N, max_steps=40)
    compiled = Rollout(env, controller, config)(params)
    assert_same_outcomes(run_native(env, controller, params, 7), compiled)


def test_only_running_episodes_are_moved_and_padding_never_is(env, controller, params):
    made = []

    def make_env(envs):
        made.append(PointMasses(env, envs))
        return made[-1]

    config = RolloutConfig(episodes=9, envs=5, max_steps=40)
    rollout = NativeRollout(make_env, controller, config)
    rollout(params)
    made[0].moved.clear()
    results = rollout(params)  # nothing is compiled now, so every step counts
    assert results.compile_seconds == 0
    steps = np.sum([active.sum() for active in made[0].moved])
    assert steps == results.length.sum()
    assert not any(active[4] for active in made[0].moved[-results.length[5:].max() :])


def test_time_limit_that_is_no_multiple_of_execute(env):
    controller = hold_controller(env.observation_spec, env.action_spec, 8)
    results = run_native(env, controller, {}, max_steps=13)
    assert set(results.length[~results.success]) == {13}
    np.testing.assert_array_equal(results.final["steps"], results.length)


def test_recorded_frames_are_those_of_the_compiled_rollout(env, controller, params):
    native = run_native(
        env, controller, params, 7, record=lambda s: {"p": s.physics.readings["qpos"]}
    )
    config = RolloutConfig(episodes=N, envs=N, max_steps=40)
    compiled = Rollout(env, controller, config, record=lambda s: {"p": s.physics[0]})(params)
    for one, other in zip(native.frames(range(N)), compiled.frames(range(N)), strict=True):
        np.testing.assert_allclose(one["p"], other["p"], atol=1e-5)


def test_given_initial_conditions_are_used(env, controller, params, compiled):
    given = run_native(env, controller, params, 5, initial=compiled.initial)
    assert_same_outcomes(given, compiled)
    with pytest.raises(ValueError, match="3 initial conditions for 23 episodes"):
        run_native(env, controller, params, initial=compiled.initial[:3])
