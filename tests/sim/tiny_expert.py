"""An expert for the tiny task: the slider moves on steadily; with luck the block is pushed home."""

import jax
import jax.numpy as jnp

from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.task import Task


def make_expert(task: Task) -> Expert:
    """Its target is drawn: about one try in three stops short of the goal."""

    def plan(initial, rng, noise):
        reach = jax.random.uniform(rng, minval=0.29, maxval=0.42) + noise
        return jnp.linspace(0.05, 1.0, 40)[:, None] ** 0.5 * reach

    def hold(memory, observation, readings):
        # The plan's 40 actions, then its last one for good.
        actions, step = memory
        steps = jnp.minimum(step + jnp.arange(20), 39)
        return actions[steps], (actions, step + 20)

    start = open_loop(plan, 40).start
    return Expert(execute=20, start=lambda *given: (start(*given), jnp.int32(0)), act=hold)
