"""Scripted experts at work in the native engine: what they plan, and whether they succeed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.sim import compiler
from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.task import Task


@functools.cache
def _planner(expert: Expert) -> Callable[..., Any]:
    """`expert.start` for many episodes; cached, so that tests share what is compiled."""
    return jax.jit(jax.vmap(expert.start, (0, 0, None)), compiler_options=compiler.options())


def start_tries(
    task: Task, expert: Expert, count: int, seed: int = 0, noise: float = 0.0
) -> tuple[np.ndarray, Any]:
    """Initial conditions [count, K] and the expert's memory: an open-loop one's whole plans."""
    keys = jax.random.split(jax.random.key(seed), count)
    initial = np.asarray(jax.jit(jax.vmap(task.initial_condition))(keys))
    return initial, _planner(expert)(initial, keys, jnp.float32(noise))


def play(
    task: Task,
    expert: Expert,
    count: int,
    seed: int = 0,
    noise: float = 0.0,
    steps: int | None = None,
) -> np.ndarray:
    """Whether the expert succeeds at any time, bool [count].

    Args:
        steps: control steps after which a try ends; None for the task's time limit.
    """
    initial, memory = start_tries(task, expert, count, seed, noise)
    env = NativeEnv(task, count)
    state = env.reset(initial)
    act = jax.jit(jax.vmap(expert.act), compiler_options=compiler.options())
    success, step, limit = np.zeros(count, bool), 0, steps or task.max_episode_steps
    while step < limit and not success.all():
        actions, memory = act(memory, state.observation, state.physics.readings)
        for action in np.moveaxis(np.asarray(actions), 1, 0):
            state = env.step(action, ~success)
            success |= np.asarray(state.done)
            step += 1
    return success
