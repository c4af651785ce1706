"""Scripted experts at work in the native engine, many at a time: what recordings are made of.

In: a task, its expert, a seed. Out: episodes in the order of their tries. Try number i draws its
initial condition and its noise from (seed, i) alone, and tries are always simulated in the same
batches of E, so that the first episodes of a longer recording are those of a shorter one. No
pictures (`render_pool.py`), no files (`record.py`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from arp_jax.sim import compiler
from arp_jax.sim.cameras import camera_at, camera_record
from arp_jax.sim.env import State
from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.task import Start, Task
from arp_jax.specs import CameraSpec

# Sub-streams of a try's key. Evaluation numbers its streams from 0: a recording and an evaluation
# of the same seed must not share initial states.
_INITIAL_STREAM, _EXPERT_STREAM = 101, 102
# Readings that tell where cameras are.
_POSES = ("xpos", "xquat")
# Give up when fewer than one try in this many succeeds: something is broken then.
_MAX_TRIES_PER_EPISODE = 8


@dataclasses.dataclass(frozen=True)
class TryConfig:
    """How tries are made.

    Attributes:
        seed: of all random numbers.
        noise: half width of the expert's disturbance, m.
        envs: E, simulations side by side.
        threads: C threads, 0 for one a core; does not change episodes.
        full_length: go on to the task's time limit instead of ending at the first success.
    """

    seed: int = 0
    noise: float = 0.0
    envs: int = 64
    threads: int = 0
    full_length: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in 0..2**32-1, found {self.seed}")
        if not self.noise >= 0:
            raise ValueError(f"--noise must be at least 0 m, found {self.noise}")
        if self.envs < 1:
            raise ValueError(f"--envs must be at least 1, found {self.envs}")


@dataclasses.dataclass(frozen=True)
class Episode:
    """One try of T steps.

    Attributes:
        attempt: number of the try.
        initial: float32 [K].
        start: how the simulation began (numpy leaves).
        observation: vector features before each action, name -> float32 [T, size].
        action: float32 [T, A], within the limits of the action spec.
        reward: float32 [T], after the action.
        done: bool [T], the success condition after the action.
        qpos, qvel: float32 [T, nq], [T, nv], before the action.
        poses: xpos [nbody, 3] and xquat [nbody, 4] before the first action.
    """

    attempt: int
    initial: np.ndarray
    start: Start
    poses: dict[str, np.ndarray]
    observation: dict[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray

    @property
    def success(self) -> bool:
        """Whether the task was solved at any step."""
        return bool(self.done.any())


@dataclasses.dataclass
class Tally:
    """How many tries were made and how many of them succeeded."""

    tried: int = 0
    succeeded: int = 0


class ExpertRunner:
    """E simulations driven by an expert.

    Args:
        task: what is done.
        expert: who does it.
        config: how.
    """

    def __init__(self, task: Task, expert: Expert, config: TryConfig) -> None:
        self.task, self.config, self._execute = task, config, expert.execute
        self._env = NativeEnv(_with_poses(task), config.envs, config.threads)
        self._draw, self._start, self._act = _programs(task, expert)

    def batch(self, number: int) -> list[Episode]:
        """Tries number * E .. (number + 1) * E - 1."""
        size = self.config.envs
        attempts = np.arange(number * size, (number + 1) * size, dtype=np.uint32)
        root = jax.random.key(np.uint32(self.config.seed))
        initial, keys = self._draw(root, attempts)
        initial = np.asarray(initial, np.float32)
        memory = self._start(initial, keys, jnp.float32(self.config.noise))
        state = self._env.reset(initial)
        first = {
            "initial": initial,
            "start": state.physics.start,
            "poses": {name: state.physics.readings[name] for name in _POSES},
        }
        steps = self._simulate(state, memory)
        return [_cut(steps, first, row, int(attempts[row])) for row in range(size)]

    def _simulate(self, state: State, memory: Any) -> dict[str, Any]:
        """Runs one batch to its end; returns stacked steps, leaves [T, E, ...]."""
        spec = self.task.action_spec
        low, high = np.asarray(spec.low, np.float32), np.asarray(spec.high, np.float32)
        active = np.ones(self.config.envs, bool)
        steps: list[dict[str, Any]] = []
        chunk = np.empty(0)
        for step in range(self.task.max_episode_steps):
            place = step % self._execute
            if place == 0:
                chunk, memory = self._act(memory, state.observation, state.physics.readings)
                chunk = np.clip(np.asarray(chunk, np.float32), low, high)  # [E, execute, A]
            before = state
            state = self._env.step(chunk[:, place], active)
            steps.append(
                {
                    "observation": before.observation,
                    "action": chunk[:, place],
                    "reward": state.reward,
                    "done": state.done,
                    "qpos": before.physics.readings["qpos"],
                    "qvel": before.physics.readings["qvel"],
                    "active": active,
                }
            )
            # After numbers that are not finite there is nothing to record.
            active = active & ~(np.asarray(state.metrics["diverged"]) > 0)
            if not self.config.full_length:
                active = active & ~np.asarray(state.done)
            if not active.any():
                break
        return jax.tree.map(lambda *values: np.stack(values), *steps)


@functools.cache
def _with_poses(task: Task) -> Task:
    return dataclasses.replace(task, fields=tuple(dict.fromkeys((*task.fields, *_POSES))))


@functools.cache
def _programs(task: Task, expert: Expert) -> tuple[Callable[..., Any], ...]:
    """Drawing, planning and acting of a batch, jitted; cached, so that runners share them."""

    def draw(root: jax.Array, attempt: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(root, attempt)
        initial = task.initial_condition(jax.random.fold_in(key, _INITIAL_STREAM))
        return initial, jax.random.fold_in(key, _EXPERT_STREAM)

    jit = functools.partial(jax.jit, compiler_options=compiler.options())
    return (
        jit(jax.vmap(draw, in_axes=(None, 0))),
        jit(jax.vmap(expert.start, in_axes=(0, 0, None))),
        jit(jax.vmap(expert.act)),
    )


def _cut(steps: dict[str, Any], first: dict[str, Any], row: int, attempt: int) -> Episode:
    """Episode of one simulation, without the steps after its end."""
    length = int(steps["active"][:, row].sum())
    own = jax.tree.map(lambda values: values[:length, row].copy(), steps)
    del own["active"]
    return Episode(
        attempt=attempt, **jax.tree.map(lambda values: np.array(values[row]), first), **own
    )


def recorded_episodes(
    runner: ExpertRunner, count: int, keep_failures: bool, tally: Tally
) -> Iterator[Episode]:
    """The first `count` successes (or tries, with `keep_failures`), in the order of the tries.

    Args:
        tally: counts all tries that were simulated.

    Raises:
        ValueError: almost no try succeeds.
    """
    kept = number = 0
    while kept < count:
        limit = max(_MAX_TRIES_PER_EPISODE * count, 4 * runner.config.envs)
        if tally.tried >= limit and not keep_failures:
            raise ValueError(
                f"task {runner.task.name}: {tally.succeeded} of {tally.tried} tries of the expert "
                f"succeeded, {count} episodes were asked for; lower --noise or keep failures"
            )
        episodes = runner.batch(number)
        number += 1
        tally.tried += len(episodes)
        tally.succeeded += sum(episode.success for episode in episodes)
        for episode in episodes:
            if kept < count and (keep_failures or episode.success):
                kept += 1
                yield episode


def stack_actions(episodes: Sequence[Episode], length: int) -> np.ndarray:
    """Actions [length, E, A] of E episodes; one that ended earlier repeats its last action."""
    padded = [np.pad(e.action, ((0, length - len(e.action)), (0, 0)), "edge") for e in episodes]
    return np.stack(padded, 1)


def camera_records(
    task: Task, episode: Episode, cameras: tuple[CameraSpec, ...]
) -> dict[str, dict[str, Any]]:
    """Calibration of each camera at the first step; one on a moving body says so by its body."""
    model = task.load_model()
    records = {}
    for camera in cameras:
        placed = camera_at(
            model, episode.poses, camera.name, camera.height, camera.width, episode.start.fields
        )
        body = model.body(int(model.cam(camera.name).bodyid[0])).name
        records[camera.name] = camera_record(placed) | {"body": body}
    return records


def feature_velocity(task: Task, feature: str, episode: Episode) -> np.ndarray:
    """Time derivative float32 [T, size] of a vector feature that depends on joint positions.

    Exact, by differentiating `task.observe`, so that it has the feature's units and normalisation.
    """
    model = task.load_model()
    simple = np.isin(
        model.jnt_type, (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    )
    rates = np.zeros_like(episode.qpos)
    rates[:, model.jnt_qposadr[simple]] = episode.qvel[:, model.jnt_dofadr[simple]]
    return np.asarray(_velocity(task, feature, episode.initial, episode.qpos, rates))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _velocity(
    task: Task, feature: str, initial: np.ndarray, qpos: np.ndarray, rates: np.ndarray
) -> jax.Array:
    model = task.load_model()
    sizes = {"qvel": (model.nv,), "xpos": (model.nbody, 3), "xquat": (model.nbody, 4)}
    sizes |= {"geom_xpos": (model.ngeom, 3), "geom_xmat": (model.ngeom, 3, 3)}
    sizes |= {"site_xpos": (model.nsite, 3), "site_xmat": (model.nsite, 3, 3)}
    # Only qpos matters to the feature; the other readings are placeholders of the right shape.
    rest = {name: jnp.zeros(shape) for name, shape in sizes.items()}

    def value(positions: jax.Array) -> jax.Array:
        readings = rest | {"qpos": positions}
        memory = task.start_memory(jnp.asarray(initial), readings)
        return task.observe(readings, memory)[feature]

    derivative = jax.vmap(lambda q, rate: jax.jvp(value, (q,), (rate,))[1])
    return derivative(jnp.asarray(qpos), jnp.asarray(rates))
