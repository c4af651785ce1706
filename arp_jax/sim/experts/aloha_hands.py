"""From tracks of ALOHA's hands to joint actions, and the poses that its scripts start from.

In: tracks [T, 8] of the point between the pads, world frame. Out: actions [T, 7] of an arm, by
inverse kinematics that follows the track. It takes the place of the published mocap weld, which
fails on every MuJoCo since 3.0 (sim.md, section 4). No way-point and no task is defined here.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.aloha import viperx
from arp_jax.sim.aloha.joints import START_JOINTS

STEPS = 400
# Pitch of a hand that grasps from above, about the world's y axis, rad.
PITCH = np.pi / 3
LEVEL = (1.0, 0.0, 0.0, 0.0)
# A track moves by millimetres a step, so that few iterations follow it.
ITERATIONS = 8


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


class Hand:
    """One arm of a compiled scene, seen from the point between its pads.

    Args:
        model: a scene of `sim/aloha`.
        side: "left" or "right".
    """

    def __init__(self, model: mujoco.MjModel, side: str) -> None:
        names = [f"{side}/{joint}" for joint in viperx.ARM_JOINTS]
        self.chain = kinematics.chain_of(model, f"{side}/grasp", names)
        self.start_angles = np.array(START_JOINTS[: len(names)], np.float32)

    @functools.cached_property
    def start(self) -> Pose:
        """Where the hand is in the start pose."""
        pos, quat = kinematics.forward(self.chain, self.start_angles)
        # Interpolation by components wants the representative next to the level hand.
        return Pose(pos, jnp.where(quat[0] < 0, -quat, quat))

    def follow(self, track: Array) -> Array:
        """Joint actions [T, 7] (angles, gripper) that move the hand along a track [T, 8]."""
        quat = rotations.normalize(track[:, 3:7])
        angles = kinematics.track(
            self.chain, track[:, :3], quat, self.start_angles, iterations=ITERATIONS
        )
        return jnp.concatenate([angles, track[:, 7:]], -1)
