"""The script that both of myCobot's cube tasks share: grasp from above, carry, set down, leave.

In: where the cube lies and where it goes. Out: `Waypoint`s, then actions [T, 7]. The fingers are
turned to the cube's sides by the smallest turn from where the last joint is at zero, and keep that
turn relative to the arm on the way, so that the wrist stays in the middle of its range.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.experts.mycobot_hand import Hand, like
from arp_jax.sim.experts.waypoints import Waypoint, disturb, interpolate
from arp_jax.sim.mycobot import bench
from arp_jax.sim.task import Task

ABOVE = 0.08  # m, of the tip over a cube before and after grasping
# The servos follow a ramp two steps late; the pauses let them arrive.
GRASP, LIFT, ARRIVE, RELEASE = 34, 54, 80, 96


def grasp_turn(cube: Array, yaw: Array) -> Array:
    """Turn [] from the radial closing direction to the nearest pair of the cube's sides, rad."""
    turn = yaw - bench.radial_yaw(cube)
    quarter = jnp.pi / 2
    return turn - quarter * jnp.round(turn / quarter)


def waypoints(hand: Hand, cube: Array, yaw: Array, goal: Array, drop: float) -> list[Waypoint]:
    """The script.

    Args:
        hand: of the arm.
        cube: position [3] m and `yaw` [] rad where it lies.
        goal: position [3] m of the cube when set down.
        drop: height above `goal` at which the hand opens, m.
    """
    start, rotation = hand.home()
    turn = grasp_turn(cube, yaw)
    there = like(bench.down(bench.radial_yaw(cube) + turn), rotation)
    here = like(bench.down(bench.radial_yaw(goal) + turn), there)
    up, low = jnp.array([0.0, 0.0, ABOVE]), jnp.array([0.0, 0.0, drop])
    return [
        Waypoint(0, start, rotation, 1),
        Waypoint(18, cube + up, there, 1),
        Waypoint(22, cube + up, there, 1),
        Waypoint(30, cube, there, 1),
        Waypoint(GRASP, cube, there, 1),
        Waypoint(GRASP + 6, cube, there, 0),
        Waypoint(GRASP + 8, cube, there, 0),
        Waypoint(LIFT, cube + up, there, 0),
        Waypoint(ARRIVE - 10, goal + up, here, 0),
        Waypoint(ARRIVE - 6, goal + up, here, 0),
        Waypoint(ARRIVE + 4, goal + low, here, 0),
        Waypoint(RELEASE - 6, goal + low, here, 0),
        Waypoint(RELEASE, goal + low, here, 1),
        Waypoint(RELEASE + 10, goal + up, here, 1),
    ]


def carry_expert(task: Task, goal: Callable[[Array], Array], drop: float = 0.002) -> Expert:
    """Plans the whole episode at its start.

    Args:
        task: whose initial condition begins with the cube's x, y, yaw.
        goal: initial condition [K] -> where the cube is set down [3], m.
        drop: height above the goal at which the hand opens, m.
    """
    hand, length = Hand(task.load_model()), task.max_episode_steps

    def plan(initial: Array, rng: Array, noise: Array) -> Array:
        cube = jnp.append(initial[:2], bench.CUBE_HALF)
        script = waypoints(hand, cube, initial[2], goal(initial), drop)
        track = interpolate(script, length)
        angles = hand.follow(disturb(track, rng, noise))
        return jnp.concatenate([angles, track[:, 7:]], -1)

    return open_loop(plan, length)
