"""Scripted expert of the one-arm move cube: way-points through inverse kinematics.

In: the cube's place. Out: 400 joint actions, planned at the start and executed open loop. The hand
grasps the cube from above, lifts it, sets it down on the platform and goes back.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.aloha.move_cube import SIDES
from arp_jax.sim.aloha.objects import START_HEIGHT
from arp_jax.sim.experts.aloha_hands import PITCH, STEPS, Hands, Pose, pitched
from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.experts.waypoints import Waypoint
from arp_jax.sim.task import Task

# Where the cube is set down (m); heights of the hand above it when it moves and when it lets go.
PUBLISHED_TARGET, PUBLISHED_DROP = (0.2, 0.8, 0.05), 0.1
TARGET, DROP = (0.2, 0.86, 0.05), 0.06
TRAVEL = 0.3


def waypoints(
    right: Pose,
    cube: ArrayLike,
    target: tuple[float, float, float] = TARGET,
    drop: float = DROP,
) -> list[Waypoint]:
    """The script.

    Args:
        right: where the hand starts.
        cube: position [3], m.
        target: where the cube is set down [3], m.
        drop: height above `target` at which the hand opens, m. The published place is the
            platform's edge and the published height lets the cube fall: it rolls away with a hand
            that follows exactly.
    """
    cube, place, down = jnp.asarray(cube), jnp.array(target), pitched(-PITCH)
    above, at = cube + jnp.array([-0.1, -0.0025, 0.08]), cube + jnp.array([0.0, 0.0, -0.015])
    high, low = place + jnp.array([0.0, 0.0, TRAVEL]), place + jnp.array([0.0, 0.0, drop])
    return [
        Waypoint(0, right.pos, right.quat, 0),
        Waypoint(90, above, down, 1),
        Waypoint(130, at, down, 1),
        Waypoint(170, at, down, 0),
        Waypoint(250, high, down, 0),
        Waypoint(290, low, down, 0),
        Waypoint(310, low, down, 1),
        Waypoint(330, high, down, 1),
        Waypoint(400, right.pos, down, 1),
    ]


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs the hand's position at every step."""
    hands = Hands(task.load_model(), SIDES)

    def plan(initial: Array, rng: Array, noise: Array) -> Array:
        cube = jnp.append(initial[:2], START_HEIGHT)
        return hands.follow([waypoints(hands.start[0], cube)], rng, noise)

    return open_loop(plan, STEPS)
