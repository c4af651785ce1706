"""One-arm move cube: the right ViperX carries a cube to a platform at the back of the table.

Reset: a red 4 cm cube lies at x 0 ... 0.2 m, y 0.4 ... 0.6 m, uniform, its sides parallel to the
table's; a yellow platform (100 x 20 x 10 cm, light enough to be pushed away) stands at y = 0.9 m;
the arm is in its start pose. The initial condition is the cube's x and y. The platform stands on
the table here; published, it starts 1 cm inside it.

Action: 7 absolute joint positions of the right arm at 50 Hz: six angles in rad and a gripper,
0 closed and 1 open. Servos are stiff position servos without damping.

Success: reward 3. Reward 1: the right finger touches the cube; 2: and the cube is off the table;
3: the cube lies on the platform, the platform on the table, and the cube has been off the table for
50 steps of this episode in all, so that pushing it there does not count.
"""

import functools

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import scene as contact
from arp_jax.sim.aloha import objects, scene, transfer_cube
from arp_jax.sim.aloha.table_task import table_task
from arp_jax.sim.step_count import step_count
from arp_jax.sim.task import Memory, Readings, Task

SIDES = ("right",)
CUBE, PLATFORM = transfer_cube.CUBE, "platform"
PLATFORM_HALF = (0.5, 0.1, 0.05)
PLATFORM_POS = (0.0, 0.9, 0.05)
PLATFORM_FRICTION = (2.0, 2.0, 0.005, 0.0001, 0.0001)
STEPS_OFF_TABLE = 50


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene, compiled: qpos is 8 for the arm, 7 for the cube and the platform, 22 in all."""
    spec = scene.table_scene(SIDES)
    scene.add_box(scene.add_free_body(spec, CUBE), CUBE, transfer_cube.CUBE_HALF, scene.RED)
    platform = scene.add_free_body(spec, PLATFORM)
    platform.pos = PLATFORM_POS
    scene.add_box(platform, PLATFORM, PLATFORM_HALF, scene.YELLOW)
    scene.add_object_pairs(spec, SIDES, [CUBE])
    for other in (scene.TABLE, CUBE, *scene.pads(SIDES)):
        contact.add_pair(spec, other, PLATFORM, friction=PLATFORM_FRICTION)
    return spec.compile()


def make_task() -> Task:
    """The task; see the top of this file."""
    model = load_model()
    hand_touches = objects.touches_any(model, CUBE, ["right/right_finger_pad"])
    on_table = objects.touches_any(model, CUBE, [scene.TABLE])
    on_platform = objects.touches_any(model, CUBE, [PLATFORM])
    platform_stands = objects.touches_any(model, PLATFORM, [scene.TABLE])
    start_memory, remember = step_count("steps_off_table", lambda readings: ~on_table(readings))

    def reward(readings: Readings, memory: Memory) -> Array:
        lifted = ~on_table(readings)
        by_hand = jnp.where(hand_touches(readings), jnp.where(lifted, 2, 1), 0)
        carried = memory["steps_off_table"] >= STEPS_OFF_TABLE
        placed = carried & on_platform(readings) & platform_stands(readings)
        return jnp.where(placed, 3, by_hand)

    return table_task(
        name="move_cube",
        load_model=load_model,
        sides=SIDES,
        areas={CUBE: transfer_cube.AREA},
        poses={"object_pose": CUBE, "platform_pose": PLATFORM},
        reward=reward,
        sub_goals=(
            "the hand touches the cube",
            "the hand lifts the cube",
            "the cube lies on the platform",
        ),
        start_memory=start_memory,
        remember=remember,
    )
