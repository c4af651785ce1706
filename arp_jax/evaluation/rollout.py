"""Thousands of closed-loop episodes in one compiled program: controller and simulator together.

Flows in: an `Environment` (sim/env.py), a `Controller`, parameters. Flows out: `EpisodeResults`.
Episode i starts from `initial_condition(key(seed), i)` and draws its noise from (seed, i, step), so
outcomes do not depend on how many episodes run side by side or on how many devices. An episode that
is done is frozen, not reset; each counts once. The loop ends as soon as all are done.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from arp_jax.control.history import push_observation, start_history
from arp_jax.evaluation.controllers import Controller, MemoryController, with_memory
from arp_jax.evaluation.decisions import Decision, batch_decisions
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.protocol import (
    Progress,
    RolloutConfig,
    chosen_initial_conditions,
    initial_conditions,
)
from arp_jax.sim.env import Environment, State

__all__ = ["Record", "Rollout", "RolloutConfig", "initial_conditions"]

Record = Callable[[State], dict[str, jax.Array]]


@struct.dataclass
class _Loop:
    """E episodes in flight; every leaf but `step` has a leading axis E."""

    state: State
    history: dict[str, jax.Array]  # {name: [E, W, ...]}
    memory: Any  # of the controller
    over: jax.Array  # bool [E]
    solved: jax.Array  # bool [E]
    length: jax.Array  # int32 [E]
    max_reward: jax.Array  # float32 [E]
    best: dict[str, jax.Array]  # {metric: [E]}
    step: jax.Array  # int32 [], executed actions
    trajectory: dict[str, jax.Array] | None  # {name: [T_padded + 1, E, ...]}


class Rollout:
    """The compiled evaluation of one (environment, controller, config); call it with parameters.

    Building is cheap; the first call compiles (reported apart), later calls with parameters of the
    same shapes reuse the program, so that a training run can evaluate again and again.

    Args:
        env: the environment; unbatched, this class vmaps it.
        controller: chooses the actions.
        config: number of episodes, seed, time limit.
        initial: optional initial conditions [N, ...] instead of those drawn from the seed (for
            example the public seeds of Push-T).
        record: optional map from a State to a small dict of arrays, kept for each step (for video).
        devices: the episodes are split evenly over these; default: all local devices.
        compiler_options: for XLA, what the environment's engine asks for.
    """

    def __init__(
        self,
        env: Environment,
        controller: Controller | MemoryController,
        config: RolloutConfig,
        *,
        initial: np.ndarray | None = None,
        record: Record | None = None,
        devices: Sequence[jax.Device] | None = None,
        compiler_options: dict[str, bool] | None = None,
    ) -> None:
        self._config, self._success_metric = config, env.success_metric
        self._initial, self._ids = chosen_initial_conditions(env, config, initial), config.ids
        devices = list(devices if devices is not None else jax.local_devices())
        per_device = -(-min(config.envs, len(self._ids)) // len(devices))
        self._envs = per_device * len(devices)
        self._mesh = Mesh(np.array(devices), ("episodes",))
        batch = _make_batch_fn(env, with_memory(controller), config, record)
        split, whole = PartitionSpec("episodes"), PartitionSpec()
        # One independent loop a device: no communication, each ends when its own episodes do.
        program = jax.shard_map(
            batch,
            mesh=self._mesh,
            in_specs=(whole, split, split, split),
            out_specs=split,
            check_vma=False,
        )
        self._program = jax.jit(program, compiler_options=compiler_options)
        self._compiled: dict[Any, Any] = {}

    def __call__(self, params: Any, progress: Progress = iter) -> EpisodeResults:
        """Runs all episodes.

        Args:
            params: the controller's parameters.
            progress: wraps the sequence of batch starts (for example `tqdm`).
        """
        size, count = self._envs, len(self._ids)
        params = jax.device_put(params, NamedSharding(self._mesh, PartitionSpec()))
        starts = range(0, count, size)
        compiled, compile_seconds = self._compile(params)
        begin = time.perf_counter()
        parts = []
        for start in progress(starts):
            parts.append(jax.device_get(compiled(params, *self._inputs(start))))
        seconds = time.perf_counter() - begin
        outputs = jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
        return EpisodeResults(
            episode=self._ids,
            seed=np.full(count, self._config.seed, np.int64),
            initial=self._initial[self._ids],
            success_metric=self._success_metric,
            seconds=seconds,
            compile_seconds=compile_seconds,
            **outputs,
        )

    def _inputs(self, start: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Ids [E], initial conditions [E, ...] and `counts` bool [E] of one batch.

        The last batch is padded with copies of its last episode, which are over from the start.
        """
        rows = np.arange(start, start + self._envs)
        counts = rows < len(self._ids)
        ids = self._ids[np.minimum(rows, len(self._ids) - 1)]
        sharding = NamedSharding(self._mesh, PartitionSpec("episodes"))
        return jax.device_put((ids.astype(np.int32), self._initial[ids], counts), sharding)

    def _compile(self, params: Any) -> tuple[Any, float]:
        """The executable for parameters of these shapes, and the seconds compiling took now."""
        leaves, treedef = jax.tree.flatten(params)
        signature = (treedef, tuple((np.shape(x), np.result_type(x)) for x in leaves))
        if signature in self._compiled:
            return self._compiled[signature], 0.0
        begin = time.perf_counter()
        compiled = self._program.lower(params, *self._inputs(0)).compile()
        self._compiled[signature] = compiled
        return compiled, time.perf_counter() - begin


