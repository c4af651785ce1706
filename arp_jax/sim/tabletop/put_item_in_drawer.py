"""Open the drawer and put the item of the named color into it; another item stays where it is.

Reset: a low cabinet with one closed drawer stands behind the middle of the table, its handle
towards the robot, moved by up to 4 cm and turned by up to 0.2 rad; two 4 cm blocks in different
palette colors lie to its left and right or on one side; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the named block lies inside the drawer and no finger touches it.
Stages: drawer open by 10 cm; block grasped then; lifted by 2 cm; in the drawer, released.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage, keyframe_task
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Readings, Start, Task

CABINET, DRAWER, ITEMS = "cabinet", "drawer", ("item", "distractor")
# The cabinet's frame: origin on the table below its middle, x to its back, m.
HALF_DEPTH, HALF_WIDTH, HEIGHT = 0.11, 0.12, 0.085
PULL, IS_OPEN = 0.16, 0.1
# The bar that is pulled: far enough from the front for an open finger behind it.
HANDLE = (-HALF_DEPTH - 0.065, 0.0, 0.05)
FLOOR = 0.016
INSIDE = (0.09, 0.096, 0.06)
CABINET_AREA = Area((0.34, 0.40), (-0.04, 0.04))
CABINET_TURN = 0.2
ITEM_AREA = Area((0.05, 0.27), (-0.34, 0.34))
LAYOUT = Layout(
    (
        ("cabinet", pose_names(CABINET)),
        ("items", pose_names(*ITEMS)),
        ("colors", (*ITEMS, CABINET)),
        ("phrase", ("index",)),
    )
)
PHRASES = (
    "put the {item} item in the drawer",
    "open the drawer and place the {item} block inside it",
    "store the {item} cube in the {cabinet} drawer",
    "take the {item} block and put it into the drawer",
)
# Boxes of the drawer in the cabinet's frame when it is closed: name, centre, half sizes.
_DRAWER_BOXES = (
    ("drawer_floor", (0.0, 0.0, FLOOR - 0.004), (0.095, 0.1, 0.004)),
    ("drawer_left", (0.0, 0.1, 0.036), (0.095, 0.004, 0.02)),
    ("drawer_right", (0.0, -0.1, 0.036), (0.095, 0.004, 0.02)),
    ("drawer_back", (0.091, 0.0, 0.036), (0.004, 0.1, 0.02)),
    ("drawer_front", (-0.104, 0.0, 0.04), (0.006, 0.108, 0.033)),
)
_SUPPORTS = tuple(
    (f"handle_{side}", (-HALF_DEPTH - 0.03, y, HANDLE[2]), (0.03, 0.004, 0.004))
    for side, y in (("left", 0.046), ("right", -0.046))
)
_CABINET_BOXES = (
    ("cabinet_left", (0.0, 0.114, HEIGHT / 2), (HALF_DEPTH, 0.006, HEIGHT / 2)),
    ("cabinet_right", (0.0, -0.114, HEIGHT / 2), (HALF_DEPTH, 0.006, HEIGHT / 2)),
    ("cabinet_back", (0.104, 0.0, HEIGHT / 2), (0.006, HALF_WIDTH, HEIGHT / 2)),
    ("cabinet_top", (0.0, 0.0, HEIGHT - 0.006), (HALF_DEPTH, HALF_WIDTH, 0.006)),
)
_COLORED = ("drawer_front", "cabinet_left", "cabinet_right", "cabinet_back", "cabinet_top")


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with the cabinet and two blocks."""
    spec = arm.new_tabletop()
    cabinet = things.add_fixture(spec, CABINET, has_joints=True)
    for name, pos, half in _CABINET_BOXES:
        arm.add_box(cabinet, name, pos, half)
    drawer = cabinet.add_body(name=DRAWER, gravcomp=1)
    drawer.add_joint(
        name=DRAWER,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[-1, 0, 0],
        range=[0, PULL],
        damping=10.0,
        armature=0.2,
    )
    for name, pos, half in (*_DRAWER_BOXES, *_SUPPORTS):
        arm.add_box(drawer, name, pos, half, (0.8, 0.8, 0.78, 1.0), mass=0.1)
    arm.add_box(drawer, "handle", HANDLE, (0.006, 0.05, 0.006), (0.2, 0.2, 0.2, 1.0), mass=0.05)
    things.let_touch(spec, arm.PADS, ("handle",))
    for item in ITEMS:
        things.add_loose_box(spec, item)
    things.let_touch(spec, (*(box[0] for box in _DRAWER_BOXES), "cabinet_top"), ITEMS)
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    cabinet_key, item_key = jax.random.split(key)
    # Left and right of where the drawer opens: 0.5 m between the columns of the grid.
    items = placement.scatter_poses(item_key, ITEM_AREA, (2, 2), 2, (0.1, 0.5), jnp.pi / 4)
    return {
        "cabinet": placement.scatter_poses(
            cabinet_key, CABINET_AREA, (1, 1), 1, (0.0, 0.0), CABINET_TURN
        ),
        "items": items,
    }


def _start(initial: Array) -> Start:
    poses = things.on_table(ITEMS, LAYOUT.poses(initial, "items"))
    poses[CABINET] = things.at_height(LAYOUT.part(initial, "cabinet"), arm.TABLE_TOP)
    *items, cabinet = palette.rgba(LAYOUT.part(initial, "colors"))
    colors = dict(zip(ITEMS, items, strict=True)) | {name: cabinet for name in _COLORED}
    return things.compose_start(load_model(), poses, colors=colors)


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = load_model()
    opening = readings["qpos"][qpos_place(model, DRAWER)]
    item = things.position_of(model, readings, "item")
    offset = things.in_frame(model, readings, DRAWER, item)
    is_open = opening > IS_OPEN
    held = is_open & things.grasped(model, readings, "item")
    raised = held & (item[2] - things.BLOCK_REST > 0.02)
    within = jnp.all(jnp.abs(offset[:2]) < jnp.array(INSIDE[:2]))
    inside = within & (offset[2] > FLOOR) & (offset[2] < INSIDE[2])
    stored = inside & things.untouched(model, readings, "item")
    return highest_stage(is_open, held, raised, stored)


def _item_places(initial: Array) -> Array:
    return LAYOUT.poses(initial, "items")


def make_task() -> Task:
    """The task "put_item_in_drawer"."""
    return keyframe_task(
        name="put_item_in_drawer",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=("item", "distractor", CABINET, DRAWER),
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("drawer open", "grasped", "off the table", "in the drawer"),
        max_episode_steps=20,
        factors=placement.place_factors(ITEM_AREA, _item_places, near=0.3),
    )
