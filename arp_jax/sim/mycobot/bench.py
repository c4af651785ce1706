"""The table-top scene that myCobot's tasks share: arm, tool, cameras, cubes; and where things are.

In: the tool's name, cubes and stands to add. Out: an `MjSpec`, the arm's kinematic chain, start
positions, and the height of a box above the table. No task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.kinematics import Chain
from arp_jax.sim.mycobot import tools
from arp_jax.sim.mycobot.arm import HOME, JOINTS, add_arm
from arp_jax.sim.mycobot.joints import ANGLES, TIMESTEP
from arp_jax.sim.mycobot.tools import Gripper
from arp_jax.sim.scene import add_camera_looking_at, add_pair, new_scene
from arp_jax.sim.task import Readings, Start
from arp_jax.specs import CameraSpec

CUBE_HALF = 0.015  # m; the adaptive gripper opens to 45 mm
CUBE_MASS = 0.03
RED, BLUE, YELLOW = (0.85, 0.15, 0.12, 1.0), (0.15, 0.3, 0.8, 1.0), (0.9, 0.75, 0.15, 1.0)
# Closer than this counts as touching, m: contacts are soft.
TOUCH_MARGIN = 1e-3
_UP, _FLIP = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0)


def new_bench(tool: str) -> tuple[mujoco.MjSpec, Any]:
    """Table, arm and fixed cameras, and the tool's flange; `tool` is added by the caller.

    Returns:
        The scene and the flange body.

    Raises:
        ValueError: for an unknown tool.
    """
    if tool not in tools.TOOLS:
        raise ValueError(f"tool={tool!r} is unknown; choose one of {tools.TOOLS}")
    spec = new_scene(TIMESTEP)
    flange = add_arm(spec)
    add_camera_looking_at(spec.worldbody, "top", (0.24, 0, 0.75), (0.24, 0, 0), 45.0, up=(1, 0, 0))
    add_camera_looking_at(spec.worldbody, "front", (0.85, -0.3, 0.5), (0.16, 0, 0.12), 42.0)
    return spec, flange


def new_gripper_bench(kind: str = "adaptive") -> tuple[mujoco.MjSpec, Gripper]:
    """The bench with a gripper, whose pads meet the table, and a camera beside it."""
    spec, flange = new_bench(kind)
    gripper = tools.add_gripper(spec, flange, kind)
    add_camera_looking_at(
        spec.body("gripper"),
        "wrist",
        (0, 0.055, 0.06),
        (0, 0.005, gripper.tip),
        75.0,
        up=(0, -1, 0),
    )
    for pad in tools.PADS:
        add_pair(spec, "table", pad, condim=1)
    return spec, gripper


def camera_specs(with_gripper: bool) -> tuple[CameraSpec, ...]:
    """The bench's cameras, 240 x 320."""
    names = ("top", "front", "wrist") if with_gripper else ("top", "front")
    return tuple(CameraSpec(name, 240, 320) for name in names)


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
