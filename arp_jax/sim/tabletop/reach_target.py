"""Reach the sphere of the named color with the tool, past two spheres of other colors.

Reset: three spheres (radius 2.5 cm) hang 10-35 cm above the table, at least 12 cm apart along x or
y, in different palette colors; the arm is in its ready pose.
Action: one key frame: tool position (m, world), quaternion (x, y, z, w), gripper (1 = open).
Success: the tool is within 2 cm of the middle of the named sphere at the end of a key frame.
Stages: within 10 cm; within 2 cm.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import highest_stage, keyframe_task
from arp_jax.sim.tabletop.layout import Layout
from arp_jax.sim.task import Readings, Start, Task

SPHERES = ("target", "distractor1", "distractor2")
RADIUS = 0.025
NEAR, CLOSE = 0.1, 0.02
AREA = Area((0.0, 0.32), (-0.3, 0.3))
LOWEST, HIGHEST = arm.TABLE_TOP + 0.1, arm.TABLE_TOP + 0.35
LAYOUT = Layout(
    (
        ("spheres", tuple(f"{name}_{dim}" for name in SPHERES for dim in ("x", "y", "z"))),
        ("colors", SPHERES),
        ("phrase", ("index",)),
    )
)
PHRASES = (
    "reach the {target} target",
    "touch the {target} ball with the gripper",
    "move the gripper to the {target} sphere",
    "go to the {target} ball",
)


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene with three spheres that nothing touches."""
    spec = arm.new_tabletop()
    for name in SPHERES:
        things.add_fixture(spec, name).add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0]
        )
    return spec.compile()


def _draw(key: Array) -> dict[str, Array]:
    place_key, height_key = jax.random.split(key)
    places = placement.scatter(place_key, AREA, (2, 3), len(SPHERES), (0.12, 0.12))
    heights = jax.random.uniform(height_key, (len(SPHERES), 1), minval=LOWEST, maxval=HIGHEST)
    return {"spheres": jnp.concatenate([places, heights], -1)}


def _spheres(initial: Array) -> Array:
    return LAYOUT.part(initial, "spheres").reshape(-1, 3)


def _start(initial: Array) -> Start:
    poses = jnp.pad(_spheres(initial), ((0, 0), (0, 1)))
    colors = palette.rgba(LAYOUT.part(initial, "colors"))
    return things.compose_start(
        load_model(),
        dict(zip(SPHERES, poses, strict=True)),
        colors=dict(zip(SPHERES, colors, strict=True)),
    )


def _reward(readings: Readings, progress: Array) -> Array:
    del progress
    model = load_model()
    tool = readings["site_xpos"][model.site(arm.TOOL).id]
    distance = jnp.linalg.norm(tool - things.position_of(model, readings, "target"))
    return highest_stage(distance < NEAR, distance < CLOSE)


def make_task() -> Task:
    """The task "reach_target"."""
    return keyframe_task(
        name="reach_target",
        model=load_model(),
        layout=LAYOUT,
        phrases=PHRASES,
        objects=SPHERES,
        draw=_draw,
        start=_start,
        reward=_reward,
        sub_goals=("near the target", "at the target"),
        max_episode_steps=10,
        factors=placement.place_factors(AREA, _spheres, near=0.25),
    )
