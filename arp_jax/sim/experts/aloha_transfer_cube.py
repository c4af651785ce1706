"""Scripted expert of the bimanual transfer cube: ACT's way-points through inverse kinematics.

In: the cube's place. Out: 400 joint actions, planned at the start and executed open loop. The right
hand grasps the cube from above and carries it to the middle, where the left hand, turned by a
quarter about its axis, takes it.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.aloha.objects import START_HEIGHT
from arp_jax.sim.aloha.transfer_cube import SIDES
from arp_jax.sim.experts.aloha_hands import LEVEL, PITCH, STEPS, Hands, Pose, pitched, rolled
from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.experts.waypoints import Waypoint
from arp_jax.sim.task import Task

MEETING = (0.0, 0.5, 0.25)  # m, where the hands meet


def waypoints(left: Pose, right: Pose, cube: ArrayLike) -> tuple[list[Waypoint], list[Waypoint]]:
    """The published script.

    Args:
        left, right: where the hands start.
        cube: position [3], m.

    Returns:
        Way-points of the left and of the right hand.
    """
    cube, meet = jnp.asarray(cube), jnp.array(MEETING)
    down, side = pitched(-PITCH), rolled(jnp.pi / 2)

    def by(x: float, z: float = 0.0) -> Array:
        return jnp.array([x, 0.0, z])

    right_way = [
        Waypoint(0, right.pos, right.quat, 0),
        Waypoint(90, cube + by(0, 0.08), down, 1),
        Waypoint(130, cube + by(0, -0.015), down, 1),
        Waypoint(170, cube + by(0, -0.015), down, 0),
        Waypoint(200, meet + by(0.05), down, 0),
        Waypoint(220, meet, down, 0),
        Waypoint(310, meet, down, 1),
        Waypoint(360, meet + by(0.1), down, 1),
        Waypoint(400, meet + by(0.1), down, 1),
    ]
    left_way = [
        Waypoint(0, left.pos, left.quat, 0),
        Waypoint(100, meet + by(-0.1, -0.02), side, 1),
        Waypoint(260, meet + by(0.02, -0.02), side, 1),
        Waypoint(310, meet + by(0.02, -0.02), side, 0),
        Waypoint(360, meet + by(-0.1, -0.02), jnp.array(LEVEL), 0),
        Waypoint(400, meet + by(-0.1, -0.02), jnp.array(LEVEL), 0),
    ]
    return left_way, right_way


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs both hands' positions at every step."""
    hands = Hands(task.load_model(), SIDES)
    left, right = hands.start

    def plan(initial: Array, rng: Array, noise: Array) -> Array:
        cube = jnp.append(initial[:2], START_HEIGHT)
        return hands.follow(waypoints(left, right, cube), rng, noise)

    return open_loop(plan, STEPS)
