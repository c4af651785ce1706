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

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import scene as contact
from arp_jax.sim.aloha import joints, objects, scene, transfer_cube
from arp_jax.sim.task import Memory, Outcome, Readings, Task, staged_outcome
from arp_jax.specs import ObservationSpec

SIDES = ("right",)
CUBE, PLATFORM = transfer_cube.CUBE, "platform"
PLATFORM_HALF = (0.5, 0.1, 0.05)
PLATFORM_POS = (0.0, 0.9, 0.05)
PLATFORM_FRICTION = (2.0, 2.0, 0.005, 0.0001, 0.0001)
AREA = transfer_cube.AREA
STEPS_OFF_TABLE = 50
SUCCESS_REWARD = 3


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
    hand_touches = objects.touch_test(model, CUBE, ["right/right_finger_pad"])
    on_table = objects.touch_test(model, CUBE, [scene.TABLE])
    on_platform = objects.touch_test(model, CUBE, [PLATFORM])
    platform_stands = objects.touch_test(model, PLATFORM, [scene.TABLE])
    places = {
        "object_pose": objects.object_place(model, CUBE),
        "platform_pose": objects.object_place(model, PLATFORM),
    }

    def start_memory(initial: Array, readings: Readings) -> Memory:
        del initial, readings
        return {"steps_off_table": jnp.int32(0)}

    def remember(memory: Memory, readings: Readings, action: Array) -> Memory:
        del action
        return {
            "steps_off_table": memory["steps_off_table"] + (~on_table(readings)).astype(jnp.int32)
        }

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        del memory
        return joints.observe(readings, SIDES, places)

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        lifted = ~on_table(readings)
        reward = jnp.where(hand_touches(readings), jnp.where(lifted, 2, 1), 0)
        carried = memory["steps_off_table"] >= STEPS_OFF_TABLE
        placed = carried & on_platform(readings) & platform_stands(readings)
        return staged_outcome(jnp.where(placed, 3, reward), SUCCESS_REWARD)

    def initial_condition(rng: jax.Array) -> Array:
        return AREA.draw(rng)

    return Task(
        name="move_cube",
        load_model=load_model,
        observation_spec=ObservationSpec(
            joints.feature_specs(SIDES, list(places)), joints.camera_specs(SIDES)
        ),
        action_spec=joints.action_spec(SIDES),
        substeps=scene.SUBSTEPS,
        max_episode_steps=400,
        success_metric="reward",
        initial_condition=initial_condition,
        start=objects.start_with(model, [CUBE]),
        observe=observe,
        outcome=outcome,
        fields=("qpos", "qvel", "geom_xpos", "geom_xmat"),
        control=joints.control,
        start_memory=start_memory,
        remember=remember,
        sub_goals=(
            "the hand touches the cube",
            "the hand lifts the cube",
            "the cube lies on the platform",
        ),
        factors=(AREA.quadrant("quadrant", 0),),
        initial_names=("cube_x", "cube_y"),
    )
