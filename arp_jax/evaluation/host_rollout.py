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
from arp_jax.evaluation.controllers import Controller, Decision
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.rollout import NOISE_STREAM, Progress, RolloutConfig, episode_keys
from arp_jax.specs import ActionSpec, ObservationSpec

FIRST_SEED = 100_000


class HostEnvironment(Protocol):
    """One environment on the host; `step` returns (observation, reward, done, metrics)."""

    name: str
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    success_metric: str

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
    controller: Controller,
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
    size = min(config.envs, config.episodes)
    envs = [make_env() for _ in range(size)]
    act = jax.jit(_batched_act(controller, config.seed))
    episodes: list[_Episode] = []
    seconds = compile_seconds = 0.0
    for start in progress(range(0, config.episodes, size)):
        count = min(size, config.episodes - start)
        begin = time.perf_counter()
        batch = [
            _Episode(env, first_seed + start + i, controller.window)
            for i, env in enumerate(envs[:count])
        ]
        if not episodes:
            reset_seconds = time.perf_counter() - begin
            _act_padded(act, params, batch, start, 0, size)
            compile_seconds = time.perf_counter() - begin - reset_seconds
        _run(act, params, batch, start, size, controller.execute, config.max_steps)
        seconds += time.perf_counter() - begin
        episodes += batch
    seconds -= compile_seconds
    return _results(episodes, envs[0].success_metric, first_seed, seconds, compile_seconds)


def _run(
    act: Any,
    params: Any,
    batch: list[_Episode],
    start: int,
    size: int,
    execute: int,
    limit: int,
) -> None:
    """Advances a batch until each of its episodes is solved or at the time limit."""
    for step in range(0, limit, execute):
        if all(episode.solved for episode in batch):
            return
        actions = _act_padded(act, params, batch, start, step, size)
        for episode, chosen in zip(batch, actions, strict=False):
            episode.advance(chosen, limit)


def _batched_act(controller: Controller, seed: int) -> Callable[..., jax.Array]:
    """(params, histories {name: [E, W, ...]}, ids [E], step []) -> actions [E, execute, A]."""

    def act(params: Any, history: Any, ids: jax.Array, step: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(
            episode_keys(seed, ids, NOISE_STREAM), step
        )
        decisions = Decision(history, keys, jax.numpy.broadcast_to(step, ids.shape), ids)
        return jax.vmap(controller.act, in_axes=(None, 0))(params, decisions)

    return act


def _act_padded(
    act: Any, params: Any, batch: list[_Episode], start: int, step: int, size: int
) -> np.ndarray:
    """Actions [E, execute, A]; a short last batch is padded so that one program serves all."""
    padded = [batch[min(i, len(batch) - 1)].history for i in range(size)]
    history = {name: np.stack([h[name] for h in padded]) for name in padded[0]}
    ids = np.arange(start, start + size, dtype=np.int32)
    return np.asarray(act(params, history, ids, np.int32(step)))


def _results(
    episodes: list[_Episode],
    success_metric: str,
    first_seed: int,
    seconds: float,
    compile_seconds: float,
) -> EpisodeResults:
    names = episodes[0].metrics[0]

    def series(name: str, pick: Callable[[list[float]], float]) -> np.ndarray:
        return np.array([pick([m[name] for m in e.metrics]) for e in episodes], np.float32)

    return EpisodeResults(
        episode=np.arange(len(episodes)),
        seed=first_seed + np.arange(len(episodes)),
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
