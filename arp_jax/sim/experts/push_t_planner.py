"""Demonstrations of Push-T from the sampling planner, many at a time.

In: integer seeds. Out: one `Demonstration` per seed, success or not (the caller filters). Slots of
a fixed batch shape run the compiled search of `push_t_search`; a slot whose episode is over takes
the next seed. A demonstration is a function of its seed and of the configuration alone: it does not
matter which other seeds are planned beside it. No files, no rendering, no policy here.
"""

import collections
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from arp_jax.sim.experts.push_t_search import Episode, Piece, PlannerConfig, advance, start
from arp_jax.sim.push_t import geometry

__all__ = ["Demonstration", "PlannerConfig", "plan_demonstrations"]


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """One planned episode of T control steps.

    Attributes:
        seed: the integer it was made from.
        initial: float32 [5] raw initial condition (agent x, y, block x, y px, angle rad).
        actions: float32 [T, 2] executed agent targets, px.
        agent_pos: float32 [T, 2] px, before each action.
        block_pose: float32 [T, 3] px, px, rad (not wrapped), before each action.
        coverage: float32 [T] overlap with the goal after each action.
        success: whether the coverage passed 0.95 (the episode ends there).
    """

    seed: int
    initial: np.ndarray
    actions: np.ndarray
    agent_pos: np.ndarray
    block_pose: np.ndarray
    coverage: np.ndarray
    success: bool


@dataclasses.dataclass(frozen=True)
class _Programs:
    """The two compiled programs, each at its fixed batch shape [slots]."""

    start: Callable[[Array], tuple[Episode, Array]]
    advance: Callable[[Episode], tuple[Episode, Piece]]


@functools.cache
def _programs(config: PlannerConfig) -> _Programs:
    # Compiled ahead: worker threads that met an empty jit cache together would each compile.
    start_batch = jax.jit(jax.vmap(lambda seed: start(seed, config)))
    advance_batch = jax.jit(jax.vmap(lambda episode: advance(episode, config)))
    seeds = jax.ShapeDtypeStruct((config.slots,), jnp.int32)
    episodes, _ = jax.eval_shape(start_batch, seeds)
    return _Programs(
        start=start_batch.lower(seeds).compile(),
        advance=advance_batch.lower(episodes).compile(),
    )


class _Recorder:
    """Gathers the pieces of the demonstration that occupies one slot."""

    def __init__(self, index: int, seed: int, initial: np.ndarray) -> None:
        self.index = index
        self._seed = seed
        self._initial = initial
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        """Keeps the valid steps of a piece (numpy, unbatched)."""
        self._pieces.append(jax.tree.map(lambda field: field[piece.valid], piece))

    def finish(self) -> Demonstration:
        """The whole demonstration."""
        whole = jax.tree.map(lambda *fields: np.concatenate(fields), *self._pieces)
        return Demonstration(
            seed=self._seed,
            initial=self._initial,
            actions=whole.action,
            agent_pos=whole.agent_pos,
            block_pose=whole.block_pose,
            coverage=whole.coverage,
            success=bool(whole.coverage[-1] > geometry.SUCCESS_COVERAGE),
        )


class _Queue:
    """Seeds waiting to be planned and the finished demonstrations, shared by the worker threads."""

    def __init__(self, seeds: Sequence[int], bar: tqdm) -> None:
        self._lock = threading.Lock()
        self._waiting = collections.deque(enumerate(seeds))
        self._bar = bar
        self.finished: dict[int, Demonstration] = {}

    def take(self, count: int) -> list[tuple[int, int]]:
        """Up to `count` pairs (position in the result, seed)."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def put(self, index: int, demonstration: Demonstration) -> None:
        """Files a finished demonstration."""
        with self._lock:
            self.finished[index] = demonstration
            self._bar.update()
            succeeded = sum(d.success for d in self.finished.values())
            self._bar.set_postfix_str(f"success {succeeded / len(self.finished):.3f}")


def _work(queue: _Queue, config: PlannerConfig, programs: _Programs) -> None:
    """Plans until the queue is empty; a slot takes the next seed as soon as its episode is over."""
    recorders: list[_Recorder | None] = [None] * config.slots
    episodes: Episode | None = None
    while True:
        free = [slot for slot, recorder in enumerate(recorders) if recorder is None]
        taken = queue.take(len(free))
        if len(free) == config.slots and not taken:
            return
        if taken:
            seeds, fresh = np.zeros(config.slots, np.int32), np.zeros(config.slots, bool)
            for slot, (_, seed) in zip(free, taken, strict=False):
                seeds[slot], fresh[slot] = seed, True
            started, initial = programs.start(jnp.asarray(seeds))
            for slot, (index, seed) in zip(free, taken, strict=False):
                recorders[slot] = _Recorder(index, seed, np.array(initial[slot]))
            episodes = started if episodes is None else _choose(fresh, started, episodes)
        assert episodes is not None  # the first pass fills at least one slot
        episodes, pieces = programs.advance(episodes)
        done, pieces = np.asarray(episodes.done), jax.tree.map(np.asarray, pieces)
        for slot, recorder in enumerate(recorders):
            if recorder is None:
                continue
            recorder.add(jax.tree.map(lambda field, slot=slot: field[slot], pieces))
            if done[slot]:
                queue.put(recorder.index, recorder.finish())
                recorders[slot] = None


def _choose(fresh: np.ndarray, new: Episode, old: Episode) -> Episode:
    """`new` in the slots where `fresh` [slots] is True, `old` elsewhere."""

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(fresh.reshape(fresh.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, new, old)


def plan_demonstrations(
    seeds: Sequence[int], config: PlannerConfig | None = None, progress: bool = False
) -> list[Demonstration]:
    """Plans one demonstration per seed.

    Args:
        seeds: integers in [0, 2^31); the result for a seed does not depend on the others.
        config: see `PlannerConfig`; None for the defaults.
        progress: whether to draw a progress bar.

    Returns:
        Demonstrations in the order of `seeds`, failed ones (`success` False) included.

    Raises:
        ValueError: for a seed out of range.
    """
    config = PlannerConfig() if config is None else config
    seeds = [int(seed) for seed in seeds]
    for seed in seeds:
        if not 0 <= seed < 2**31:
            raise ValueError(f"plan_demonstrations: seed {seed} is not in [0, 2^31)")
    # XLA runs small elementwise programs on one core, so a thread per core plans its own slots.
    workers = max(1, min(os.cpu_count() or 1, -(-len(seeds) // config.slots)))
    with tqdm(total=len(seeds), desc="planning", unit="demo", disable=not progress) as bar:
        programs, queue = _programs(config), _Queue(seeds, bar)
        with ThreadPoolExecutor(workers) as pool:
            for job in [pool.submit(_work, queue, config, programs) for _ in range(workers)]:
                job.result()
    return [queue.finished[index] for index in range(len(seeds))]
