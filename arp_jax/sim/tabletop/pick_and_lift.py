"""Grasp the block of the named color and lift it; two blocks of other colors lie beside it.

Reset: three 4 cm blocks lie on the table in different palette colors, turned by up to 45 degrees,
at least 10 cm apart along x or y; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: both fingers touch the named block and it is at least 15 cm above where it lay.
Stages: grasped; off the table by 2 cm; lifted by 15 cm.
"""

from jax import Array

from arp_jax.sim.tabletop import blocks, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage
from arp_jax.sim.task import Readings, Task

BLOCKS = ("target", "distractor1", "distractor2")
OFF_TABLE, LIFTED = 0.02, 0.15
LAYOUT = blocks.block_layout(BLOCKS)
PHRASES = (
    "pick up the {target} block and lift it",
    "lift the {target} block",
    "grasp the {target} cube and raise it above the table",
    "hold the {target} block up",
)


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = blocks.block_model(BLOCKS)
    height = things.position_of(model, readings, "target")[2] - things.BLOCK_REST
    held = things.grasped(model, readings, "target")
    return highest_stage(held, held & (height > OFF_TABLE), held & (height > LIFTED))


def make_task() -> Task:
    """The task "pick_and_lift"."""
    return blocks.block_task(
        name="pick_and_lift",
        layout=LAYOUT,
        phrases=PHRASES,
        reward=_reward,
        sub_goals=("grasped", "off the table", "lifted"),
        max_episode_steps=10,
    )
