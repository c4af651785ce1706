"""Close the lid of the box of the named color; the other box must stay open.

Reset: two open boxes (14 cm, lid hinged at the far side and leaning back) stand on the table in
different palette colors, at least 22 cm apart along y, turned by up to 0.4 rad; the arm is in its
ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the named box's lid is within 0.1 rad of closed, and the other lid is open by more than
1.2 rad.
Stages: lid past the vertical (below 1.4 rad); closed.
"""

import functools

import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage, keyframe_task
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Readings, Start, Task

BOXES = ("target", "distractor")
# Half side and height of a box, half thickness of a lid, m; angles of a lid, rad.
HALF, HEIGHT, LID = 0.07, 0.06, 0.004
OPEN, STILL_OPEN, MOVED, CLOSED = 1.8, 1.2, 1.4, 0.1
AREA = Area((0.06, 0.2), (-0.26, 0.26))
LAYOUT = Layout((("boxes", pose_names(*BOXES)), ("colors", BOXES), ("phrase", ("index",))))
PHRASES = (
    "close the {target} box",
    "close the lid of the {target} box",
    "shut the {target} container",
    "put the lid down on the {target} box",
)
_WALL = 0.005
_WALLS = (
    ("front", (-HALF + _WALL, 0.0), (_WALL, HALF)),
    ("back", (HALF - _WALL, 0.0), (_WALL, HALF)),
    ("left", (0.0, HALF - _WALL), (HALF, _WALL)),
    ("right", (0.0, -HALF + _WALL), (HALF, _WALL)),
)


def lid(box: str) -> str:
    """Name of the body, joint and geom of a box's lid."""
    return f"{box}_lid"


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with two boxes; only lids can be touched."""
    spec = arm.new_tabletop()
    for name in BOXES:
        box = things.add_fixture(spec, name, has_joints=True)
        for side, (x, y), (half_x, half_y) in _WALLS:
            half = (half_x, half_y, HEIGHT / 2)
            arm.add_box(box, f"{name}_{side}", (x, y, HEIGHT / 2), half)
        body = box.add_body(name=lid(name), pos=[HALF, 0, HEIGHT])
        body.add_joint(
            name=lid(name),
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 1, 0],
            range=[0, OPEN],
            damping=0.02,
            armature=0.0005,
        )
        arm.add_box(body, lid(name), (-HALF, 0.0, LID), (HALF, HALF, LID), mass=0.1)
        things.let_touch(spec, arm.PADS, (lid(name),))
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    return {"boxes": placement.scatter_poses(key, AREA, (1, 2), 2, (0.0, 0.22), 0.4)}


def _start(initial: Array) -> Start:
    poses: dict[str, Array] = {}
    colors: dict[str, Array] = {}
    rows = zip(
        BOXES,
        LAYOUT.poses(initial, "boxes"),
        palette.rgba(LAYOUT.part(initial, "colors")),
        strict=True,
    )
    for name, pose, color in rows:
        poses[name] = things.at_height(pose, arm.TABLE_TOP)
        colors |= {f"{name}_{side}": color for side, *_ in _WALLS} | {lid(name): color}
    joints = {lid(name): OPEN for name in BOXES}
    return things.compose_start(load_model(), poses, colors, joints)


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = load_model()
    target, other = (readings["qpos"][qpos_place(model, lid(n))] for n in BOXES)
    return highest_stage(target < MOVED, (target < CLOSED) & (other > STILL_OPEN))


def _places(initial: Array) -> Array:
    return LAYOUT.poses(initial, "boxes")


def make_task() -> Task:
    """The task "close_lid"."""
    return keyframe_task(
        name="close_lid",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=(*BOXES, *(lid(name) for name in BOXES)),
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("lid moved", "closed"),
        max_episode_steps=12,
        factors=placement.place_factors(AREA, _places, near=0.3),
    )
