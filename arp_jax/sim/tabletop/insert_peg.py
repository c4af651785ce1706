"""Insert the square peg into the socket of the named color; another socket stands beside it.

Reset: a 2.2 cm square peg, 9 cm long, and two sockets with 3 cm square holes stand on the table in
different palette colors, at least 13 cm apart along x or y, turned by up to 45 degrees; the arm is
in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the peg stands in the named socket down to the table and no finger touches it.
Stages: grasped; off the table by 2 cm; held over the hole; inserted, released.
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

PEG, SOCKETS = "peg", ("target", "distractor")
PEG_HALF = (0.011, 0.011, 0.045)
PEG_REST = arm.TABLE_TOP + PEG_HALF[2]
# Sockets: half of the hole, of the outside, and the height, m. The peg has 4 mm on every side.
HOLE, OUTSIDE, HEIGHT = 0.015, 0.04, 0.05
CLOSE, OFF_TABLE, DEEP = 0.01, 0.02, 0.01
AREA = Area((0.05, 0.34), (-0.26, 0.26))
LAYOUT = Layout(
    (
        ("things", pose_names(PEG, *SOCKETS)),
        ("colors", (*SOCKETS, PEG)),
        ("phrase", ("index",)),
    )
)
PHRASES = (
    "insert the peg into the {target} socket",
    "put the {peg} peg in the {target} hole",
    "plug the peg into the {target} block",
    "place the {peg} stick into the {target} socket",
)


def _walls(socket: str) -> tuple[str, ...]:
    return tuple(f"{socket}_{side}" for side in ("back", "front", "left", "right"))


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with the peg and two sockets of four walls each."""
    spec = arm.new_tabletop()
    things.add_loose_box(spec, PEG, PEG_HALF, mass=0.06)
    middle, half = (HOLE + OUTSIDE) / 2, (OUTSIDE - HOLE) / 2
    for name in SOCKETS:
        socket = things.add_fixture(spec, name)
        for wall, sign in zip(_walls(name)[:2], (1.0, -1.0), strict=True):
            arm.add_box(socket, wall, (sign * middle, 0, HEIGHT / 2), (half, OUTSIDE, HEIGHT / 2))
        for wall, sign in zip(_walls(name)[2:], (1.0, -1.0), strict=True):
            arm.add_box(socket, wall, (0, sign * middle, HEIGHT / 2), (HOLE, half, HEIGHT / 2))
        things.let_touch(spec, _walls(name), (PEG,))
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    return {"things": placement.scatter_poses(key, AREA, (2, 3), 3, (0.13, 0.13), jnp.pi / 4)}


def _start(initial: Array) -> Start:
    peg, *sockets = LAYOUT.poses(initial, "things")
    poses = {PEG: things.at_height(peg, PEG_REST)}
    *socket_colors, peg_color = palette.rgba(LAYOUT.part(initial, "colors"))
    colors = {PEG: peg_color}
    for name, pose, color in zip(SOCKETS, sockets, socket_colors, strict=True):
        poses[name] = things.at_height(pose, arm.TABLE_TOP)
        colors |= {wall: color for wall in _walls(name)}
    return things.compose_start(load_model(), poses, colors=colors)


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = load_model()
    position = things.position_of(model, readings, PEG)
    offset = things.in_frame(model, readings, "target", position)
    over = jnp.linalg.norm(offset[:2]) < CLOSE
    held = things.grasped(model, readings, PEG)
    raised = held & (position[2] - PEG_REST > OFF_TABLE)
    inserted = over & (position[2] - PEG_REST < DEEP) & things.untouched(model, readings, PEG)
    return highest_stage(held, raised, raised & over, inserted)


def _socket_places(initial: Array) -> Array:
    return LAYOUT.poses(initial, "things")[1:]


def make_task() -> Task:
    """The task "insert_peg"."""
    return keyframe_task(
        name="insert_peg",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=(PEG, *SOCKETS),
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("grasped", "off the table", "over the hole", "inserted"),
        max_episode_steps=12,
        factors=placement.place_factors(AREA, _socket_places, near=0.22),
    )
