"""Things on the table: blocks that can be grasped, fixtures that stand still, what may touch what.

In: an `MjSpec` of `arm.new_tabletop`. Out: bodies added to it; a `Start` that puts them somewhere
in given colors; and whether the fingers hold something. Fixtures are placed anew in every episode
but cannot move: mocap bodies, or, if parts of them move, bodies whose pose in the model is the
episode's (MJX does not carry joints along with mocap bodies). No task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import rotations, scene
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.tabletop import arm
from arp_jax.sim.task import Readings, Start
from arp_jax.sim.touch import touch_test

# Half edge of a block (m): the open gripper has 2 cm to spare on either side. Wood.
BLOCK = 0.02
BLOCK_MASS = 0.05
BLOCK_REST = arm.TABLE_TOP + BLOCK

# Closer than this counts as touching, m: contacts are soft, and servos settle.
TOUCH = 0.002


def add_loose_box(
    spec: mujoco.MjSpec,
    name: str,
    half: tuple[float, float, float] = (BLOCK, BLOCK, BLOCK),
    mass: float = BLOCK_MASS,
) -> None:
    """A free box that lies on the table and can be grasped; its geom has the body's name."""
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint()
    arm.add_box(body, name, (0.0, 0.0, 0.0), half, mass=mass)
    for other in ("table", *arm.PADS):
        scene.add_pair(spec, other, name)


def add_fixture(spec: mujoco.MjSpec, name: str, has_joints: bool = False) -> Any:
    """A body without geoms that `compose_start` places; returns it.

    `has_joints` tells whether jointed bodies will be added to it.
    """
    return spec.worldbody.add_body(name=name, mocap=not has_joints)


def let_touch(spec: mujoco.MjSpec, first: Sequence[str], second: Sequence[str]) -> None:
    """Every geom of `first` may touch every one of `second`."""
    for one in first:
        for other in second:
            scene.add_pair(spec, one, other)


def compose_start(
    model: mujoco.MjModel,
    poses: Mapping[str, Array],
    colors: Mapping[str, Array],
    joints: Mapping[str, float] | None = None,
) -> Start:
    """The start of an episode: the arm at home, things where they are told to be.

    Args:
        model: of the task.
        poses: name of a loose or fixed body -> x, y, z (m), yaw (rad), [4]. All must be given.
        colors: name of a geom -> rgba [4]; others keep their own.
        joints: name of a hinge or slide -> position, rad or m; others are at zero.
    """
    qpos = jnp.asarray(model.qpos0, jnp.float32)
    qpos = qpos.at[:9].set(jnp.array([*arm.HOME, arm.FINGER_OPEN, arm.FINGER_OPEN]))
    mocap_pos, mocap_quat = jnp.zeros((model.nmocap, 3)), jnp.zeros((model.nmocap, 4))
    body_pos, body_quat = (jnp.asarray(x, jnp.float32) for x in (model.body_pos, model.body_quat))
    for name, pose in poses.items():
        body = model.body(name)
        quat = rotations.about(jnp.array([0.0, 0.0, 1.0]), pose[3])
        mocap = int(body.mocapid[0])
        if mocap >= 0:
            mocap_pos = mocap_pos.at[mocap].set(pose[:3])
            mocap_quat = mocap_quat.at[mocap].set(quat)
        elif not _is_placed_in_model(model, name):
            first = int(model.jnt_qposadr[body.jntadr[0]])
            qpos = qpos.at[first : first + 7].set(jnp.concatenate([pose[:3], quat]))
        else:
            body_pos = body_pos.at[body.id].set(pose[:3])
            body_quat = body_quat.at[body.id].set(quat)
    for name, position in (joints or {}).items():
        qpos = qpos.at[qpos_place(model, name)].set(position)
    ids = jnp.array([model.geom(name).id for name in colors])
    rgba = jnp.asarray(model.geom_rgba, jnp.float32).at[ids].set(jnp.stack([*colors.values()]))
    fields = {"geom_rgba": rgba}
    if any(_is_placed_in_model(model, name) for name in poses):
        fields |= {"body_pos": body_pos, "body_quat": body_quat}
    if not model.nmocap:
        return Start(qpos=qpos, fields=fields)
    return Start(qpos=qpos, mocap_pos=mocap_pos, mocap_quat=mocap_quat, fields=fields)


def _is_placed_in_model(model: mujoco.MjModel, name: str) -> bool:
    body = model.body(name)
    return int(body.mocapid[0]) < 0 and int(body.jntnum[0]) == 0


def at_height(pose: Array, height: float | Array) -> Array:
    """A planar pose [3] (x, y, yaw) as x, y, z, yaw [4]."""
    return jnp.stack([pose[0], pose[1], jnp.asarray(height, jnp.float32), pose[2]])


def on_table(blocks: Sequence[str], poses: Array) -> dict[str, Array]:
    """Poses of blocks lying on the table, for `compose_start`; planar poses are rows [n, 3]."""
    return {name: at_height(pose, BLOCK_REST) for name, pose in zip(blocks, poses, strict=True)}


def grasped(model: mujoco.MjModel, readings: Readings, geom: str) -> Array:
    """Whether both finger pads touch a box, bool []."""
    return jnp.all(_pads_touch(model, readings, geom))


def untouched(model: mujoco.MjModel, readings: Readings, geom: str) -> Array:
    """Whether no finger pad touches a box, bool []."""
    return ~jnp.any(_pads_touch(model, readings, geom))


def _pads_touch(model: mujoco.MjModel, readings: Readings, geom: str) -> Array:
    """Which finger pads touch a box, bool [2]."""
    return touch_test(model, geom, arm.PADS, TOUCH)(readings)


def in_frame(model: mujoco.MjModel, readings: Readings, body: str, point: Array) -> Array:
    """A point [3] of the world in a body's frame, m."""
    row = model.body(body).id
    quat = rotations.conjugate(readings["xquat"][row])
    return rotations.rotate(quat, point - readings["xpos"][row])


def position_of(model: mujoco.MjModel, readings: Readings, body: str) -> Array:
    """Origin [3] of a body in the world, m."""
    return readings["xpos"][model.body(body).id]
