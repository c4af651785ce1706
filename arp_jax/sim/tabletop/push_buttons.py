"""Push three buttons in the order that the sentence names; a fourth one must not be pushed.

Reset: four buttons stand on the table in different palette colors, at least 11 cm apart along x or
y; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: at the ends of three key frames the named buttons were down by 8 mm, in the named order. If
another button is found down, nothing counts any more; the one pushed last may stay down.
Stages: first, second, third button.
"""

import functools

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import keyframe_task
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Readings, Start, Task

BUTTONS = ("first", "second", "third", "distractor")
ORDERED = 3
BASE_HALF = (0.035, 0.035, 0.01)
CAP_HALF = (0.022, 0.022, 0.012)
# Middle of a cap that is up, above the table; its way down; how far down counts, m.
CAP_HEIGHT, TRAVEL, DOWN = 0.03, 0.012, 0.008
CAP_TOP = arm.TABLE_TOP + CAP_HEIGHT + CAP_HALF[2]
_SPRING, _DAMPING, _INERTIA = 300.0, 3.0, 0.1  # N/m, N s/m, kg
AREA = Area((0.03, 0.34), (-0.28, 0.28))
LAYOUT = Layout((("buttons", pose_names(*BUTTONS)), ("colors", BUTTONS), ("phrase", ("index",))))
PHRASES = (
    "push the {first} button, then the {second} button, then the {third} button",
    "press the {first} button, after that the {second} one and finally the {third} one",
    "press {first}, {second} and {third}, in this order",
    "push the buttons in the order {first}, {second}, {third}",
)


def cap(button: str) -> str:
    """Name of the body, joint and geom of a button's cap."""
    return f"{button}_cap"


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with four buttons; caps slide down against a spring."""
    spec = arm.new_tabletop()
    for name in BUTTONS:
        button = things.add_fixture(spec, name, has_joints=True)
        arm.add_box(button, name, (0.0, 0.0, BASE_HALF[2]), BASE_HALF, (0.35, 0.35, 0.37, 1.0))
        body = button.add_body(name=cap(name), pos=[0, 0, CAP_HEIGHT], gravcomp=1)
        body.add_joint(
            name=cap(name),
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 0, 1],
            range=[-TRAVEL, 0],
            stiffness=_SPRING,
            damping=_DAMPING,
            armature=_INERTIA,
        )
        arm.add_box(body, cap(name), (0.0, 0.0, 0.0), CAP_HALF, mass=0.05)
        things.let_touch(spec, arm.PADS, (cap(name),))
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    spacing = (0.11, 0.11)
    return {"buttons": placement.scatter_poses(key, AREA, (2, 3), len(BUTTONS), spacing, 0.6)}


def _start(initial: Array) -> Start:
    poses = [things.at_height(p, arm.TABLE_TOP) for p in LAYOUT.poses(initial, "buttons")]
    colors = palette.rgba(LAYOUT.part(initial, "colors"))
    return things.compose_start(
        load_model(),
        dict(zip(BUTTONS, poses, strict=True)),
        colors={cap(name): color for name, color in zip(BUTTONS, colors, strict=True)},
    )


def _first_progress(initial: Array, readings: Readings) -> Array:
    """Number of buttons pushed so far, and whether a wrong one was (1.0)."""
    del initial, readings
    return jnp.zeros(2)


def _update_progress(progress: Array, readings: Readings) -> Array:
    model = load_model()
    joints = jnp.array([qpos_place(model, cap(name)) for name in BUTTONS])
    down = readings["qpos"][joints] < -DOWN  # [4]
    count, spoilt = progress
    place = jnp.arange(len(BUTTONS))
    is_next = (place == count) & (place < ORDERED)
    wrong = jnp.any(down & ~is_next & (place != count - 1))
    spoilt = jnp.maximum(spoilt, wrong.astype(jnp.float32))
    advance = jnp.any(down & is_next) & (spoilt == 0)
    return jnp.stack([count + advance, spoilt])


def _reward(readings: Readings, progress: Array) -> Array:
    del readings
    return progress[0]


def _places(initial: Array) -> Array:
    return LAYOUT.poses(initial, "buttons")


def make_task() -> Task:
    """The task "push_buttons"."""
    return keyframe_task(
        name="push_buttons",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=BUTTONS,
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("first button", "second button", "third button"),
        max_episode_steps=15,
        factors=placement.place_factors(AREA, _places, slice(ORDERED, None), near=0.2),
        first_progress=_first_progress,
        update_progress=_update_progress,
    )
