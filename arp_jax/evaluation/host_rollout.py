"""The protocol of `rollout.py` with an environment that lives outside jax, such as gym-pusht.

Flows in: a factory of host environments, a `Controller`, parameters. Flows out: `EpisodeResults`.
Episode i is reset with the integer seed `first_seed + i`. Diffusion Policy's and ARP's published
Push-T scores: seeds 100000.., 300 steps, 2 observations, 8 executed actions, mean of the largest
reward. E environments advance in lockstep; only the policy is batched and compiled.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from arp_jax.control.history import push_observation, start_history
from arp_jax.evaluation.controllers import Controller, MemoryController, with_memory
from arp_jax.evaluation.decisions import Decision, batch_decisions
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.protocol import Progress, RolloutConfig
from arp_jax.specs import ActionSpec, ObservationSpec

FIRST_SEED = 100_000


class HostEnvironment(Protocol):
    """One environment on the host; `step` returns (observation, reward, done, metrics)."""

    name: str
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    success_metric: str
    max_episode_steps: int

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Starts the episode of an integer seed; the first observation, {name: [...]}."""
        ...

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, dict[str, float]]:
        """Executes one action [A] in physical units; `done` means that the task is solved."""
        ...


class _Episode:
    """One episode in flight: its environment, what it sees and what it has reached."""

    def __init__(self, env: HostEnvironment, seed: int, window: int) -> None:
        self.env = env
        self.history = start_history(env.reset(seed), window)
        self.length, self.solved = 0, False
        self.rewards: list[float] = []
        self.metrics: list[dict[str, float]] = []

    def advance(self, actions: np.ndarray, limit: int) -> None:
        """Executes actions [execute, A] until solved or at the time limit."""
        for action in actions:
            if self.solved or self.length >= limit:
                return
            observation, reward, self.solved, metrics = self.env.step(action)
            self.history = push_observation(self.history, observation)
            self.rewards.append(reward)
            self.metrics.append(metrics)
            self.length += 1


def host_rollout(
    make_env: Callable[[], HostEnvironment],
    controller: Controller | MemoryController,
    params: Any,
    config: RolloutConfig,
    first_seed: int = FIRST_SEED,
    progress: Progress = iter,
) -> EpisodeResults:
    """Runs `config.episodes` episodes, `config.envs` at a time.

    Args:
        make_env: called once for each of the E environments.
        controller: chooses the actions; its noise is a function of (config.seed, episode, step).
        params: the controller's parameters.
        config: episodes, envs, seed of the noise, time limit.
        first_seed: episode i is reset with `first_seed + i`.
        progress: wraps the sequence of batch starts (for example `tqdm`).
    """
    ids = config.ids
    size = min(config.envs, len(ids))
    envs = [make_env() for _ in range(size)]
    asked = _Asked(with_memory(controller), params, config.seed, size)
    episodes: list[_Episode] = []
    seconds = compile_seconds = 0.0
    for start in progress(range(0, len(ids), size)):
        chosen = ids[start : start + size]
        begin = time.perf_counter()
        batch = [
            _Episode(env, first_seed + int(i), controller.window)
            for env, i in zip(envs, chosen, strict=False)
        ]
        if not episodes:
            reset_seconds = time.perf_counter() - begin
            asked.start(batch, chosen)
            asked.actions(batch, 0)
            compile_seconds = time.perf_counter() - begin - reset_seconds
        _run(asked, batch, chosen, controller.execute, config.max_steps)
        seconds += time.perf_counter() - begin
        episodes += batch
    seconds -= compile_seconds
    return _results(episodes, ids, envs[0].success_metric, first_seed, seconds, compile_seconds)


def _run(asked: "_Asked", batch: list[_Episode], ids: np.ndarray, execute: int, limit: int) -> None:
    """Advances a batch until each of its episodes is solved or at the time limit."""
    asked.start(batch, ids)
    for step in range(0, limit, execute):
        if all(episode.solved for episode in batch):
            return
        for episode, chosen in zip(batch, asked.actions(batch, step), strict=False):
            episode.advance(chosen, limit)


class _Asked:
    """The compiled controller of one batch; a short last batch is padded, one program serves all.

    Args:
        controller, params: what is asked.
        seed: of its noise.
        size: E, episodes in a full batch.
    """

    def __init__(self, controller: MemoryController, params: Any, seed: int, size: int) -> None:
        def decisions(history: Any, ids: jax.Array, step: jax.Array) -> Decision:
            return batch_decisions(seed, ids, step, history)

        def start(params: Any, history: Any, ids: jax.Array) -> Any:
            first = decisions(history, ids, jax.numpy.int32(0))
            return jax.vmap(controller.start, in_axes=(None, 0))(params, first)

        def act(params: Any, memory: Any, history: Any, ids: jax.Array, step: jax.Array) -> Any:
            now = decisions(history, ids, step)
            return jax.vmap(controller.act, in_axes=(None, 0, 0))(params, memory, now)

        self._start, self._act = jax.jit(start), jax.jit(act)
        self._params, self._size = params, size

    def start(self, batch: list[_Episode], ids: np.ndarray) -> None:
        """Begins the episodes `ids` [<= E]."""
        self._ids = np.resize(ids, self._size).astype(np.int32)
        self._memory = self._start(self._params, self._histories(batch), self._ids)

    def actions(self, batch: list[_Episode], step: int) -> np.ndarray:
        """Actions [E, execute, A] after `step` executed ones."""
        actions, self._memory = self._act(
            self._params, self._memory, self._histories(batch), self._ids, np.int32(step)
        )
        return np.asarray(actions)

    def _histories(self, batch: list[_Episode]) -> dict[str, np.ndarray]:
        padded = [batch[min(i, len(batch) - 1)].history for i in range(self._size)]
        return {name: np.stack([h[name] for h in padded]) for name in padded[0]}


def _results(
    episodes: list[_Episode],
    ids: np.ndarray,
    success_metric: str,
    first_seed: int,
    seconds: float,
    compile_seconds: float,
) -> EpisodeResults:
    names = episodes[0].metrics[0]

    def series(name: str, pick: Callable[[list[float]], float]) -> np.ndarray:
        return np.array([pick([m[name] for m in e.metrics]) for e in episodes], np.float32)

    return EpisodeResults(
        episode=ids,
        seed=first_seed + ids,
        initial=np.zeros((len(episodes), 0), np.float32),
        length=np.array([e.length for e in episodes], np.int32),
        success=np.array([e.solved for e in episodes]),
        max_reward=np.array([max(e.rewards) for e in episodes], np.float32),
        best={n: series(n, max) for n in names},
        final={n: series(n, lambda values: values[-1]) for n in names},
        success_metric=success_metric,
        trajectory=None,
        seconds=seconds,
        compile_seconds=compile_seconds,
    )
