"""Push-T on MJX: the planar MuJoCo model `sim/assets/push_t.xml` behind the engine protocol.

In: a raw initial condition [5] or an action [2] (agent target, px). Out: a small physics pytree and
the agent position and block pose it stands for. One environment, unbatched: callers vmap and scan.
This is the cross-check of the analytic engine (median 0.1 px apart over a human demonstration), and
the proof that the MJX path works; it is slower, and evaluation uses the analytic one by default.
"""

import functools
from importlib import resources

import jax
import jax.numpy as jnp
import mujoco
from flax import struct
from jax import Array

from arp_jax.sim.push_t import geometry
from arp_jax.sim.quiet_mjx import mjx

AGENT = slice(0, 2)  # qpos/qvel of the agent's two slides
BLOCK = slice(2, 5)  # qpos/qvel of the block's centre of gravity (x, y) and angle


@struct.dataclass
class MjxPhysics:
    """State between two control steps. `qpos`/`qvel` [5] float32: agent x y, block CoG x y, angle.

    The block carries no velocity from one substep to the next (the world's damping removes it), so
    only the agent's part of `qvel` is ever non-zero. `warmstart` [5] is the last solution `qacc`.
    """

    qpos: Array
    qvel: Array
    warmstart: Array


@functools.cache
def load_model() -> mujoco.MjModel:
    """The MuJoCo model compiled from the packaged MJCF."""
    xml = resources.files("arp_jax.sim") / "assets" / "push_t.xml"
    return mujoco.MjModel.from_xml_string(xml.read_text())


@functools.cache
def _load_mjx() -> tuple[mjx.Model, mjx.Data]:
    # Built eagerly even when the first call comes from inside a trace, or tracers would be cached.
    with jax.ensure_compile_time_eval():
        model = mjx.put_model(load_model(), impl="jax")
        return model, mjx.make_data(model, impl="jax")


def _block_velocity(physics: MjxPhysics) -> tuple[Array, Array]:
    """Velocity [3] that contacts give the resting block in one substep, and the solver's qacc."""
    model, data = _load_mjx()
    data = data.replace(qpos=physics.qpos, qvel=physics.qvel, qacc_warmstart=physics.warmstart)
    acceleration = mjx.forward(model, data).qacc
    return acceleration[BLOCK] * geometry.SUBSTEP_SECONDS, acceleration


def _substep(physics: MjxPhysics, target: Array) -> MjxPhysics:
    # The public engine moves bodies first and resolves contacts last, so that a contact displaces
    # the block one substep later. Resolving first, with the velocities of the previous substep, is
    # the same sequence and needs no contact solution at reset.
    block_velocity, acceleration = _block_velocity(physics)
    agent, velocity = physics.qpos[AGENT], physics.qvel[AGENT]
    pull = geometry.AGENT_STIFFNESS * (target - agent) - geometry.AGENT_DAMPING * velocity
    velocity = velocity + pull * geometry.SUBSTEP_SECONDS
    travel = jnp.concatenate([velocity, block_velocity]) * geometry.SUBSTEP_SECONDS
    return MjxPhysics(
        qpos=physics.qpos + travel,
        qvel=jnp.concatenate([velocity, jnp.zeros(3, travel.dtype)]),
        warmstart=acceleration,
    )


def reset(initial: Array) -> MjxPhysics:
    """Physics at a raw initial condition [5]: agent x, y, block x, y (px), angle (rad).

    The reset law places the block's body origin at angle 0 and then turns it about its centre of
    gravity, so that the centre of gravity lands at (x, y + 45) whatever the angle.
    """
    initial = jnp.asarray(initial, jnp.float32)
    offset = jnp.array([0.0, 0.0, 0.0, geometry.CENTER_OF_GRAVITY_Y, 0.0], jnp.float32)
    return MjxPhysics(
        qpos=initial + offset, qvel=jnp.zeros(5, jnp.float32), warmstart=jnp.zeros(5, jnp.float32)
    )


def step(physics: MjxPhysics, action: Array) -> MjxPhysics:
    """One control step of 0.1 s towards the agent target `action` [2] in px."""
    action = jnp.asarray(action, jnp.float32)

    def body(carry: MjxPhysics, _: None) -> tuple[MjxPhysics, None]:
        return _substep(carry, action), None

    return jax.lax.scan(body, physics, None, length=geometry.SUBSTEPS)[0]


def pose(physics: MjxPhysics) -> tuple[Array, Array]:
    """Agent position [2] px and block pose [3] (body origin x, y px, angle rad, not wrapped)."""
    x, y, angle = physics.qpos[BLOCK]
    origin_x = x + geometry.CENTER_OF_GRAVITY_Y * jnp.sin(angle)
    origin_y = y - geometry.CENTER_OF_GRAVITY_Y * jnp.cos(angle)
    return physics.qpos[AGENT], jnp.stack([origin_x, origin_y, angle])
