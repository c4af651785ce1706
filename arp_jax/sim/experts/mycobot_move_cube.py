"""Scripted expert of myCobot's move cube: `mycobot_carry`'s script onto the middle of the stand."""

import jax.numpy as jnp

from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.experts.mycobot_carry import carry_expert
from arp_jax.sim.mycobot import bench, move_cube
from arp_jax.sim.task import Task


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs the tip's position at every step."""
    x, y, middle = move_cube.STAND_POS
    goal = (x, y, middle + move_cube.STAND_HALF[2] + bench.CUBE_HALF)
    return carry_expert(task, lambda initial: jnp.array(goal))
