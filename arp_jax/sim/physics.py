"""What the MuJoCo engines share: the state between two control steps and how a `State` is made.

In: a task, an engine's readings. Out: `Physics` and `State`. Both engines call the same functions
here, so that observation, reward, success and memory cannot differ between them. No stepping.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import randomize
from arp_jax.sim.body_frames import POSE_READINGS
from arp_jax.sim.env import State
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.task import Memory, Readings, Start, Task
from arp_jax.specs import ActionSpec, ObservationSpec

# (readings, episode's model fields) -> {camera: uint8 [h, w, 3]}.
Draw = Callable[[Readings, dict[str, Array]], dict[str, Array]]


@struct.dataclass
class Physics:
    """One environment between two control steps.

    Attributes:
        readings: name -> array, see `task.READING_FIELDS`; always holds qpos and qvel.
        memory: of the task.
        start: how this episode began.
        solver: what only the engine understands.
    """

    readings: dict[str, Array]
    memory: Memory
    start: Start
    solver: Any = None


class OfTask:
    """What an environment says of its task; `task` and `randomize` are the environment's own."""

    task: Task
    randomize: tuple[FieldRange, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def action_spec(self) -> ActionSpec:
        """The task's action."""
        return self.task.action_spec

    @property
    def max_episode_steps(self) -> int:
        """Time limit in control steps."""
        return self.task.max_episode_steps

    @property
    def success_metric(self) -> str:
        """Key in `State.metrics` whose best value is an episode's score."""
        return self.task.success_metric

    def initial_condition(self, rng: Array) -> Array:
        """Draws float32 [K + R]: the task's numbers, then one for each randomised field."""
        if not self.randomize:
            return self.task.initial_condition(rng)
        own, other = jax.random.split(rng)
        drawn = randomize.draw(self.randomize, other)
        return jnp.concatenate([self.task.initial_condition(own), drawn])


def read_fields(task: Task, cameras: bool) -> tuple[str, ...]:
    """Readings that an engine must offer, in a fixed order without repetition."""
    wanted = ("qpos", "qvel", *task.fields, *(POSE_READINGS if cameras else ()))
    return tuple(dict.fromkeys(wanted))


def select_observations(task: Task, names: tuple[str, ...] | None) -> ObservationSpec:
    """The chosen part of the task's observation spec: all features, no camera, when None."""
    if names is None:
        names = tuple(f.name for f in task.observation_spec.features)
    return task.observation_spec.select(names)


def task_part(ranges: tuple[FieldRange, ...], initial: ArrayLike) -> Array:
    """The task's own numbers [K] of an initial condition [K + R]."""
    initial = jnp.asarray(initial, jnp.float32)
    return initial[: initial.shape[0] - len(ranges)]


def start_of(task: Task, ranges: tuple[FieldRange, ...], initial: ArrayLike) -> Start:
    """The start that an initial condition [K + R] means, with every array filled in."""
    model = task.load_model()
    own = task_part(ranges, initial)
    start = task.start(own)
    if model.nmocap and (start.mocap_pos is None or start.mocap_quat is None):
        bodies = np.flatnonzero(model.body_mocapid >= 0)
        bodies = bodies[np.argsort(model.body_mocapid[bodies])]
        if start.mocap_pos is None:
            start = start.replace(mocap_pos=jnp.asarray(model.body_pos[bodies], jnp.float32))  # type: ignore[attr-defined]
        if start.mocap_quat is None:
            start = start.replace(mocap_quat=jnp.asarray(model.body_quat[bodies], jnp.float32))  # type: ignore[attr-defined]
    draws = jnp.asarray(initial, jnp.float32)[own.shape[0] :]
    fields = randomize.apply(model, ranges, draws, start.fields)
    return start.replace(fields=fields, qpos=jnp.asarray(start.qpos, jnp.float32))  # type: ignore[attr-defined]


def make_state(task: Task, spec: ObservationSpec, draw: Draw | None, physics: Physics) -> State:
    """The State of one environment.

    An engine whose numbers are no longer finite has diverged: the reward is 0, success is False and
    the metric "diverged" is 1, whatever the task made of such numbers.
    """
    readings, memory = physics.readings, physics.memory
    outcome = task.outcome(readings, memory)
    finite = jnp.isfinite(readings["qpos"]).all() & jnp.isfinite(readings["qvel"]).all()
    features = task.observe(readings, memory)
    observation = {f.name: features[f.name] for f in spec.features}
    if spec.cameras:
        if draw is None:
            raise ValueError(f"task {task.name}: cameras are observed but nothing draws them")
        images = draw(readings, physics.start.fields)
        observation |= {c.name: images[c.name] for c in spec.cameras}
    metrics = {name: jnp.where(finite, value, 0.0) for name, value in outcome.metrics.items()}
    return State(
        physics=physics,
        observation=observation,
        reward=jnp.where(finite, outcome.reward, 0.0).astype(jnp.float32),
        done=outcome.success & finite,
        metrics=metrics | {"diverged": (~finite).astype(jnp.float32)},
    )
