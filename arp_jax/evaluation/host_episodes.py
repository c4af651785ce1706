"""E environments that live outside jax, stepped in this process or in several.

In: a factory of host environments, seeds or initial conditions, chunks of actions. Out: each
episode's observation history after a chunk, and what it has reached at its end. A worker process
steps its share of the environments through a whole chunk at each request, so that processes talk
once a chunk. No policy here (`host_rollout.py`).
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from arp_jax.control.history import push_observation, start_history
from arp_jax.specs import ActionSpec, ObservationSpec

History = dict[str, np.ndarray]
# An integer seed, or a raw initial condition [K].
StartOf = int | np.ndarray


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
        """Executes one action [A] in physical units.

        `done` means that the task is solved; where the metrics have "success" (0 or 1), that the
        episode is over, solved or not.
        """
        ...


class Reached(NamedTuple):
    """What an episode has reached: executed actions, solved, largest reward, metrics."""

    length: int
    solved: bool
    max_reward: float
    best: dict[str, float]
    final: dict[str, float]


class _Episode:
    """One episode in flight: its environment, what it sees and what it has reached."""

    def __init__(self, env: HostEnvironment, start: StartOf, window: int) -> None:
        self.env = env
        self.history: History = start_history(_reset(env, start), window)
        self.over = False
        self._length, self._solved, self._max_reward = 0, False, -np.inf
        self._best: dict[str, float] = {}
        self._final: dict[str, float] = {}

    def advance(self, actions: np.ndarray, limit: int) -> None:
        """Executes actions [execute, A] until the episode is over or at the time limit."""
        for action in actions:
            if self.over or self._length >= limit:
                return
            observation, reward, self.over, metrics = self.env.step(action)
            self.history = push_observation(self.history, observation)
            self._solved = self.over and metrics.get("success", 1.0) > 0
            self._max_reward = max(self._max_reward, reward)
            self._best = {k: max(v, self._best.get(k, v)) for k, v in metrics.items()}
            self._final = metrics
            self._length += 1

    @property
    def reached(self) -> Reached:
        """So far."""
        return Reached(self._length, self._solved, self._max_reward, self._best, self._final)


class HostEpisodes:
    """Up to E episodes in this process; places 0..E-1 have an environment each.

    Args:
        make_env: called once for each place.
        places: which places are here.
        window: W, observations in a history.
    """

    def __init__(
        self, make_env: Callable[[], HostEnvironment], places: Sequence[int], window: int
    ) -> None:
        self._envs = {place: make_env() for place in places}
        self._window = window
        self._episodes: dict[int, _Episode] = {}
        self.success_metric = next(iter(self._envs.values())).success_metric

    def begin(self, starts: Mapping[int, StartOf]) -> dict[int, History]:
        """Starts an episode in each named place; the histories {name: [W, ...]} of those."""
        self._episodes = {
            place: _Episode(self._envs[place], start, self._window)
            for place, start in starts.items()
        }
        return {place: episode.history for place, episode in self._episodes.items()}

    def advance(
        self, actions: Mapping[int, np.ndarray], limit: int
    ) -> dict[int, tuple[History, bool]]:
        """Executes [execute, A] in each named place; history and whether the episode is over."""
        for place, chunk in actions.items():
            self._episodes[place].advance(chunk, limit)
        return {p: (self._episodes[p].history, self._episodes[p].over) for p in actions}

    def reached(self) -> dict[int, Reached]:
        """What every episode has reached."""
        return {place: episode.reached for place, episode in self._episodes.items()}

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs.values():
            if hasattr(env, "close"):
                env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WorkerEpisodes:
    """The same as `HostEpisodes` with the environments in worker processes.

    Args:
        make_env: as there; must be picklable: a function at the top level of a module, or a
            `functools.partial` of one.
        size: E, number of places.
        window: W.
        workers: number of processes.

    Raises:
        RuntimeError: a worker failed; the message holds its traceback.
    """

    def __init__(
        self, make_env: Callable[[], HostEnvironment], size: int, window: int, workers: int
    ) -> None:
        # Forking would copy jax's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        count = min(workers, size)
        for index in range(count):
            here, there = context.Pipe()
            places = range(index, size, count)
            process = context.Process(
                target=_serve, args=(there, make_env, places, window), daemon=True
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        try:
            # All are waited for: the time of starting is not that of the first episode.
            metrics = [self._receive(pipe) for pipe in self._pipes]
            self.success_metric: str = metrics[0]
        except BaseException:
            self.close()
            raise

    def begin(self, starts: Mapping[int, StartOf]) -> dict[int, History]:
        """See `HostEpisodes.begin`."""
        return self._everywhere("begin", starts)

    def advance(
        self, actions: Mapping[int, np.ndarray], limit: int
    ) -> dict[int, tuple[History, bool]]:
        """See `HostEpisodes.advance`."""
        return self._everywhere("advance", actions, limit)

    def reached(self) -> dict[int, Reached]:
        """See `HostEpisodes.reached`."""
        for pipe in self._pipes:
            self._send(pipe, ("reached", ()))
        return self._collect()

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            pipe.close()  # the worker reads the end of its orders
        for process in self._processes:
            process.join(timeout=10)
            if process.is_alive():
                process.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _everywhere(self, order: str, by_place: Mapping[int, Any], *rest: Any) -> dict[int, Any]:
        """Sends each worker the places that it has, then waits for all."""
        count = len(self._pipes)
        for index, pipe in enumerate(self._pipes):
            share = {place: v for place, v in by_place.items() if place % count == index}
            self._send(pipe, (order, (share, *rest)))
        return self._collect()

    def _collect(self) -> dict[int, Any]:
        return {
            place: value for pipe in self._pipes for place, value in self._receive(pipe).items()
        }

    @staticmethod
    def _send(pipe: Connection, order: tuple[str, tuple]) -> None:
        try:
            pipe.send(order)
        except OSError as error:
            raise RuntimeError("a worker process of the environments died") from error

    @staticmethod
    def _receive(pipe: Connection) -> Any:
        try:
            worked, content = pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a worker process of the environments died") from error
        if not worked:
            raise RuntimeError(f"an environment failed in a worker process:\n{content}")
        return content


def _reset(env: HostEnvironment, start: StartOf) -> dict[str, np.ndarray]:
    if not isinstance(start, np.ndarray):
        return env.reset(start)
    reset_to = getattr(env, "reset_to", None)
    if reset_to is None:
        raise ValueError(f"{env.name} cannot start from a given initial condition, only from seeds")
    return reset_to(start)


def _serve(
    pipe: Connection, make_env: Callable[[], HostEnvironment], places: Sequence[int], window: int
) -> None:
    """A worker: carries out orders until the pipe is closed."""
    # An environment that computes with jax must not take the accelerator from the policy; one that
    # does not need not import it.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    episodes = None
    try:
        episodes = HostEpisodes(make_env, places, window)
        pipe.send((True, episodes.success_metric))
        while True:
            order, arguments = pipe.recv()
            pipe.send((True, getattr(episodes, order)(*arguments)))
    except (EOFError, BrokenPipeError):
        # The other side has closed the pipe: that is how a worker is told to end.
        return
    except Exception:
        pipe.send((False, traceback.format_exc()))
    finally:
        if episodes is not None:
            episodes.close()