def _make_batch_fn(
    env: Environment, controller: MemoryController, config: RolloutConfig, record: Record | None
) -> Callable[..., dict[str, Any]]:
    """The program of one batch: (params, ids [E], initial [E, ...], counts [E]) -> outcomes."""
    execute, limit = controller.execute, config.max_steps

    def control_step(loop: _Loop, action: jax.Array) -> tuple[_Loop, Any]:
        running = ~loop.over & (loop.step < limit)  # [E]
        state = _select(running, jax.vmap(env.step)(loop.state, action), loop.state)
        loop = loop.replace(  # type: ignore[attr-defined]
            state=state,
            history=_select(
                running, jax.vmap(push_observation)(loop.history, state.observation), loop.history
            ),
            over=loop.over | (running & state.done),
            solved=loop.solved | (running & state.done),
            length=loop.length + running,
            max_reward=jnp.where(
                running, jnp.maximum(loop.max_reward, state.reward), loop.max_reward
            ),
            best={
                name: jnp.where(running, jnp.maximum(value, state.metrics[name]), value)
                for name, value in loop.best.items()
            },
            step=loop.step + 1,
        )
        return loop, None if record is None else jax.vmap(record)(state)

    def replan(params: Any, ids: jax.Array, initial: jax.Array, loop: _Loop) -> _Loop:
        decisions = _decisions(config.seed, ids, initial, loop)
        actions, memory = jax.vmap(controller.act, in_axes=(None, 0, 0))(
            params, loop.memory, decisions
        )  # [E, execute, A]
        loop = loop.replace(memory=memory)  # type: ignore[attr-defined]
        loop, frames = jax.lax.scan(control_step, loop, jnp.swapaxes(actions, 0, 1))
        if record is None:
            return loop
        first = loop.step - execute + 1  # row 0 holds the initial frame
        trajectory = jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, first, 0),
            loop.trajectory,
            frames,
        )
        return loop.replace(trajectory=trajectory)  # type: ignore[attr-defined]

    def batch(params: Any, ids: jax.Array, initial: jax.Array, counts: jax.Array) -> dict[str, Any]:
        rows = -(-limit // execute) * execute + 1
        loop = _start(env, controller.window, initial, counts, record, rows)
        decisions = _decisions(config.seed, ids, initial, loop)
        memory = jax.vmap(controller.start, in_axes=(None, 0))(params, decisions)
        loop = jax.lax.while_loop(
            lambda loop: (loop.step < limit) & ~jnp.all(loop.over),
            lambda loop: replan(params, ids, initial, loop),
            loop.replace(memory=memory),  # type: ignore[attr-defined]
        )
        return _outcomes(loop, limit)

    return batch


def _decisions(seed: int, ids: jax.Array, initial: jax.Array, loop: _Loop) -> Decision:
    # Push-T's engines have no readings; its controllers need none.
    readings = getattr(loop.state.physics, "readings", None)
    return batch_decisions(seed, ids, loop.step, loop.history, initial, readings)


def _start(
    env: Environment,
    window: int,
    initial: jax.Array,
    counts: jax.Array,
    record: Record | None,
    rows: int,
) -> _Loop:
    """Resets E episodes; those that only pad the batch (`counts` False) are over at once."""
    state = jax.vmap(env.reset_to)(initial)
    lowest = jnp.full(counts.shape, -jnp.inf, jnp.float32)
    trajectory = None
    if record is not None:
        trajectory = jax.tree.map(
            lambda frame: jnp.zeros((rows, *frame.shape), frame.dtype).at[0].set(frame),
            jax.vmap(record)(state),
        )
    return _Loop(
        state=state,
        history=jax.vmap(lambda o: start_history(o, window))(state.observation),
        memory=(),
        over=~counts,
        solved=jnp.zeros_like(counts),
        length=jnp.zeros(counts.shape, jnp.int32),
        max_reward=lowest,
        best=dict.fromkeys(state.metrics, lowest),
        step=jnp.int32(0),
        trajectory=trajectory,
    )


def _outcomes(loop: _Loop, limit: int) -> dict[str, Any]:
    """What leaves the program; every leaf has the leading axis E."""
    trajectory = loop.trajectory
    if trajectory is not None:
        trajectory = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1)[:, : limit + 1], trajectory)
    return {
        "length": loop.length,
        "success": loop.solved,
        "max_reward": loop.max_reward,
        "best": loop.best,
        "final": loop.state.metrics,
        "trajectory": trajectory,
    }


def _select(running: jax.Array, new: Any, old: Any) -> Any:
    """Leaf-wise: `new` where the episode [E] is running, else `old` (frozen)."""

    def leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(running.reshape(running.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, new, old)
