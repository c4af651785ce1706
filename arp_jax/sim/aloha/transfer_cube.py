"""Bimanual transfer cube: the right hand picks up a cube and hands it to the left one.

Reset: a red 4 cm cube lies at x 0 ... 0.2 m, y 0.4 ... 0.6 m, uniform, its sides parallel to the
table's; both arms are in their start pose with nearly closed grippers. The initial condition is the
cube's x and y.

Action: 14 absolute joint positions at 50 Hz, left arm then right arm: six angles in rad and a
gripper, 0 closed and 1 open. Servos are stiff position servos without damping.

Success: reward 4. Reward 1: the right hand's right finger touches the cube; 2: and the cube is off
the table; 3: the left hand's left finger touches it; 4: and it is off the table. A later condition
overrides an earlier one. Other fingers do not count (as published by ACT).
"""

import functools

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.aloha import objects, scene
from arp_jax.sim.aloha.table_task import table_task
from arp_jax.sim.areas import Area
from arp_jax.sim.task import Memory, Readings, Task

SIDES = ("left", "right")
CUBE = "cube"
CUBE_HALF = (0.02, 0.02, 0.02)
AREA = Area(x=(0.0, 0.2), y=(0.4, 0.6))


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene, compiled: qpos is 8 a arm and 7 for the cube, 23 in all."""
    spec = scene.table_scene(SIDES)
    scene.add_box(scene.add_free_body(spec, CUBE), CUBE, CUBE_HALF, scene.RED)
    scene.add_object_pairs(spec, SIDES, [CUBE])
    return spec.compile()


def make_task() -> Task:
    """The task; see the top of this file."""
    model = load_model()
    right_touches = objects.touches_any(model, CUBE, ["right/right_finger_pad"])
    left_touches = objects.touches_any(model, CUBE, ["left/left_finger_pad"])
    on_table = objects.touches_any(model, CUBE, [scene.TABLE])

    def reward(readings: Readings, memory: Memory) -> Array:
        del memory
        right, left = right_touches(readings), left_touches(readings)
        lifted = ~on_table(readings)
        by_right = jnp.where(right, jnp.where(lifted, 2, 1), 0)
        return jnp.where(left, jnp.where(lifted, 4, 3), by_right)

    return table_task(
        name="transfer_cube",
        load_model=load_model,
        sides=SIDES,
        areas={CUBE: AREA},
        poses={"object_pose": CUBE},
        reward=reward,
        sub_goals=(
            "right hand touches the cube",
            "right hand lifts the cube",
            "left hand touches the cube",
            "left hand holds the cube",
        ),
    )
