"""Stack one block on another, both named by color; a third block is in the way.

Reset: three 4 cm blocks lie on the table in different palette colors, turned by up to 45 degrees,
at least 10 cm apart along x or y; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the first block lies on the second, middles less than 1.5 cm apart, and no finger touches
it.
Stages: grasped; off the table by 2 cm; held over the other block; stacked, released.
"""

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.tabletop import blocks, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage
from arp_jax.sim.task import Readings, Task

BLOCKS = ("top", "bottom", "distractor")
CLOSE, OFF_TABLE = 0.015, 0.02
LAYOUT = blocks.block_layout(BLOCKS)
PHRASES = (
    "stack the {top} block on the {bottom} block",
    "put the {top} cube on top of the {bottom} cube",
    "place the {top} block onto the {bottom} one",
    "build a tower with the {bottom} block below and the {top} block above",
)


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = blocks.block_model(BLOCKS)
    top, bottom = (things.position_of(model, readings, name) for name in BLOCKS[:2])
    held = things.grasped(model, readings, "top")
    raised = held & (top[2] - things.BLOCK_REST > OFF_TABLE)
    over = jnp.linalg.norm(top[:2] - bottom[:2]) < CLOSE
    on = over & (jnp.abs(top[2] - bottom[2] - 2 * things.BLOCK) < 0.008)
    stacked = on & things.untouched(model, readings, "top")
    return highest_stage(held, raised, raised & over, stacked)


def make_task() -> Task:
    """The task "stack_blocks"."""
    return blocks.block_task(
        name="stack_blocks",
        layout=LAYOUT,
        phrases=PHRASES,
        reward=_reward,
        sub_goals=("grasped", "off the table", "over the other", "stacked"),
        max_episode_steps=12,
    )
