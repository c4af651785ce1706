"""Expert of Push-T with the myCobot: the sampling planner, corrected by what the arm really did.

In: agent and T as observed every few steps. Out: the next few agent targets, px. The planner's own
simulation (`push_t_search`, analytic engine) runs beside the arm; before each plan its agent and T
are put where they are seen, so that the arm's deviations do not add up. Pure JAX; vmap it.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.experts.push_t_search import Episode, PlannerConfig, advance, begin
from arp_jax.sim.mycobot.board import SCALE
from arp_jax.sim.push_t import geometry
from arp_jax.sim.task import Readings, Task

EXECUTE = 4  # actions of one plan that are executed before looking again
SPEED = 18.0  # px per step round the block: 7 cm/s of the tool


def correct(episode: Episode, agent: Array, block: Array) -> Episode:
    """The planner's episode with agent [2] and T pose [3] where they are seen.

    The agent's speed cannot be seen in one observation; the planner's own stays.
    """
    center = geometry.center_of_gravity(block)
    physics = dataclasses.replace(
        episode.physics,
        agent_x=agent[0],
        agent_y=agent[1],
        x=center[0],
        y=center[1],
        angle=block[2],
    )
    # Whether the episode is over is the caller's business.
    return dataclasses.replace(episode, physics=physics, done=jnp.bool_(False))


def make_expert(task: Task) -> Expert:
    """A closed loop of `EXECUTE` actions; `noise` (m) becomes the deviation of the targets."""
    config = PlannerConfig(execute_steps=EXECUTE, max_steps=task.max_episode_steps + EXECUTE)

    def start(initial: Array, rng: Array, noise: Array) -> Episode:
        return begin(initial, rng, jnp.float32(SPEED), noise / SCALE)

    def act(episode: Episode, observation: dict[str, Array], readings: Readings) -> tuple:
        del readings
        seen = correct(episode, observation["agent_pos"], observation["block_pose"])
        after, piece = advance(seen, config)
        # A plan may end early: its last target is then held until the next look.
        last = jnp.sum(piece.valid) - 1
        rows = jnp.minimum(jnp.arange(EXECUTE), jnp.maximum(last, 0))
        return piece.action[rows], after

    return Expert(execute=EXECUTE, start=start, act=act)
