"""What a task in MuJoCo is: a model and a few pure functions, the same for every engine.

A `Task` says how an episode starts, what an action does to the controls, what the policy sees and
what counts. Its functions are written in JAX for one environment and read nothing but `Readings`:
positions that each engine computes alike. They never look at contacts or at an engine's state, so
that `native.py` (C MuJoCo) and `mjx.py` (JAX, Warp) give the same answers. No stepping here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import mujoco
from flax import struct
from jax import Array

from arp_jax.specs import ActionSpec, ObservationSpec

Readings = Mapping[str, Array]
Memory = Any

# MjData fields that a task may read, all from the position stage at the end of a control step:
# qpos [nq], qvel [nv], xpos [nbody, 3], xquat [nbody, 4] (w, x, y, z), geom_xpos [ngeom, 3],
# geom_xmat [ngeom, 3, 3], site_xpos [nsite, 3], site_xmat [nsite, 3, 3]. Metres, radians, world.
READING_FIELDS = (
    "qpos",
    "qvel",
    "xpos",
    "xquat",
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
)


@struct.dataclass
class Start:
    """How an episode begins; velocities are zero.

    Attributes:
        qpos: float32 [nq].
        mocap_pos, mocap_quat: float32 [nmocap, 3], [nmocap, 4], fixed for the episode; None for a
            model without mocap bodies.
        fields: MjModel field name -> value for this episode, e.g. {"geom_rgba": [ngeom, 4]}.
    """

    qpos: Array
    mocap_pos: Array | None = None
    mocap_quat: Array | None = None
    fields: dict[str, Array] = struct.field(default_factory=dict)


@struct.dataclass
class Outcome:
    """What counts at one time.

    Attributes:
        reward: float32 [].
        success: bool [], the success condition at this very time (it does not latch).
        metrics: name -> float32 [].
    """

    reward: Array
    success: Array
    metrics: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Factor:
    """A property of an episode's start by which results are broken down.

    Attributes:
        name: e.g. "quadrant".
        values: names of the classes.
        classify: initial condition float32 [K] -> int32 [], place in `values`.
    """

    name: str
    values: tuple[str, ...]
    classify: Callable[[Array], Array]


def direct_control(action: Array, readings: Readings, memory: Memory) -> Array:
    """The action is the control vector: [nu] -> [1, nu]."""
    del readings, memory
    return action[None]


def no_memory(initial: Array, readings: Readings) -> Memory:
    """A task whose outcome depends on the present alone."""
    del initial, readings
    return {}


def keep_memory(memory: Memory, readings: Readings, action: Array) -> Memory:
    """Nothing to remember."""
    del readings, action
    return memory


@dataclasses.dataclass(frozen=True)
class Task:
    """A task; build it once (`tasks.make_task` caches), it is compared by identity.

    Functions are pure JAX for one environment. `K` numbers describe an initial condition.

    Attributes:
        name: as on the command line, e.g. "transfer_cube".
        load_model: the compiled MuJoCo model (cached by its maker).
        observation_spec: everything that the task can show; cameras are rendered by the engine.
        action_spec: the action and its rate.
        substeps: physics steps for each row that `control` returns.
        max_episode_steps: time limit in control steps.
        success_metric: key of `Outcome.metrics` whose best value is the episode's score.
        initial_condition: key -> float32 [K].
        start: float32 [K] -> Start.
        observe: (readings, memory) -> {feature name: float32 [size]}, the vector features.
        outcome: (readings, memory) -> Outcome, at the end of a control step.
        fields: the `READING_FIELDS` that these functions use.
        control: (action [A], readings before the step, memory) -> ctrl [P, nu]; row p is held for
            `substeps` physics steps. P is fixed, 1 for joint targets, many for key-frame actions.
        start_memory: (initial [K], readings at the start) -> memory, a pytree of arrays.
        remember: (memory, readings after the step, action) -> memory.
        sub_goals: what reward >= 1, 2, ... means; empty when rewards are not stages.
        factors: for the breakdown of results.
        instruction: host function, initial float [K] -> sentence; None without language.
        initial_names: names of the K numbers.
    """

    name: str
    load_model: Callable[[], mujoco.MjModel]
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    substeps: int
    max_episode_steps: int
    success_metric: str
    initial_condition: Callable[[Array], Array]
    start: Callable[[Array], Start]
    observe: Callable[[Readings, Memory], dict[str, Array]]
    outcome: Callable[[Readings, Memory], Outcome]
    fields: tuple[str, ...]
    control: Callable[[Array, Readings, Memory], Array] = direct_control
    start_memory: Callable[[Array, Readings], Memory] = no_memory
    remember: Callable[[Memory, Readings, Array], Memory] = keep_memory
    sub_goals: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()
    instruction: Callable[[Any], str] | None = None
    initial_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in self.fields:
            if field not in READING_FIELDS:
                raise ValueError(f"task {self.name}: {field!r} is none of {READING_FIELDS}")

    # Identity: models and functions are made once, and a static argument of jit must be hashable.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def physics_steps(self) -> int:
        """Physics steps in one control step: control rows times substeps."""
        seconds = 1.0 / self.action_spec.rate_hz
        return round(seconds / float(self.load_model().opt.timestep))


def staged_outcome(reward: Array, full: float) -> Outcome:
    """The outcome of a task whose reward counts stages; success = the last stage is reached."""
    reward = jnp.asarray(reward, jnp.float32)
    return Outcome(reward=reward, success=reward >= full, metrics={"reward": reward})
