"""What chooses the actions in a rollout: a policy, or one of the baselines beside it.

Flows in: a `PhysicalAct` (policies/base.py), a spec, or recorded plans. Flows out: `Controller`s,
pure functions of one episode's `Decision`; the rollout vmaps them over episodes. Noise comes only
from `Decision.rng`, which depends on (evaluation seed, episode id, step) and nothing else.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from arp_jax.control.chunking import check_execute, executed_actions
from arp_jax.policies.base import PhysicalAct
from arp_jax.specs import ActionSpec, PolicySpec


@struct.dataclass
class Decision:
    """What one episode offers when a new chunk is due; no batch axis.

    Attributes:
        observation: {name: [W, ...]}, physical units, newest last.
        rng: key of this (evaluation seed, episode, step).
        step: int32 [], executed actions so far.
        episode: int32 [], episode id.
    """

    observation: dict[str, jax.Array]
    rng: jax.Array
    step: jax.Array
    episode: jax.Array


@dataclasses.dataclass(frozen=True)
class Controller:
    """Chooses the next few actions.

    Attributes:
        name: for tables and reports.
        window: W, observations it wants to see.
        execute: number of actions it returns, all executed before it is asked again.
        act: (params, Decision) -> [execute, A] in physical units, for one episode.
    """

    name: str
    window: int
    execute: int
    act: Callable[[Any, Decision], jax.Array]


def policy_controller(name: str, act: PhysicalAct, spec: PolicySpec, execute: int) -> Controller:
    """A policy in physical units (`make_physical_act`) as a receding-horizon controller.

    The policy sees batches of one under `vmap`, so that its noise is drawn per episode and an
    episode's outcome cannot depend on its neighbours in the batch. Raises ValueError when a chunk
    does not hold `execute` actions from the newest observation on.
    """
    check_execute(spec, execute)
    names = spec.observation.names

    def act_one(params: Any, decision: Decision) -> jax.Array:
        observation = {key: decision.observation[key][None] for key in names}  # [1, W, ...]
        chunk = act(params, observation, decision.rng)[0]  # [H, A]
        return executed_actions(chunk, spec, execute)  # [execute, A]

    return Controller(name, spec.window, execute, act_one)


def random_controller(action: ActionSpec, execute: int) -> Controller:
    """Actions drawn uniformly within the limits, independently at each step."""
    low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)

    def act_one(params: Any, decision: Decision) -> jax.Array:
        return jax.random.uniform(decision.rng, (execute, action.size), minval=low, maxval=high)

    return Controller("random", 1, execute, act_one)


def hold_controller(feature: str, execute: int) -> Controller:
    """Repeats the present value of a feature as the target: a robot that stays where it is."""

    def act_one(params: Any, decision: Decision) -> jax.Array:
        present = decision.observation[feature][-1]  # [A]
        return jnp.broadcast_to(present, (execute, *present.shape))

    return Controller("hold", 1, execute, act_one)


def replay_controller(name: str, execute: int) -> Controller:
    """Replays recorded actions open loop; its params are the plans, float32 [N, T, A].

    Plans shorter than the episode repeat their last action.
    """

    def act_one(plans: jax.Array, decision: Decision) -> jax.Array:
        plan = plans[decision.episode]  # [T, A]
        steps = jnp.minimum(decision.step + jnp.arange(execute), plan.shape[0] - 1)
        return plan[steps]  # [execute, A]

    return Controller(name, 1, execute, act_one)
