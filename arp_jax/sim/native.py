"""The native engine: a task stepped by C MuJoCo, many simulations on all cores.

In: a `Task`, initial conditions [E, K], actions [E, A]. Out: batched `State`s of numpy arrays. The
simulations live in a `mujoco.batch.Batch`, so this environment is an object with a state, on the
host: the caller steps it once a control step and asks a jitted policy once a chunk. The task's own
functions run jitted on the CPU, the same code as in MJX.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from arp_jax.sim import physics as shared
from arp_jax.sim.compiler import CPU_OPTIONS
from arp_jax.sim.env import State
from arp_jax.sim.physics import Physics
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.raycast import make_ray_caster
from arp_jax.sim.task import Start, Task
from arp_jax.specs import ObservationSpec

# Fields that only pictures need: simulations do not read them.
VISUAL_FIELDS = ("geom_rgba",)
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value
_NONE = mujoco.mjtStage.mjSTAGE_NONE.value


class NativeEnv(shared.OfTask):
    """E simulations of one task.

    Args:
        task: what is done.
        envs: E, number of simulations.
        threads: C threads; 0 for one a core.
        observations: names out of the task's spec; None for all features and no camera.
        randomize: model fields that vary from episode to episode.
        draw: makes pictures of one environment (readings, fields) -> {camera: uint8 [h, w, 3]} in
            JAX; None for this project's ray caster.

    Raises:
        ValueError: unknown observation, or envs below 1.
    """

    def __init__(
        self,
        task: Task,
        envs: int,
        threads: int = 0,
        observations: tuple[str, ...] | None = None,
        randomize: tuple[FieldRange, ...] = (),
        draw: shared.Draw | None = None,
    ) -> None:
        if envs < 1:
            raise ValueError(f"envs must be at least 1, found {envs}")
        self.task, self.envs, self.randomize = task, envs, tuple(randomize)
        self.observation_spec = shared.select_observations(task, observations)
        cameras = self.observation_spec.cameras
        if cameras and draw is None:
            draw = make_ray_caster(task.load_model(), cameras)
        model = copy.copy(task.load_model())
        # A simulation that diverges must be seen to, not start again from its reference pose.
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        # A persistent batch goes on from the positions that it computed for the readings.
        self._batch = Batch(model, envs, threads, persistent=True)
        self._fields = shared.read_fields(task, bool(cameras))
        self._outputs = {name: self._batch.bind(name) for name in self._fields}
        self._begin, self._control, self._finish = _programs(
            task, self.observation_spec, self.randomize, draw
        )
        self._state: State | None = None

    def reset(self, initial: np.ndarray) -> State:
        """Starts E episodes.

        Args:
            initial: float32 [E, K + R].

        Returns:
            The first State; every leaf is a numpy array with leading axis E.
        """
        initial = np.asarray(initial, np.float32)
        if len(initial) != self.envs:
            raise ValueError(f"{len(initial)} initial conditions for {self.envs} simulations")
        with _on_cpu():
            start = jax.device_get(self._begin.start(initial))
        self._write_start(start)
        self._batch.forward(stage=_CURRENT)
        with _on_cpu():
            self._state = jax.device_get(self._begin.state(self._readings(), start, initial))
        return self._state

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> State:
        """One control step of the active simulations; the others stay as they are.

        Args:
            actions: float [E, A], in the units of `action_spec`.
            active: bool [E]; None for all.

        Raises:
            RuntimeError: before the first `reset`.
        """
        if self._state is None:
            raise RuntimeError("NativeEnv.step before reset")
        if active is not None and not np.any(active):
            return self._state
        ids = None if active is None or np.all(active) else np.flatnonzero(active)
        actions = np.asarray(actions, np.float32)
        before = self._state.physics
        with _on_cpu():
            rows = np.asarray(self._control(actions, before.readings, before.memory))  # [E, P, nu]
        chosen = slice(None) if ids is None else ids
        for place in range(rows.shape[1]):
            last = place == rows.shape[1] - 1
            self._batch.ctrl[chosen] = rows[chosen, place]
            self._batch.step(ids, self.task.substeps, _CURRENT if last else _NONE)
        with _on_cpu():
            moved = np.ones(self.envs, bool) if active is None else np.asarray(active, bool)
            self._state = jax.device_get(
                self._finish(self._readings(), actions, moved, self._state)
            )
        return self._state

    def _readings(self) -> dict[str, np.ndarray]:
        # Engines keep float64; the task's functions are float32 everywhere.
        readings = {}
        for name, values in self._outputs.items():
            values = np.array(values, np.float32)
            if name.endswith("xmat"):
                values = values.reshape(*values.shape[:2], 3, 3)
            readings[name] = values
        return readings

    def _write_start(self, start: Start) -> None:
        batch = self._batch
        batch.reset(stage=_NONE)
        batch.qpos[:] = start.qpos
        batch.qvel[:] = 0.0
        if start.mocap_pos is not None:
            batch.mocap_pos[:] = start.mocap_pos
            batch.mocap_quat[:] = start.mocap_quat
        constants = False
        for name, values in start.fields.items():
            if name in VISUAL_FIELDS:
                continue
            batch.expand(name)[:] = values
            constants |= name in mujoco.MjModel._setconst_inputs
        if constants:
            batch.set_const()


class _Begin:
    """The two programs of a reset."""

    def __init__(self, start: Callable[..., Any], state: Callable[..., Any]) -> None:
        self.start, self.state = _jit(start), _jit(state)


@functools.cache
def _programs(
    task: Task,
    spec: ObservationSpec,
    ranges: tuple[FieldRange, ...],
    draw: shared.Draw | None,
) -> tuple[_Begin, Callable[..., Any], Callable[..., Any]]:
    """The task's functions, batched and jitted; cached, so that environments share them."""

    def start(initial: jax.Array) -> Start:
        return shared.start_of(task, ranges, initial)

    def first(readings: Any, start: Start, initial: jax.Array) -> State:
        memory = task.start_memory(shared.task_part(ranges, initial), readings)
        return shared.make_state(task, spec, draw, Physics(readings, memory, start))

    def finish(readings: Any, action: jax.Array, moved: jax.Array, old: State) -> State:
        before = old.physics
        memory = task.remember(before.memory, readings, action)
        new = shared.make_state(task, spec, draw, Physics(readings, memory, before.start))
        # Simulations that were left alone keep their state, above all their memory.
        return jax.tree.map(lambda a, b: jnp.where(moved, a, b), new, old)

    return _Begin(start, first), _jit(task.control), _jit(finish)


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    # These programs always run on the CPU.
    return jax.jit(jax.vmap(function), compiler_options=CPU_OPTIONS)


def _on_cpu() -> Any:
    """These small programs stay beside the C simulations, also where a GPU is the default."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])
