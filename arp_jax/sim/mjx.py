"""The MJX engines: a task stepped in JAX ("mjx") or in NVIDIA Warp ("mjx-warp"), inside jit.

In: a `Task`, an initial condition, actions. Out: `State`s of one environment; callers vmap, scan
and shard. The carried state is small (positions, velocities, the solver's last answer): everything
else of MJX's data is made anew in each control step.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import physics as shared
from arp_jax.sim.env import State
from arp_jax.sim.physics import Physics
from arp_jax.sim.quiet_mjx import mjx
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.raycast import make_ray_caster
from arp_jax.sim.task import Task
from arp_jax.specs import ObservationSpec

IMPLEMENTATIONS = ("jax", "warp")
# Room for contacts and constraint rows of one environment in Warp, which allocates before it looks.
WARP_CONTACTS, WARP_ROWS = 64, 384


@functools.cache
def _put(task: Task, impl: str, worlds: int) -> tuple[mjx.Model, mjx.Data]:
    # Built eagerly even when the first call comes from inside a trace, or tracers would be cached.
    with jax.ensure_compile_time_eval():
        model = mjx.put_model(task.load_model(), impl=impl)
        if impl == "jax":
            return model, mjx.make_data(model, impl=impl)
        room = {"naconmax": WARP_CONTACTS * worlds, "njmax": WARP_ROWS}
        model = _without_iteration_warnings(model)
        return model, mjx.make_data(task.load_model(), impl=impl, **room)


def _without_iteration_warnings(model: mjx.Model) -> mjx.Model:
    """Warp prints a line whenever the solver stops at its limit, which these scenes intend.

    Warnings of contacts or rows that do not fit remain.
    """
    from mujoco.mjx.third_party.mujoco_warp import OverflowType

    keep = int(OverflowType.ALL) & ~int(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)
    options = model.opt._impl.replace(warn_overflow=keep)
    return model.replace(opt=model.opt.replace(_impl=options))


@functools.cache
def _draw(task: Task, spec: ObservationSpec) -> shared.Draw | None:
    return make_ray_caster(task.load_model(), spec.cameras) if spec.cameras else None


@dataclasses.dataclass(frozen=True)
class MjxEnv(shared.OfTask):
    """A task in MJX (an `Environment`).

    Attributes:
        task: what is done.
        impl: "jax", or "warp" (needs the extra `arp_jax[warp]`).
        observations: names out of the task's spec; None for all features and no camera.
        randomize: model fields that vary from episode to episode.
        worlds: largest number of environments under vmap; "warp" reserves contacts for so many.

    Raises:
        ValueError: unknown implementation or observation.
        ImportError: Warp is not installed.
    """

    task: Task
    impl: str = "jax"
    observations: tuple[str, ...] | None = None
    randomize: tuple[FieldRange, ...] = ()
    worlds: int = 1024

    def __post_init__(self) -> None:
        if self.impl not in IMPLEMENTATIONS:
            raise ValueError(f"impl={self.impl!r} is unknown; choose one of {IMPLEMENTATIONS}")
        if self.impl == "warp":
            _check_warp()
        if self.observations is not None:
            object.__setattr__(self, "observations", tuple(self.observations))
        object.__setattr__(self, "randomize", tuple(self.randomize))
        shared.select_observations(self.task, self.observations)

    @property
    def observation_spec(self) -> ObservationSpec:
        """Specs of the chosen observations."""
        return shared.select_observations(self.task, self.observations)

    def reset_to(self, initial: ArrayLike) -> State:
        """The state at the start of the episode with initial condition [K + R]."""
        start = shared.start_of(self.task, self.randomize, initial)
        _, data = _put(self.task, self.impl, self.worlds)
        qvel = jnp.zeros_like(data.qvel)
        begin = Physics({"qpos": start.qpos, "qvel": qvel}, {}, start, jnp.zeros_like(data.qacc))
        readings = self._read(mjx.kinematics(*self._load(begin)))
        memory = self.task.start_memory(shared.task_part(self.randomize, initial), readings)
        return self._state(begin.replace(readings=readings, memory=memory))  # type: ignore[attr-defined]

    def reset(self, rng: Array) -> State:
        """State after a draw from the task's reset distribution."""
        return self.reset_to(self.initial_condition(rng))

    def step(self, state: State, action: ArrayLike) -> State:
        """One control step; a finished state goes on moving."""
        physics, task = state.physics, self.task
        action = jnp.asarray(action, jnp.float32)
        rows = task.control(action, physics.readings, physics.memory)  # [P, nu]
        model, data = self._load(physics)

        def substep(data: mjx.Data, _: None) -> tuple[mjx.Data, None]:
            return mjx.step(model, data), None

        def hold(data: mjx.Data, row: Array) -> tuple[mjx.Data, None]:
            data = data.replace(ctrl=row)
            return jax.lax.scan(substep, data, None, length=task.substeps)[0], None

        data, _ = jax.lax.scan(hold, data, rows)
        # A step leaves positions of bodies as they were before its last integration.
        data = mjx.kinematics(model, data)
        readings = self._read(data)
        memory = task.remember(physics.memory, readings, action)
        after = Physics(readings, memory, physics.start, data.qacc_warmstart)
        return self._state(after)

    def _load(self, physics: Physics) -> tuple[mjx.Model, mjx.Data]:
        """MJX's model with this episode's fields, and data at the state's positions."""
        model, data = _put(self.task, self.impl, self.worlds)
        fields = {k: v for k, v in physics.start.fields.items() if hasattr(model, k)}
        if fields:
            model = model.tree_replace(fields)
        changes: dict[str, Any] = {
            "qpos": physics.readings["qpos"],
            "qvel": physics.readings["qvel"],
            "qacc_warmstart": physics.solver,
        }
        if physics.start.mocap_pos is not None:
            changes |= {
                "mocap_pos": physics.start.mocap_pos,
                "mocap_quat": physics.start.mocap_quat,
            }
        return model, data.replace(**changes)

    def _read(self, data: mjx.Data) -> dict[str, Array]:
        cameras = bool(self.observation_spec.cameras)
        return {name: getattr(data, name) for name in shared.read_fields(self.task, cameras)}

    def _state(self, physics: Physics) -> State:
        spec = self.observation_spec
        return shared.make_state(self.task, spec, _draw(self.task, spec), physics)


def _check_warp() -> None:
    try:
        import warp
    except ImportError as error:
        raise ImportError(
            "engine 'mjx-warp' needs NVIDIA Warp: pip install 'arp_jax[warp]'"
        ) from error
    # It prints a line for each kernel that it compiles.
    warp.config.log_level = warp.LOG_WARNING
