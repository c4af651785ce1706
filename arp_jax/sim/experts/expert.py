"""What a scripted expert is: pure functions that choose the next few actions of one episode.

In: an initial condition, a key, later the observations. Out: actions in the task's units. Waypoint
experts plan the whole episode at its start (`open_loop`); an expert that looks while it works
returns shorter chunks. The caller vmaps over episodes. An expert may look at the initial condition:
it is not a policy.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Expert:
    """A scripted expert.

    Attributes:
        execute: number of actions that one call of `act` returns; all are executed.
        start: (initial float32 [K], key, noise float32 []) -> memory, a pytree of arrays. `noise`
            is the half width in metres of the uniform disturbance of way-points; 0 for none.
        act: (memory, observation {name: [size]}, readings) -> (actions [execute, A], memory).
    """

    execute: int
    start: Callable[[Array, Array, Array], Any]
    act: Callable[[Any, dict[str, Array], Any], tuple[Array, Any]]


def open_loop(plan: Callable[[Array, Array, Array], Array], length: int) -> Expert:
    """An expert that plans at the start: `plan(initial [K], key, noise []) -> actions [length, A]`.

    The whole plan is one chunk; when it is over, its last action is repeated.
    """

    def act(memory: Any, observation: Any, readings: Any) -> tuple[Array, Any]:
        del observation, readings
        return memory, jnp.broadcast_to(memory[-1], memory.shape)

    def start(initial: Array, rng: Array, noise: Array) -> Array:
        actions = plan(initial, rng, noise)
        if actions.shape[0] != length:
            raise ValueError(f"the plan has {actions.shape[0]} actions, {length} were announced")
        return actions

    return Expert(execute=length, start=jax.named_call(start, name="plan"), act=act)
