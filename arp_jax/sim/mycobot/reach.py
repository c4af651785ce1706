"""myCobot 320, reach: bring the tip of a peg at the flange to a point in the air.

Reset: the arm is in its home pose; the target is drawn uniformly from a sector in front of it:
distance 0.16 ... 0.26 m from the base's axis, direction -60 ... 60 degrees, height 0.02 ... 0.12 m.
The initial condition is the target's x, y and z.

Action: 6 absolute joint angles in rad at 10 Hz (see `joints.py` for the rate). The servos follow a
ramp 0.2 s late and are limited in speed.

Success: the tip is within 1 cm of the target. Reward 1: within 5 cm; 2: success.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.areas import robot_quadrant
from arp_jax.sim.mycobot import bench, bench_scene, joints, tools
from arp_jax.sim.task import Memory, Outcome, Readings, Start, Task, staged_outcome
from arp_jax.specs import FeatureSpec, ObservationSpec

DISTANCE, DIRECTION, HEIGHT = (0.16, 0.26), (-1.0472, 1.0472), (0.02, 0.12)
PEG_RADIUS, DISC = 0.006, 0.012
NEAR, REACHED = 0.05, 0.01  # m
TARGET = "target"


@functools.cache
def load_model() -> mujoco.MjModel:
    """Arm, peg and a target that is a mocap body without contacts: qpos is the six joints."""
    spec, flange = bench_scene.new_bench("peg")
    tools.add_peg(flange, PEG_RADIUS, DISC)
    target = spec.worldbody.add_body(name=TARGET, mocap=True, pos=[0.2, 0, 0.1])
    target.add_geom(
        name=TARGET,
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[REACHED, 0, 0],
        material="matte",
        rgba=[0.2, 0.75, 0.3, 0.6],
    )
    return spec.compile()


def make_task() -> Task:
    """The task; see the top of this file."""
    model = load_model()
    tip = model.site(tools.TIP).id

    def initial_condition(rng: Array) -> Array:
        low = jnp.array([DISTANCE[0], DIRECTION[0], HEIGHT[0]])
        high = jnp.array([DISTANCE[1], DIRECTION[1], HEIGHT[1]])
        distance, direction, height = jax.random.uniform(rng, (3,), jnp.float32, low, high)
        x, y = distance * jnp.cos(direction), distance * jnp.sin(direction)
        return jnp.stack([x, y, height])

    def start(initial: Array) -> Start:
        return bench.start_with(model, None, {}).replace(mocap_pos=initial[None])  # type: ignore[attr-defined]

    def start_memory(initial: Array, readings: Readings) -> Memory:
        del readings
        return {"goal": initial[:3]}

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        return {
            "state": joints.joint_state(readings["qpos"], None),
            "tip": readings["site_xpos"][tip],
            "goal": memory["goal"],
        }

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        distance = jnp.linalg.norm(readings["site_xpos"][tip] - memory["goal"])
        stage = (distance <= NEAR).astype(jnp.float32) + (distance <= REACHED)
        result = staged_outcome(stage, 2.0)
        return result.replace(metrics=result.metrics | {"closeness": -distance})  # type: ignore[attr-defined]

    return Task(
        name="mycobot_reach",
        load_model=load_model,
        observation_spec=ObservationSpec(
            (
                joints.state_spec(False),
                FeatureSpec("tip", ("x", "y", "z"), "m", "world"),
                FeatureSpec("goal", ("x", "y", "z"), "m", "world"),
            ),
            bench_scene.camera_specs(False),
        ),
        action_spec=joints.action_spec(False),
        substeps=joints.SUBSTEPS,
        max_episode_steps=50,
        success_metric="reward",
        initial_condition=initial_condition,
        start=start,
        observe=observe,
        outcome=outcome,
        fields=("qpos", "site_xpos"),
        control=joints.joint_control(None),
        start_memory=start_memory,
        sub_goals=("the tip is within 5 cm of the target", "the tip is within 1 cm of the target"),
        factors=(robot_quadrant(lambda initial: initial[:2], (0.18, 0.0)),),
        initial_names=("target_x", "target_y", "target_z"),
    )
