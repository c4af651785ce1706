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

from arp_jax.sim import randomize
from arp_jax.sim.body_frames import POSE_READINGS
from arp_jax.sim.env import State
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.task import Memory, Readings, Start, Task
from arp_jax.specs import ObservationSpec

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


def read_fields(task: Task, cameras: bool) -> tuple[str, ...]:
    """Readings that an engine must offer, in a fixed order without repetition."""
    wanted = ("qpos", "qvel", *task.fields, *(POSE_READINGS if cameras else ()))
    return tuple(dict.fromkeys(wanted))


def select_observations(task: Task, names: tuple[str, ...] | None) -> ObservationSpec:
    """The chosen part of the task's observation spec: all features, no camera, when None."""
    if names is None:
        names = tuple(f.name for f in task.observation_spec.features)
    return task.observation_spec.select(names)


def initial_condition(task: Task, ranges: tuple[FieldRange, ...], rng: Array) -> Array:
    """The task's draw [K], followed by one number for each randomised field [R]."""
    if not ranges:
        return task.initial_condition(rng)
    own, other = jax.random.split(rng)
    return jnp.concatenate([task.initial_condition(own), randomize.draw(ranges, other)])


def start_of(task: Task, ranges: tuple[FieldRange, ...], initial: Array) -> Start:
    """The start that an initial condition [K + R] means, with every array filled in."""
    model = task.load_model()
    initial = jnp.asarray(initial, jnp.float32)
    own = initial.shape[0] - len(ranges)
    start = task.start(initial[:own])
    if model.nmocap and (start.mocap_pos is None or start.mocap_quat is None):
        bodies = np.flatnonzero(model.body_mocapid >= 0)
        bodies = bodies[np.argsort(model.body_mocapid[bodies])]
        if start.mocap_pos is None:
            start = start.replace(mocap_pos=jnp.asarray(model.body_pos[bodies], jnp.float32))  # type: ignore[attr-defined]
        if start.mocap_quat is None:
            start = start.replace(mocap_quat=jnp.asarray(model.body_quat[bodies], jnp.float32))  # type: ignore[attr-defined]
    fields = randomize.apply(model, ranges, initial[own:], start.fields)
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
