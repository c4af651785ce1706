"""What myCobot's tasks add to the bench of `bench_scene.py`: cubes, stands; and where things are.

In: cubes and stands to add. Out: the arm's kinematic chain, start positions, and the height of a
box above the table. No task.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.kinematics import Chain
from arp_jax.sim.mycobot import tools
from arp_jax.sim.mycobot.arm import HOME, JOINTS
from arp_jax.sim.mycobot.joints import ANGLES
from arp_jax.sim.mycobot.tools import Gripper
from arp_jax.sim.scene import add_pair
from arp_jax.sim.task import Readings, Start

CUBE_HALF = 0.015  # m; the adaptive gripper opens to 45 mm
CUBE_MASS = 0.03
RED, BLUE, YELLOW = (0.85, 0.15, 0.12, 1.0), (0.15, 0.3, 0.8, 1.0), (0.9, 0.75, 0.15, 1.0)
# Closer than this counts as touching, m: contacts are soft.
TOUCH_MARGIN = 1e-3
_UP, _FLIP = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0)


def add_cube(spec: mujoco.MjSpec, name: str, color: Sequence[float], others: Sequence[str]) -> None:
    """A loose cube that touches the table, both pads and `others`; its geom has its name."""
    body = spec.worldbody.add_body(name=name, pos=[0, 0, CUBE_HALF])
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF] * 3,
        mass=CUBE_MASS,
        material="matte",
        rgba=list(color),
    )
    for other in ("table", *tools.PADS, *others):
        add_pair(spec, other, name)


def add_fixed_box(
    spec: mujoco.MjSpec,
    name: str,
    pos: Sequence[float],
    half: Sequence[float],
    color: Sequence[float],
) -> None:
    """A box geom that is part of the world (a stand, or a flat mark on the table)."""
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=list(pos),
        size=list(half),
        material="matte",
        rgba=list(color),
    )


def tip_chain(model: mujoco.MjModel) -> Chain:
    """Kinematics from the world to the tool's tip over the six joints."""
    return kinematics.chain_of(model, tools.TIP, JOINTS)


def down(yaw: Array) -> Array:
    """Rotation [4] of a tip that points straight down; the fingers close along direction `yaw`."""
    return rotations.multiply(rotations.about(jnp.array(_UP), yaw), jnp.array(_FLIP))


def radial_yaw(pos: Array) -> Array:
    """The closing direction [] at a place [2 or 3] that keeps the last joint near zero."""
    return jnp.arctan2(pos[1], pos[0]) - jnp.pi / 2


def planar_quat(yaw: Array) -> Array:
    """Rotation [4] about the vertical."""
    return rotations.about(jnp.array(_UP), yaw)


def start_with(model: mujoco.MjModel, gripper: Gripper | None, poses: dict[str, Array]) -> Start:
    """The arm at home, the gripper open, free bodies at poses x, y, z, yaw [4]."""
    qpos = jnp.asarray(model.qpos0, jnp.float32).at[:ANGLES].set(jnp.array(HOME))
    if gripper is not None:
        qpos = qpos.at[ANGLES : ANGLES + 2].set(gripper.stroke)
    for name, pose in poses.items():
        first = qpos_place(model, name)
        place = jnp.concatenate([pose[:3], planar_quat(pose[3])])
        qpos = qpos.at[first : first + 7].set(place)
    return Start(qpos=qpos)


def lowest_point(model: mujoco.MjModel, geom: str) -> Callable[[Readings], Array]:
    """A function readings -> height [] of a box's lowest corner above the table, m."""
    index = model.geom(geom).id
    half = jnp.array(model.geom_size[index])

    def height(readings: Readings) -> Array:
        rows = readings["geom_xmat"][index][2]  # the world's vertical in the box's axes
        return readings["geom_xpos"][index][2] - jnp.abs(rows) @ half

    return height
