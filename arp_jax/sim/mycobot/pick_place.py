"""myCobot 320, pick and place with two goals: put the cube on B1; if B1 is occupied, on B2.

Reset: a red 3 cm cube lies on the table as in `move_cube`; two marks of 6 x 6 cm, B1 (green) and
B2 (blue), are on the other side. With probability 1/2 a blue cube already stands on B1, else it is
parked beside the base, out of the way. The arm is in its home pose with the adaptive gripper open.
The initial condition is the cube's x, y and yaw, and 1 if B1 is occupied, else 0.

Action: 6 absolute joint angles in rad and the gripper, 0 closed and 1 open, at 10 Hz. The servos
follow a ramp 0.2 s late and are limited in speed.

Success: reward 4. Reward 1: a finger touches the red cube; 2: and the cube is off the table; 3: the
cube stands on the table with its centre within 2 cm of the right mark's; 4: and it rests, no finger
touches it, the tool is more than 5 cm above the table and a blue cube on B1 has not been moved by
more than 1 cm.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.free_bodies import pose_spec, qpos_place
from arp_jax.sim.mycobot import bench, bench_scene, joints, tools
from arp_jax.sim.mycobot.move_cube import CUBE_QUADRANT, OFF_TABLE, draw_cube
from arp_jax.sim.task import Factor, Memory, Outcome, Readings, Start, Task, staged_outcome
from arp_jax.sim.touch import touch_test
from arp_jax.specs import FeatureSpec, ObservationSpec

CUBE, BLOCKER = "cube", "blocker"
# Centres of the two marks, and where the blue cube waits when B1 is free, x and y in m.
B1, B2, PARKED = (0.19, 0.16), (0.27, 0.10), (0.0, -0.30)
MARK_HALF = 0.03
TOLERANCE, MOVED = 0.02, 0.01  # m
CLEAR = 0.05  # m, height of the tip
REST_SPEED = 0.02  # m/s


@functools.cache
def load_model(gripper: str = "adaptive") -> mujoco.MjModel:
    """The scene with either gripper: qpos is 6 joints, 2 fingers, 7 of each cube (red, blue)."""
    spec, _ = bench_scene.new_gripper_bench(gripper)
    for name, (x, y), color in (
        ("B1", B1, (0.2, 0.6, 0.3, 1.0)),
        ("B2", B2, (0.35, 0.5, 0.85, 1.0)),
    ):
        half = (MARK_HALF, MARK_HALF, 0.001)
        bench.add_fixed_box(spec, name, (x, y, 0.0), half, color)
    bench.add_cube(spec, CUBE, bench.RED, ())
    bench.add_cube(spec, BLOCKER, bench.BLUE, (CUBE,))
    return spec.compile()


def goal_of(occupied: Array) -> Array:
    """Centre [3] of the mark on which the cube belongs, at a standing cube's height, m."""
    goals = jnp.array([(*B1, bench.CUBE_HALF), (*B2, bench.CUBE_HALF)])
    return goals[(occupied > 0.5).astype(jnp.int32)]


def draw_start(rng: Array) -> Array:
    """x, y and yaw of the cube, and 1 if B1 is occupied, else 0: [4]."""
    cube, coin = jax.random.split(rng)
    return jnp.append(draw_cube(cube), jax.random.bernoulli(coin).astype(jnp.float32))


def blocker_place(occupied: Array) -> Array:
    """Where the blue cube starts, x and y [2]."""
    return jnp.where(occupied > 0.5, jnp.array(B1), jnp.array(PARKED))


def make_task(tool: str = "adaptive") -> Task:
    """The task, see the top of this file; `tool` is "adaptive" or "force"."""
    model = load_model(tool)
    gripper = tools.GRIPPERS[tool]
    touches = touch_test(model, CUBE, tools.PADS, bench.TOUCH_MARGIN)
    height = bench.lowest_point(model, CUBE)
    tip = model.site(tools.TIP).id
    place, other = (qpos_place(model, name) for name in (CUBE, BLOCKER))
    speed = int(model.joint(CUBE).dofadr[0])

    def start(initial: Array) -> Start:
        half = jnp.float32(bench.CUBE_HALF)
        cube = jnp.stack([initial[0], initial[1], half, initial[2]])
        blocker = jnp.concatenate([blocker_place(initial[3]), jnp.stack([half, jnp.float32(0)])])
        return bench.start_with(model, gripper, {CUBE: cube, BLOCKER: blocker})

    def start_memory(initial: Array, readings: Readings) -> Memory:
        del readings
        return {"goal": goal_of(initial[3]), "blocker": blocker_place(initial[3])}

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        qpos = readings["qpos"]
        return {
            "state": joints.joint_state(qpos, gripper),
            "object_pose": qpos[place : place + 7],
            "blocker_pose": qpos[other : other + 7],
            "goal": memory["goal"],
        }

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        qpos, qvel = readings["qpos"], readings["qvel"]
        lifted, touched = height(readings) > OFF_TABLE, jnp.any(touches(readings))
        off = jnp.linalg.norm(qpos[place : place + 2] - memory["goal"][:2])
        there = (off <= TOLERANCE) & ~lifted
        moved = jnp.linalg.norm(qpos[other : other + 2] - memory["blocker"])
        resting = jnp.linalg.norm(qvel[speed : speed + 3]) <= REST_SPEED
        clear = (readings["site_xpos"][tip][2] > CLEAR) & ~touched
        reward = jnp.where(touched, 1.0 + lifted, 0.0)
        reward = jnp.where(there, 3.0, reward)
        done = there & resting & clear & (moved <= MOVED)
        return staged_outcome(jnp.where(done, 4.0, reward), 4.0)

    return Task(
        name="mycobot_pick_place",
        load_model=functools.partial(load_model, tool),
        observation_spec=ObservationSpec(
            (
                joints.state_spec(True),
                pose_spec("object_pose"),
                pose_spec("blocker_pose"),
                FeatureSpec("goal", ("x", "y", "z"), "m", "world"),
            ),
            bench_scene.camera_specs(True),
        ),
        action_spec=joints.action_spec(True),
        substeps=joints.SUBSTEPS,
        max_episode_steps=120,
        success_metric="reward",
        initial_condition=draw_start,
        start=start,
        observe=observe,
        outcome=outcome,
        fields=("qpos", "qvel", "geom_xpos", "geom_xmat", "site_xpos"),
        control=joints.joint_control(gripper),
        start_memory=start_memory,
        sub_goals=(
            "a finger touches the cube",
            "the cube is lifted",
            "the cube stands on the right mark",
            "it is released and the arm is clear",
        ),
        factors=(
            CUBE_QUADRANT,
            Factor("B1", ("free", "occupied"), lambda i: (i[3] > 0.5).astype(jnp.int32)),
        ),
        initial_names=("cube_x", "cube_y", "cube_yaw", "occupied"),
    )
