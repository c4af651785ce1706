"""From way-points of ALOHA's hands to joint actions.

In: way-points of the point between the pads, world frame. Out: actions [T, 7 * arms], by inverse
kinematics that follows them. It takes the place of the published mocap weld, which fails on every
MuJoCo since 3.0 (sim.md, section 4). No script and no task is defined here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.aloha import viperx
from arp_jax.sim.aloha.joints import START_JOINTS
from arp_jax.sim.experts.waypoints import Waypoint, disturb, interpolate

STEPS = 400
# Pitch of a hand that grasps from above, about the world's y axis, rad.
PITCH = np.pi / 3
LEVEL = (1.0, 0.0, 0.0, 0.0)
# A track moves by millimetres a step, so that few iterations follow it.
ITERATIONS = 8
# Most poses can be reached with the wrist bent up or down and the forearm turned over in between:
# both are tried, from these wrist angles (rad).
WRIST_ANGLE = viperx.ARM_JOINTS.index("wrist_angle")
SEED_WRIST_ANGLES = (-0.3, 0.7)
START_ANGLES = np.array(START_JOINTS[: len(viperx.ARM_JOINTS)], np.float32)


class Pose(NamedTuple):
    """Position [3] m and quaternion [4] (w, x, y, z)."""

    pos: ArrayLike
    quat: ArrayLike


def pitched(angle: float) -> Array:
    """The level hand turned by an angle (rad) about the world's y axis: quaternion [4]."""
    return rotations.about(jnp.array([0.0, 1.0, 0.0]), angle)


def rolled(angle: float) -> Array:
    """The level hand turned by an angle (rad) about the world's x axis: quaternion [4]."""
    return rotations.about(jnp.array([1.0, 0.0, 0.0]), angle)


class Hands:
    """The arms of a compiled scene, seen from the points between their pads.

    All arms are alike but for where they stand, so that one chain, the first arm's, serves all:
    targets are carried over to it, and one compiled program follows both hands.

    Args:
        model: a scene of `sim/aloha`.
        sides: its arms, in the scene's order.

    Attributes:
        start: where each hand is in the start pose.
    """

    def __init__(self, model: mujoco.MjModel, sides: Sequence[str]) -> None:
        joints = [f"{sides[0]}/{joint}" for joint in viperx.ARM_JOINTS]
        self._chain = kinematics.chain_of(model, f"{sides[0]}/grasp", joints)
        data = mujoco.MjData(model)
        for index in range(len(sides)):
            first = len(START_JOINTS) * index
            data.qpos[first : first + len(START_JOINTS)] = START_JOINTS
        mujoco.mj_kinematics(model, data)
        self.start = [_pose_of(data, f"{side}/grasp") for side in sides]

        bases = [(data.body(f"{s}/base").xpos, data.body(f"{s}/base").xquat) for s in sides]
        tips = [model.site(f"{side}/grasp").quat for side in sides]
        turns = [rotations.multiply(bases[0][1], rotations.conjugate(q)) for _, q in bases]
        self._turns = jnp.stack(turns)  # [arms, 4], world of an arm to that of the first
        self._offsets = jnp.stack(
            [bases[0][0] - rotations.rotate(t, b[0]) for t, b in zip(turns, bases, strict=True)]
        )
        self._tips = jnp.stack([rotations.multiply(rotations.conjugate(q), tips[0]) for q in tips])

    def follow(self, ways: Sequence[Sequence[Waypoint]], rng: Array, noise: ArrayLike) -> Array:
        """Joint actions that carry the hands along their way-points.

        The way to the first of them is straight in joint space: a straight line in space would
        lead through the wrist's singularity (wrist_angle 0), where the forearm turns over.

        Args:
            ways: for each hand; the first way-point is where the hand starts.
            rng, noise: a uniform disturbance of positions at every step, half width in m; on the
                way to the first way-point it grows from nothing.

        Returns:
            float32 [STEPS, 7 * arms]: angles (rad) and gripper (0 ... 1) of each arm.
        """
        tracks = jnp.stack([interpolate(way, STEPS) for way in ways])  # [arms, T, 8]
        first = jnp.array([way[1].step for way in ways])
        steps = jnp.arange(STEPS)

        def one(track: Array, first: Array, key: Array, *place: Array) -> Array:
            # Up to the first way-point the search stays there; its solution is scaled below.
            goal = track.at[:, :7].set(
                jnp.where(steps[:, None] < first, track[first], track)[:, :7]
            )
            angles = self._search(disturb(goal, key, noise), first, *place)
            part = jnp.minimum(steps / first, 1.0)[:, None]
            motion = part * (angles - START_ANGLES)
            return jnp.concatenate([START_ANGLES + motion, track[:, 7:]], -1)

        keys = jax.random.split(rng, len(ways))
        actions = jax.vmap(one)(tracks, first, keys, self._turns, self._offsets, self._tips)
        return jnp.moveaxis(actions, 0, 1).reshape(STEPS, -1)

    def _search(self, track: Array, first: Array, turn: Array, offset: Array, tip: Array) -> Array:
        """Angles [T, 6] along a track [T, 8], of all seeds those with the least motion at first."""
        pos = rotations.rotate(turn, track[:, :3]) + offset
        quat = rotations.normalize(track[:, 3:7])
        quat = rotations.multiply(rotations.multiply(turn, quat), tip)
        seeds = jnp.tile(START_ANGLES, (len(SEED_WRIST_ANGLES), 1))
        seeds = seeds.at[:, WRIST_ANGLE].set(jnp.array(SEED_WRIST_ANGLES))
        found = jax.vmap(
            lambda seed: kinematics.track(self._chain, pos, quat, seed, iterations=ITERATIONS)
        )(seeds)
        travel = jnp.max(jnp.abs(found[:, first] - START_ANGLES), -1)
        return found[jnp.argmin(travel)]


def _pose_of(data: mujoco.MjData, site: str) -> Pose:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, data.site(site).xmat)
    # Interpolation by components wants the representative next to the level hand.
    return Pose(np.array(data.site(site).xpos), quat if quat[0] >= 0 else -quat)
