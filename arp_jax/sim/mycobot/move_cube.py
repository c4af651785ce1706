"""myCobot 320, move cube: pick a cube up and carry it onto a stand (the one-arm project's task).

Reset: a red 3 cm cube lies on the table at x 0.20 ... 0.28 m, y -0.15 ... -0.03 m, turned by up to
45 degrees either way, all uniform; a yellow stand (10 x 10 x 4 cm, fixed) is on the other side; the
arm is in its home pose with the adaptive gripper open. The initial condition is the cube's x, y and
yaw.

Action: 6 absolute joint angles in rad and the gripper, 0 closed and 1 open, at 10 Hz. The servos
follow a ramp 0.2 s late and are limited in speed.

Success: reward 3. Reward 1: a finger touches the cube; 2: and the cube is off the table; 3: the
cube touches the stand and has been off the table for 10 steps (1 s) of this episode in all.
The published platform could be pushed away; this stand cannot, so that "the platform still stands"
need not be asked.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import robot_quadrant
from arp_jax.sim.free_bodies import pose_spec, qpos_place
from arp_jax.sim.mycobot import bench, bench_scene, joints, tools
from arp_jax.sim.step_count import step_count
from arp_jax.sim.task import Memory, Outcome, Readings, Start, Task, staged_outcome
from arp_jax.sim.touch import touch_test
from arp_jax.specs import ObservationSpec

LOW, HIGH = (0.20, -0.15, -0.7854), (0.28, -0.03, 0.7854)  # x, y (m), yaw (rad)
CUBE, STAND = "cube", "stand"
STAND_HALF = (0.05, 0.05, 0.02)
STAND_POS = (0.20, 0.15, 0.02)
OFF_TABLE = 0.003  # m between the cube's lowest corner and the table
STEPS_OFF_TABLE = 10
CUBE_QUADRANT = robot_quadrant(lambda initial: initial[:2], (0.24, -0.09))


@functools.cache
def load_model(gripper: str = "adaptive") -> mujoco.MjModel:
    """The scene with either gripper: qpos is 6 joints, 2 fingers, 7 of the cube."""
    spec, _ = bench_scene.new_gripper_bench(gripper)
    bench.add_fixed_box(spec, STAND, STAND_POS, STAND_HALF, bench.YELLOW)
    bench.add_cube(spec, CUBE, bench.RED, (STAND,))
    return spec.compile()


def draw_cube(rng: Array) -> Array:
    """x, y, yaw [3] of a cube on the right-hand side of the table, uniform."""
    return jax.random.uniform(rng, (3,), jnp.float32, jnp.array(LOW), jnp.array(HIGH))


def make_task(tool: str = "adaptive") -> Task:
    """The task, see the top of this file; `tool` is "adaptive" or "force"."""
    model = load_model(tool)
    gripper = tools.GRIPPERS[tool]
    touches = touch_test(model, CUBE, (*tools.PADS, STAND), bench.TOUCH_MARGIN)
    height = bench.lowest_point(model, CUBE)
    place = qpos_place(model, CUBE)

    def lifted(readings: Readings) -> Array:
        return height(readings) > OFF_TABLE

    start_memory, remember = step_count("steps_off_table", lifted)

    def start(initial: Array) -> Start:
        x, y, yaw = initial
        pose = jnp.stack([x, y, jnp.float32(bench.CUBE_HALF), yaw])
        return bench.start_with(model, gripper, {CUBE: pose})

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        del memory
        return {
            "state": joints.joint_state(readings["qpos"], gripper),
            "object_pose": readings["qpos"][place : place + 7],
        }

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        left, right, stand = touches(readings)
        reward = jnp.where(left | right, 1.0 + lifted(readings), 0.0)
        done = stand & (memory["steps_off_table"] >= STEPS_OFF_TABLE)
        return staged_outcome(jnp.where(done, 3.0, reward), 3.0)

    return Task(
        name="mycobot_move_cube",
        load_model=functools.partial(load_model, tool),
        observation_spec=ObservationSpec(
            (joints.state_spec(True), pose_spec("object_pose")), bench_scene.camera_specs(True)
        ),
        action_spec=joints.action_spec(True),
        substeps=joints.SUBSTEPS,
        max_episode_steps=120,
        success_metric="reward",
        initial_condition=draw_cube,
        start=start,
        observe=observe,
        outcome=outcome,
        fields=("qpos", "geom_xpos", "geom_xmat"),
        control=joints.joint_control(gripper),
        start_memory=start_memory,
        remember=remember,
        sub_goals=("a finger touches the cube", "the cube is lifted", "the cube is on the stand"),
        factors=(CUBE_QUADRANT,),
        initial_names=("cube_x", "cube_y", "cube_yaw"),
    )
