"""Scripted expert of myCobot's reach: a straight line to the target, peg upright, then wait."""

from jax import Array

from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.experts.mycobot_hand import Hand, like
from arp_jax.sim.experts.waypoints import Waypoint, disturb, interpolate
from arp_jax.sim.mycobot import bench
from arp_jax.sim.task import Task

ARRIVE = 25  # control steps


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs the tip's position at every step."""
    hand, length = Hand(task.load_model()), task.max_episode_steps

    def plan(initial: Array, rng: Array, noise: Array) -> Array:
        start, rotation = hand.home()
        target = initial[:3]
        upright = like(bench.down(bench.radial_yaw(target)), rotation)
        script = [Waypoint(0, start, rotation, 0), Waypoint(ARRIVE, target, upright, 0)]
        return hand.follow(disturb(interpolate(script, length), rng, noise))

    return open_loop(plan, length)
