"""An expert of tests/sim/tiny_task.py; it gives up on the left side, so that there are failures."""

import jax.numpy as jnp

from arp_jax.sim.experts.expert import Expert


def make_expert(task) -> Expert:
    del task

    def act(goal, observation, readings):
        return observation["state"][None] + jnp.clip(goal - readings["qpos"][7], -0.1, 0.1), goal

    def start(initial, rng, noise):
        return jnp.where(initial[1] > 0, 0.4, 0.12)

    return Expert(1, start, act)
