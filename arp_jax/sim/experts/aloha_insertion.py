"""Scripted expert of the bimanual insertion: ACT's way-points through inverse kinematics.

In: the places of peg and socket. Out: 400 joint actions, planned at the start and executed open
loop. Each hand grasps its object from above, lifts it, and both move towards the middle.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.aloha.insertion import SIDES
from arp_jax.sim.aloha.objects import START_HEIGHT
from arp_jax.sim.experts.aloha_hands import PITCH, STEPS, Hands, Pose, pitched
from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.experts.waypoints import Waypoint
from arp_jax.sim.task import Task

MEETING = (0.0, 0.5, 0.15)  # m
# How much higher than the socket the peg is held, and how far each hand stops from the middle, m.
# Published hands lag behind their mocap bodies: without that lag other numbers fit.
PUBLISHED_LIFT, PUBLISHED_REACH = 0.00715, 0.05
LIFT, REACH = 0.012, 0.045


def waypoints(
    left: Pose,
    right: Pose,
    peg: ArrayLike,
    socket: ArrayLike,
    lift: float = LIFT,
    reach: float = REACH,
) -> tuple[list[Waypoint], list[Waypoint]]:
    """The script.

    Args:
        left, right: where the hands start.
        peg, socket: positions [3], m.
        lift, reach: see `PUBLISHED_LIFT`.

    Returns:
        Way-points of the left hand (socket) and of the right hand (peg).
    """
    meet = jnp.array(MEETING)

    def way(
        start: Pose, target: ArrayLike, quat: Array, outwards: float, height: float
    ) -> list[Waypoint]:
        target = jnp.asarray(target)
        ready = meet + jnp.array([outwards * 0.1, 0.0, height])
        inserted = meet + jnp.array([outwards * reach, 0.0, height])
        above, at = target + jnp.array([0, 0, 0.08]), target + jnp.array([0, 0, -0.03])
        return [
            Waypoint(0, start.pos, start.quat, 0),
            Waypoint(120, above, quat, 1),
            Waypoint(170, at, quat, 1),
            Waypoint(220, at, quat, 0),
            Waypoint(285, ready, quat, 0),
            Waypoint(340, inserted, quat, 0),
            Waypoint(400, inserted, quat, 0),
        ]

    return (
        way(left, socket, pitched(PITCH), -1.0, 0.0),
        way(right, peg, pitched(-PITCH), 1.0, lift),
    )


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs both hands' positions at every step."""
    hands = Hands(task.load_model(), SIDES)
    left, right = hands.start

    def plan(initial: Array, rng: Array, noise: Array) -> Array:
        peg, socket = (jnp.append(place, START_HEIGHT) for place in (initial[:2], initial[2:4]))
        return hands.follow(waypoints(left, right, peg, socket), rng, noise)

    return open_loop(plan, STEPS)
