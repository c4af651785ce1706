"""The protocol of `rollout.py` with simulations that live outside jax: C MuJoCo on all CPU cores.

Flows in: a factory of batched environments (sim/native.py), a controller, parameters. Flows out:
`EpisodeResults` that depend on (seed, episode id) alone. E episodes advance in lockstep; the jitted
controller is asked once a chunk for all of them, the finished ones are frozen.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.control.history import push_observation, start_history
from arp_jax.evaluation.controllers import Controller, MemoryController, with_memory
from arp_jax.evaluation.decisions import Decision, batch_decisions
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.protocol import (
    DrawsStarts,
    Progress,
    RolloutConfig,
    chosen_initial_conditions,
)
from arp_jax.sim.env import State


class BatchEnvironment(DrawsStarts, Protocol):
    """E simulations on the host, stepped together; States hold numpy arrays with leading axis E."""

    @property
    def success_metric(self) -> str: ...

    def reset(self, initial: np.ndarray) -> State: ...

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> State: ...


BatchRecord = Callable[[State], dict[str, np.ndarray]]


class NativeRollout:
    """The evaluation of one (environment, controller, config); call it with parameters.

    Args:
        make_env: E -> E simulations.
        controller: chooses the actions.
        config: number of episodes, seed, time limit.
        initial: optional initial conditions [N, K] instead of those drawn from the seed.
        record: optional map from a batched State to {name: [E, ...]}, kept for each step.
    """

    def __init__(
        self,
        make_env: Callable[[int], BatchEnvironment],
        controller: Controller | MemoryController,
        config: RolloutConfig,
        *,
        initial: np.ndarray | None = None,
        record: BatchRecord | None = None,
    ) -> None:
        self._config, self._record, self._ids = config, record, config.ids
        self._envs = min(config.envs, len(self._ids))
        self._env = make_env(self._envs)
        self._initial = chosen_initial_conditions(self._env, config, initial)
        self._window, self._execute = controller.window, controller.execute
        self._start, self._act = _programs(with_memory(controller), config.seed)
        self._compiled = False

    def __call__(self, params: Any, progress: Progress = iter) -> EpisodeResults:
        """Runs all episodes.

        Args:
            params: the controller's parameters.
            progress: wraps the sequence of batch starts (for example `tqdm`).
        """
        count = len(self._ids)
        compile_seconds = 0.0
        if not self._compiled:
            begin = time.perf_counter()
            self._run(params, self._batch_ids(0), 1)
            compile_seconds, self._compiled = time.perf_counter() - begin, True
        begin = time.perf_counter()
        parts = [
            self._run(params, self._batch_ids(start), self._config.max_steps)
            for start in progress(range(0, count, self._envs))
        ]
        outputs = jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
        return EpisodeResults(
            episode=self._ids,
            seed=np.full(count, self._config.seed, np.int64),
            initial=self._initial[self._ids],
            success_metric=self._env.success_metric,
            seconds=time.perf_counter() - begin,
            compile_seconds=compile_seconds,
            **outputs,
        )

    def _batch_ids(self, start: int) -> np.ndarray:
        """Ids [E]; a short last batch is padded with -1."""
        ids = np.full(self._envs, -1)
        chosen = self._ids[start : start + self._envs]
        ids[: len(chosen)] = chosen
        return ids

    def _run(self, params: Any, ids: np.ndarray, limit: int) -> dict[str, Any]:
        """One batch of episodes ids [E] -> outcomes, every leaf with the leading axis E."""
        counts = ids >= 0
        ids = np.where(counts, ids, self._ids[-1]).astype(np.int32)
        initial = self._initial[ids]
        tally = _Tally(self._env.reset(initial), counts, limit, self._window, self._record)
        memory = self._start(params, tally.history, ids, initial, tally.readings)
        step = 0
        while step < limit and not tally.over.all():
            actions, memory = self._act(
                params, memory, tally.history, ids, np.int32(step), initial, tally.readings
            )
            for action in np.swapaxes(np.asarray(actions), 0, 1):  # [E, A]
                if step == limit or tally.over.all():
                    break
                active = ~tally.over
                tally.add(self._env.step(action, active), active)
                step += 1
        return tally.outcomes()


class _Tally:
    """What E episodes have seen and reached so far."""

    def __init__(
        self,
        state: State,
        counts: np.ndarray,
        limit: int,
        window: int,
        record: BatchRecord | None,
    ) -> None:
        self._record, self._step = record, 0
        # Time first, so that the window slides along the leading axis: {name: [W, E, ...]}.
        self.history = start_history(state.observation, window)
        self.readings = state.physics.readings
        self.over = ~counts
        self._solved = np.zeros_like(counts)
        self._length = np.zeros(counts.shape, np.int32)
        self._max_reward = np.full(counts.shape, -np.inf, np.float32)
        self._best = {k: np.full(counts.shape, -np.inf, np.float32) for k in state.metrics}
        self._final = state.metrics
        self._trajectory: dict[str, np.ndarray] | None = None
        if record is not None:
            self._trajectory = {
                name: np.zeros((len(frame), limit + 1, *frame.shape[1:]), frame.dtype)
                for name, frame in record(state).items()
            }
            self._keep(state)

    def add(self, state: State, active: np.ndarray) -> None:
        """Counts one control step of the active episodes; the others did not move."""
        self.history = push_observation(self.history, state.observation)
        self.readings, self._final = state.physics.readings, state.metrics
        self._length += active
        np.maximum(self._max_reward, state.reward, out=self._max_reward, where=active)
        for name, best in self._best.items():
            np.maximum(best, state.metrics[name], out=best, where=active)
        self._solved |= active & state.done
        self.over = self.over | (active & state.done)
        self._step += 1
        self._keep(state)

    def _keep(self, state: State) -> None:
        if self._trajectory is not None and self._record is not None:
            for name, frame in self._record(state).items():
                self._trajectory[name][:, self._step] = frame

    def outcomes(self) -> dict[str, Any]:
        """Columns of `EpisodeResults`."""
        return {
            "length": self._length,
            "success": self._solved,
            "max_reward": self._max_reward,
            "best": self._best,
            "final": self._final,
            "trajectory": self._trajectory,
        }


def _programs(
    controller: MemoryController, seed: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Jitted (start, act) over a batch; histories come time first, {name: [W, E, ...]}."""

    def decisions(
        history: dict[str, jax.Array],
        ids: jax.Array,
        step: jax.Array,
        initial: jax.Array,
        readings: Any,
    ) -> Decision:
        observation = {name: jnp.swapaxes(seen, 0, 1) for name, seen in history.items()}
        return batch_decisions(seed, ids, step, observation, initial, readings)

    def start(params: Any, history: Any, ids: Any, initial: Any, readings: Any) -> Any:
        first = decisions(history, ids, jnp.int32(0), initial, readings)
        return jax.vmap(controller.start, in_axes=(None, 0))(params, first)

    def act(
        params: Any, memory: Any, history: Any, ids: Any, step: Any, initial: Any, readings: Any
    ) -> Any:
        now = decisions(history, ids, step, initial, readings)
        return jax.vmap(controller.act, in_axes=(None, 0, 0))(params, memory, now)

    return jax.jit(start), jax.jit(act)
