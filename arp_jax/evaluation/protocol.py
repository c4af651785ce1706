"""What an evaluation is, apart from who is evaluated: episodes, seed, time limit, execution, shard.

Flows in: flags and config values. Flows out: frozen settings, and the keys from which every random
number of an episode follows: functions of (evaluation seed, episode id) and, for noise, of the
step. No environment and no policy here.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.control.execution import Execution

# Sub-streams of an episode's key.
INITIAL_STREAM, NOISE_STREAM = 0, 1

Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """How to evaluate.

    Attributes:
        episodes: N, number of episodes of the whole evaluation.
        envs: E, how many run side by side; changes speed, not outcomes.
        seed: evaluation seed; initial states and noise are functions of (seed, episode id).
        max_steps: time limit in control steps.
        shard: (i, n): only the episodes i, i + n, i + 2 n... are run here, the others elsewhere.
    """

    episodes: int = 256
    envs: int = 256
    seed: int = 0
    max_steps: int = 300
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        for name in ("episodes", "envs", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in 0..2**32-1, found {self.seed}")
        index, count = self.shard
        if not 0 <= index < count <= self.episodes:
            raise ValueError(
                f"--shard {index}/{count}: i/n needs 0 <= i < n <= {self.episodes} episodes"
            )

    @property
    def ids(self) -> np.ndarray:
        """int64 [M], the ids of the episodes that are run here."""
        index, count = self.shard
        return np.arange(index, self.episodes, count)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The `eval` section: the protocol. See `RolloutConfig` and `Execution` for the fields.

    Attributes:
        env: "push_t", a task of `arp_jax.sim.tasks`, or a gymnasium id (stepped on the host).
        max_steps: 0 for the environment's own time limit.
    """

    env: str = "push_t"
    episodes: int = 256
    envs: int = 256
    seed: int = 100_000
    execute: int = 8
    ensemble: float | None = None
    latency: int = 0
    blend: int = 0
    base_delay: int = 0
    drop_zeros: bool = False
    max_steps: int = 0

    @property
    def execution(self) -> Execution:
        """How predicted chunks are executed."""
        fields = [field.name for field in dataclasses.fields(Execution)]
        return Execution(**{name: getattr(self, name) for name in fields})


def parse_shard(text: str) -> tuple[int, int]:
    """ "i/n" -> (i, n); raises ValueError for anything else."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ValueError(f"--shard {text!r} is not of the form i/n, e.g. 0/4")
    return int(index), int(count)


def episode_keys(seed: int, episodes: jax.Array, stream: int) -> jax.Array:
    """Keys [E] of one sub-stream of the episodes int [E]: a function of (seed, episode id) only."""
    root = jax.random.key(np.uint32(seed))
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(root, i), stream))(episodes)


class DrawsStarts(Protocol):
    """The part of an environment that says how episodes begin."""

    def initial_condition(self, rng: jax.Array) -> jax.Array:
        """Draws a raw initial condition from a JAX key."""
        ...


def initial_conditions(env: DrawsStarts, seed: int, count: int) -> np.ndarray:
    """Initial conditions [N, ...] of episodes 0..N-1 under an evaluation seed."""
    keys = episode_keys(seed, jnp.arange(count, dtype=jnp.uint32), INITIAL_STREAM)
    return np.asarray(jax.jit(jax.vmap(env.initial_condition))(keys))


def chosen_initial_conditions(
    env: DrawsStarts, config: RolloutConfig, initial: np.ndarray | None
) -> np.ndarray:
    """Initial conditions [N, ...] of all episodes: the given ones, or those of the seed.

    Raises:
        ValueError: not one for each of the N episodes.
    """
    if initial is None:
        return initial_conditions(env, config.seed, config.episodes)
    if len(initial) != config.episodes:
        raise ValueError(f"{len(initial)} initial conditions for {config.episodes} episodes")
    return np.asarray(initial)
