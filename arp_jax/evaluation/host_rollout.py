"""The protocol of `rollout.py` with an environment that lives outside jax, such as gym-pusht.

Flows in: a factory of host environments, a `Controller`, parameters. Flows out: `EpisodeResults`.
Episode i is reset with the integer seed `first_seed + i`, or to a given initial condition.
Diffusion Policy's and ARP's published Push-T scores: seeds 100000.., 300 steps, 2 observations, 8
executed actions, mean of the largest reward. E environments advance in lockstep, in this process or
in several; only the policy is batched and compiled.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arp_jax.evaluation.controllers import Controller, MemoryController, with_memory
from arp_jax.evaluation.decisions import Decision, batch_decisions
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.host_episodes import (
    History,
    HostEnvironment,
    HostEpisodes,
    Reached,
    StartOf,
    WorkerEpisodes,
)
from arp_jax.evaluation.protocol import Progress, RolloutConfig

__all__ = ["FIRST_SEED", "HostEnvironment", "host_rollout"]

FIRST_SEED = 100_000


def host_rollout(
    make_env: Callable[[], HostEnvironment],
    controller: Controller | MemoryController,
    params: Any,
    config: RolloutConfig,
    first_seed: int = FIRST_SEED,
    progress: Progress = iter,
    *,
    workers: int = 0,
    initial: np.ndarray | None = None,
) -> EpisodeResults:
    """Runs `config.episodes` episodes, `config.envs` at a time.

    Args:
        make_env: called once for each of the E environments.
        controller: chooses the actions; its noise is a function of (config.seed, episode, step).
        params: the controller's parameters.
        config: episodes, envs, seed of the noise, time limit.
        first_seed: episode i is reset with `first_seed + i`.
        progress: wraps the sequence of batch starts (for example `tqdm`).
        workers: processes that step the environments; 0 steps them in this one. Does not change
            outcomes. With workers `make_env` must be picklable.
        initial: float [N, K], initial conditions of all episodes instead of seeds; the environments
            need `reset_to`.

    Raises:
        ValueError: not one initial condition for each of the N episodes, or the environment takes
            none; negative workers.
        RuntimeError: a worker process failed.
    """
    if workers < 0:
        raise ValueError(f"--workers must be at least 0, found {workers}")
    if initial is not None and len(initial) != config.episodes:
        raise ValueError(f"{len(initial)} initial conditions for {config.episodes} episodes")
    ids = config.ids
    size = min(config.envs, len(ids))
    asked = _Asked(with_memory(controller), params, config.seed, size)
    reached: list[Reached] = []
    seconds = compile_seconds = 0.0
    with _episodes(make_env, size, controller.window, workers) as episodes:
        for start in progress(range(0, len(ids), size)):
            chosen = ids[start : start + size]
            begin = time.perf_counter()
            histories = _in_order(episodes.begin(_starts(chosen, first_seed, initial)))
            if not reached:
                reset_seconds = time.perf_counter() - begin
                asked.start(histories, chosen)
                asked.actions(histories, 0)
                compile_seconds = time.perf_counter() - begin - reset_seconds
            asked.start(histories, chosen)
            _run(asked, episodes, histories, controller.execute, config.max_steps)
            reached += _in_order(episodes.reached())
            seconds += time.perf_counter() - begin
        metric = episodes.success_metric
    seconds -= compile_seconds
    own = np.zeros((len(ids), 0), np.float32) if initial is None else np.asarray(initial)[ids]
    return _results(reached, ids, own, metric, first_seed, seconds, compile_seconds)


def _episodes(
    make_env: Callable[[], HostEnvironment], size: int, window: int, workers: int
) -> HostEpisodes | WorkerEpisodes:
    if workers:
        return WorkerEpisodes(make_env, size, window, workers)
    return HostEpisodes(make_env, range(size), window)


def _starts(ids: np.ndarray, first_seed: int, initial: np.ndarray | None) -> dict[int, StartOf]:
    if initial is None:
        return {place: first_seed + int(i) for place, i in enumerate(ids)}
    return {place: np.asarray(initial[i]) for place, i in enumerate(ids)}


def _in_order(by_place: Mapping[int, Any]) -> list[Any]:
    return [by_place[place] for place in sorted(by_place)]


def _run(
    asked: "_Asked",
    episodes: HostEpisodes | WorkerEpisodes,
    histories: list[History],
    execute: int,
    limit: int,
) -> None:
    """Advances a batch until each of its episodes is over or at the time limit."""
    running = set(range(len(histories)))
    for step in range(0, limit, execute):
        actions = asked.actions(histories, step)
        for place, (history, over) in episodes.advance(
            {place: actions[place] for place in sorted(running)}, limit
        ).items():
            histories[place] = history
            if over:
                running.remove(place)
        if not running:
            return


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

    def start(self, histories: Sequence[History], ids: np.ndarray) -> None:
        """Begins the episodes `ids` [<= E]."""
        self._ids = np.resize(ids, self._size).astype(np.int32)
        self._memory = self._start(self._params, self._padded(histories), self._ids)

    def actions(self, histories: Sequence[History], step: int) -> np.ndarray:
        """Actions [E, execute, A] after `step` executed ones."""
        actions, self._memory = self._act(
            self._params, self._memory, self._padded(histories), self._ids, np.int32(step)
        )
        return np.asarray(actions)

    def _padded(self, histories: Sequence[History]) -> dict[str, np.ndarray]:
        padded = [histories[min(i, len(histories) - 1)] for i in range(self._size)]
        return {name: np.stack([h[name] for h in padded]) for name in padded[0]}


def _results(
    reached: list[Reached],
    ids: np.ndarray,
    initial: np.ndarray,
    success_metric: str,
    first_seed: int,
    seconds: float,
    compile_seconds: float,
) -> EpisodeResults:
    names = reached[0].final

    def series(values: str) -> dict[str, np.ndarray]:
        return {n: np.array([getattr(r, values)[n] for r in reached], np.float32) for n in names}

    return EpisodeResults(
        episode=ids,
        seed=first_seed + ids,
        initial=initial,
        length=np.array([r.length for r in reached], np.int32),
        success=np.array([r.solved for r in reached]),
        max_reward=np.array([r.max_reward for r in reached], np.float32),
        best=series("best"),
        final=series("final"),
        success_metric=success_metric,
        trajectory=None,
        seconds=seconds,
        compile_seconds=compile_seconds,
    )
