"""From way-points of ALOHA's hands to joint actions.

In: way-points of the point between the pads, world frame. Out: actions [T, 7] of an arm, by
inverse kinematics that follows them. It takes the place of the published mocap weld, which
fails on every MuJoCo since 3.0 (sim.md, section 4). No script and no task is defined here.
"""

import functools
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
SEED_ITERATIONS = 40


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

    def follow(self, way: Sequence[Waypoint], rng: Array, noise: ArrayLike) -> Array:
        """Joint actions that carry the hand along its way-points.

        The way to the first of them is straight in joint space: a straight line in space would
        lead through the wrist's singularity (wrist_angle 0), where the forearm turns over.

        Args:
            way: the first one is where the hand starts.
            rng, noise: a uniform disturbance of the position at every step, half width in m.

        Returns:
            float32 [STEPS, 7]: angles (rad), gripper (0 ... 1).
        """
        track, first = interpolate(way, STEPS), way[1].step
        goal = self._nearest(track[first])
        part = jnp.arange(first)[:, None] / first
        angles = self.start_angles + part * (goal - self.start_angles)
        pos, quat = jax.vmap(lambda q: kinematics.forward(self.chain, q))(angles)
        track = track.at[:first, :7].set(jnp.concatenate([pos, quat], -1))
        track = disturb(track, rng, noise)
        quat = rotations.normalize(track[:, 3:7])
        followed = kinematics.track(
            self.chain, track[:, :3], quat, self.start_angles, iterations=ITERATIONS
        )
        return jnp.concatenate([followed, track[:, 7:]], -1)

    def _nearest(self, pose: Array) -> Array:
        """Angles [6] that reach a pose [>= 7] with the least motion from the start pose."""
        seeds = jnp.tile(self.start_angles, (len(SEED_WRIST_ANGLES), 1))
        seeds = seeds.at[:, WRIST_ANGLE].set(jnp.array(SEED_WRIST_ANGLES))
        quat = rotations.normalize(pose[3:7])
        found = jax.vmap(
            lambda seed: kinematics.solve(self.chain, pose[:3], quat, seed, SEED_ITERATIONS)
        )(seeds)
        travel = jnp.max(jnp.abs(found.q - self.start_angles), -1)
        # A solution that misses the pose is out, whatever its travel.
        missed = (found.position_error > 1e-3) | (found.rotation_error > 1e-2)
        return found.q[jnp.argmin(jnp.where(missed, jnp.inf, travel))]
