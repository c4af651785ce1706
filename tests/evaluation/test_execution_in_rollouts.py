"""Ensembling, latency and experts in a rollout do what a plain loop over one episode does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.control.execution import Execution, available_actions, executed_now, start_execution
from arp_jax.control.history import push_observation, start_history
from arp_jax.evaluation.controllers import Decision, expert_controller, policy_controller
from arp_jax.evaluation.host_rollout import host_rollout
from arp_jax.evaluation.rollout import Rollout, RolloutConfig
from arp_jax.policies.base import make_physical_act
from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.specs import ObservationSpec
from tests.evaluation.test_host_rollout import PointMassOnHost

STEPS = 22
EXECUTIONS = [
    Execution(4, ensemble=0.05),
    Execution(2, latency=5),
    Execution(1, ensemble=0.0, latency=3),
    Execution(3, latency=1, blend=2),
]


def plain_loop(env, act, spec, params, execution, episode):
    """One episode in numpy: the largest reward and the number of steps."""
    key = jax.random.fold_in(jax.random.key(0), episode)
    state = env.reset(jax.random.fold_in(key, 0))
    noise = jax.random.fold_in(key, 1)
    seen = start_history({"position": np.asarray(state.observation["position"])}, spec.window)
    rows = spec.horizon - spec.first_executed
    memory = start_execution(execution, seen["position"][-1], rows)
    step, rewards = 0, []
    while step < STEPS:
        rng = jax.random.fold_in(noise, step)
        chunk = np.asarray(act(params, {"position": seen["position"][None]}, rng)[0])
        actions, memory = executed_now(execution, memory, available_actions(chunk, spec))
        for action in actions:
            state = env.step(state, action)
            seen = push_observation(seen, {"position": np.asarray(state.observation["position"])})
            rewards.append(float(state.reward))
            step += 1
            if bool(state.done) or step == STEPS:
                return max(rewards), step
    return max(rewards), step


@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_rollout_executes_what_control_executes(env, policy, normalizer, params, execution):
    act = make_physical_act(policy, normalizer)
    controller = policy_controller("p", act, policy.spec, execution)
    results = Rollout(env, controller, RolloutConfig(episodes=4, max_steps=STEPS))(params)
    for episode in range(2):
        reward, length = plain_loop(env, act, policy.spec, params, execution, episode)
        assert results.length[episode] == length
        assert results.max_reward[episode] == pytest.approx(reward, abs=1e-5)


@pytest.mark.parametrize("execution", EXECUTIONS[1:2], ids=str)
def test_host_rollout_carries_memory_too(env, policy, normalizer, params, execution):
    controller = policy_controller(
        "p", make_physical_act(policy, normalizer), policy.spec, execution
    )
    config = RolloutConfig(episodes=5, envs=3, seed=7, max_steps=STEPS)
    host = host_rollout(lambda: PointMassOnHost(env), controller, params, config, first_seed=7)
    initial = np.stack([PointMassOnHost.initial(7 + i) for i in range(5)])
    compiled = Rollout(env, controller, config, initial=initial)(params)
    np.testing.assert_array_equal(host.length, compiled.length)
    np.testing.assert_allclose(host.max_reward, compiled.max_reward, atol=1e-5)


def test_latency_needs_a_way_to_hold(policy, normalizer):
    feature = dataclasses.replace(policy.spec.observation.features[0], unit="cm")
    spec = dataclasses.replace(policy.spec, observation=ObservationSpec((feature,)))
    act = make_physical_act(policy, normalizer)
    policy_controller("p", act, spec, Execution(4, ensemble=0.1))
    with pytest.raises(ValueError, match="how to hold still"):
        policy_controller("p", act, spec, Execution(4, latency=1))


def test_an_expert_sees_the_initial_condition_and_its_actions_are_clipped(env):
    def plan(initial, rng, noise):
        return jnp.broadcast_to(-100 * initial, (7, 2))

    expert = expert_controller("expert", open_loop(plan, 7), env.action_spec)
    start = np.float32([[0.5, -0.5]])
    record = {"record": lambda s: {"p": s.physics[0]}, "initial": start}
    results = Rollout(env, expert, RolloutConfig(episodes=1, max_steps=3), **record)({})
    position = start[0]
    for frame in results.frames([0])[0]["p"][1:]:
        position = position + 0.1 * (np.float32([-1, 1]) - position)
        np.testing.assert_allclose(frame, position, atol=1e-6)


def test_an_expert_that_looks_keeps_its_memory(env):
    """It moves by its memory's count, so that lost memory would show."""

    def act(memory, observation, readings):
        assert readings is None  # the point mass has none
        return observation["position"][None] + memory, memory + 1.0

    expert = Expert(1, lambda initial, rng, noise: jnp.zeros(()), act)
    controller = expert_controller("expert", expert, env.action_spec)
    decision = Decision(
        {"position": jnp.zeros((1, 2))}, jax.random.key(0), jnp.int32(0), jnp.int32(0), jnp.zeros(2)
    )
    memory = controller.start({}, decision)
    found = []
    for _ in range(3):
        actions, memory = controller.act({}, memory, decision)
        found.append(float(actions[0, 0]))
    assert found == [0.0, 1.0, 1.0]  # 0, 1 and 2, clipped to 1
