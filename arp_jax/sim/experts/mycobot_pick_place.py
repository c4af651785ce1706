"""Scripted expert of myCobot's pick and place: `mycobot_carry`, to B1 or, if occupied, to B2."""

from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.experts.mycobot_carry import carry_expert
from arp_jax.sim.mycobot.pick_place import goal_of
from arp_jax.sim.task import Task


def make_expert(task: Task) -> Expert:
    """Plans the whole episode; `noise` disturbs the tip's position at every step."""
    return carry_expert(task, lambda initial: goal_of(initial[3]))
