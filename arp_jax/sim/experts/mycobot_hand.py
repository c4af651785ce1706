"""From a path of the myCobot's tool to joint actions.

In: a track [T, 8] of `waypoints.interpolate` (tip position, quaternion, gripper). Out: actions of
the arm's tasks, by inverse kinematics from the home pose, each step warm-started by the one before.
No script of any task.
"""

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.mycobot import bench
from arp_jax.sim.mycobot.arm import HOME


class Hand:
    """The arm's tool as an expert sees it.

    Args:
        model: of the task.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._chain = bench.tip_chain(model)

    def home(self) -> tuple[Array, Array]:
        """Pose of the tip at the start of an episode: [3] m, [4] wxyz."""
        return kinematics.forward(self._chain, jnp.array(HOME))

    def follow(self, track: Array) -> Array:
        """Joint angles [T, 6] (rad) along a track [T, 8]."""
        quat = rotations.normalize(track[:, 3:7])
        return kinematics.track(self._chain, track[:, :3], quat, jnp.array(HOME))


def like(quat: Array, other: Array) -> Array:
    """The same rotation with the sign of `other`, so that a straight line between them is short."""
    return jnp.where(jnp.dot(quat, other) < 0, -quat, quat)
