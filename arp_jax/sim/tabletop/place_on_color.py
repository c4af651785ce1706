"""Put the block on the square of the named color; two squares of other colors lie beside it.

Reset: a 4 cm block and three flat 9 cm squares lie on the table, 11 cm apart along x or y, in
different palette colors, turned by up to 45 degrees; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the block lies on the table with its middle at least 1 cm inside the named square, and no
finger touches it.
Stages: grasped; off the table by 2 cm; held over the square; lying there, released.
"""

import functools

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage, keyframe_task
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Readings, Start, Task

BLOCK, SQUARES = "block", ("target", "distractor1", "distractor2")
HALF_SQUARE, INSIDE, OFF_TABLE = 0.045, 0.01, 0.02
# Squares are painted on the table: half a millimetre, touching nothing.
THICKNESS = 0.0005
AREA = Area((0.03, 0.36), (-0.28, 0.28))
LAYOUT = Layout(
    (
        ("things", pose_names(BLOCK, *SQUARES)),
        ("colors", (*SQUARES, BLOCK)),
        ("phrase", ("index",)),
    )
)
PHRASES = (
    "put the {block} block on the {target} square",
    "place the {block} cube on the {target} patch",
    "move the {block} block onto the {target} square",
    "set the block down on the {target} square",
)


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with a block and three squares."""
    spec = arm.new_tabletop()
    things.add_loose_box(spec, BLOCK)
    for name in SQUARES:
        square = things.add_fixture(spec, name)
        arm.add_box(square, name, (0.0, 0.0, 0.0), (HALF_SQUARE, HALF_SQUARE, THICKNESS))
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    count = 1 + len(SQUARES)
    return {"things": placement.scatter_poses(key, AREA, (2, 3), count, (0.11, 0.11), jnp.pi / 4)}


def _start(initial: Array) -> Start:
    block, *squares = LAYOUT.poses(initial, "things")
    poses = things.on_table((BLOCK,), block[None])
    for name, pose in zip(SQUARES, squares, strict=True):
        poses[name] = things.at_height(pose, arm.TABLE_TOP + THICKNESS)
    colors = palette.rgba(LAYOUT.part(initial, "colors"))
    names = LAYOUT.dims("colors")
    return things.compose_start(load_model(), poses, colors=dict(zip(names, colors, strict=True)))


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = load_model()
    position = things.position_of(model, readings, BLOCK)
    offset = things.in_frame(model, readings, "target", position)
    over = jnp.all(jnp.abs(offset[:2]) < HALF_SQUARE - INSIDE)
    height = position[2] - things.BLOCK_REST
    held = things.grasped(model, readings, BLOCK)
    raised = held & (height > OFF_TABLE)
    placed = over & (jnp.abs(height) < 0.01) & things.untouched(model, readings, BLOCK)
    return highest_stage(held, raised, raised & over, placed)


def _square_places(initial: Array) -> Array:
    return LAYOUT.poses(initial, "things")[1:]


def make_task() -> Task:
    """The task "place_on_color"."""
    return keyframe_task(
        name="place_on_color",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=(BLOCK, *SQUARES),
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("grasped", "off the table", "over the square", "placed"),
        max_episode_steps=12,
        factors=placement.place_factors(AREA, _square_places, near=0.2),
    )
