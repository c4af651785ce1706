"""What chooses the actions in a rollout: a policy, or one of the baselines beside it.

Flows in: a `PhysicalAct` (policies/base.py), a spec, recorded plans or an expert. Flows out:
controllers, pure functions of one episode's `Decision`; the rollout vmaps them over episodes. Noise
comes only from `Decision.rng`, which depends on (evaluation seed, episode id, step) and nothing
else.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.control.execution import Execution, available_actions, executed_now, start_execution
from arp_jax.control.latency import hold_action, hold_feature
from arp_jax.evaluation.decisions import Decision
from arp_jax.policies.base import PhysicalAct
from arp_jax.sim.experts.expert import Expert
from arp_jax.specs import ActionSpec, ObservationSpec, PolicySpec


@dataclasses.dataclass(frozen=True)
class Controller:
    """Chooses the next few actions from the present alone.

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


@dataclasses.dataclass(frozen=True)
class MemoryController:
    """A controller that carries something from one decision to the next.

    Attributes:
        name, window, execute: as in `Controller`.
        start: (params, first Decision of an episode) -> memory, a pytree of arrays.
        act: (params, memory, Decision) -> ([execute, A] in physical units, memory).
    """

    name: str
    window: int
    execute: int
    start: Callable[[Any, Decision], Any]
    act: Callable[[Any, Any, Decision], tuple[jax.Array, Any]]


def with_memory(controller: Controller | MemoryController) -> MemoryController:
    """The same controller as one with memory, so that a rollout knows one kind only."""
    if isinstance(controller, MemoryController):
        return controller
    act = controller.act
    return MemoryController(
        controller.name,
        controller.window,
        controller.execute,
        start=lambda params, decision: (),
        act=lambda params, memory, decision: (act(params, decision), memory),
    )


def policy_controller(
    name: str, act: PhysicalAct, spec: PolicySpec, execute: int | Execution
) -> Controller | MemoryController:
    """A policy in physical units (`make_physical_act`) whose chunks are executed as told.

    The policy sees batches of one under `vmap`, so that its noise is drawn per episode and an
    episode's outcome cannot depend on its neighbours in the batch.

    Args:
        name: for tables and reports.
        act: the policy.
        spec: its signature.
        execute: how its chunks are executed; a number is the plain receding horizon.

    Raises:
        ValueError: a chunk does not hold enough actions, or latency in a robot that no feature
            tells how to hold.
    """
    execution = Execution(execute) if isinstance(execute, int) else execute
    execution.check(spec)
    names = spec.observation.names

    def predict(params: Any, decision: Decision) -> jax.Array:
        observation = {key: decision.observation[key][None] for key in names}  # [1, W, ...]
        return act(params, observation, decision.rng)[0]  # [H, A]

    def available(params: Any, decision: Decision) -> jax.Array:
        return available_actions(predict(params, decision), spec, execution.base_delay)

    if not execution.needs_memory:

        def act_one(params: Any, decision: Decision) -> jax.Array:
            return available(params, decision)[: execution.execute]

        return Controller(name, spec.window, execution.execute, act_one)

    hold = _holder(spec.observation, spec.action) if execution.latency else _zeros(spec.action)

    def start(params: Any, decision: Decision) -> Any:
        del params
        return start_execution(execution, hold(decision), execution.rows(spec))

    def act_and_remember(params: Any, memory: Any, decision: Decision) -> tuple[jax.Array, Any]:
        return executed_now(execution, memory, available(params, decision))

    return MemoryController(name, spec.window, execution.period, start, act_and_remember)


def _holder(observation: ObservationSpec, action: ActionSpec) -> Callable[[Decision], jax.Array]:
    """Decision -> [A], the action that keeps the robot where it is."""
    feature = hold_feature(observation, action)
    zeros = _zeros(action)

    def hold(decision: Decision) -> jax.Array:
        present = zeros(decision) if feature is None else decision.observation[feature][-1]
        return hold_action(present.astype(jnp.float32), action)

    return hold


def _zeros(action: ActionSpec) -> Callable[[Decision], jax.Array]:
    return lambda decision: jnp.zeros(action.size)


def expert_controller(
    name: str, expert: Expert, action: ActionSpec, noise: float = 0.0
) -> MemoryController:
    """A scripted expert; it knows the episode's initial condition, so it is no policy.

    Args:
        name: for tables and reports.
        expert: of the task that is evaluated.
        action: its actions are clipped to these limits, as in recordings.
        noise: half width in metres of the disturbance of its way-points.
    """
    low, high = jnp.asarray(action.low, jnp.float32), jnp.asarray(action.high, jnp.float32)

    def start(params: Any, decision: Decision) -> Any:
        del params
        return expert.start(decision.initial, decision.rng, jnp.float32(noise))  # type: ignore[arg-type]

    def act(params: Any, memory: Any, decision: Decision) -> tuple[jax.Array, Any]:
        del params
        present = {key: values[-1] for key, values in decision.observation.items()}
        actions, memory = expert.act(memory, present, decision.readings)
        return jnp.clip(actions, low, high), memory

    return MemoryController(name, 1, expert.execute, start, act)


def random_controller(action: ActionSpec, execute: int) -> Controller:
    """Actions drawn uniformly within the limits, independently at each step."""
    low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)

    def act_one(params: Any, decision: Decision) -> jax.Array:
        return jax.random.uniform(decision.rng, (execute, action.size), minval=low, maxval=high)

    return Controller("random", 1, execute, act_one)


def hold_controller(observation: ObservationSpec, action: ActionSpec, execute: int) -> Controller:
    """A robot that stays where it is: its present position as the target, zeros for changes.

    Raises:
        ValueError: no feature has the size and unit of the action.
    """
    hold = _holder(observation, action)

    def act_one(params: Any, decision: Decision) -> jax.Array:
        return jnp.broadcast_to(hold(decision), (execute, action.size))

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
