"""A task small enough to compile in seconds: a slider pushes a block along a table."""

import functools

import jax
import jax.numpy as jnp
import mujoco

from arp_jax.sim import scene
from arp_jax.sim.boxes import separation
from arp_jax.sim.task import Factor, Outcome, Start, Task
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

GOAL = 0.25


@functools.cache
def load_model() -> mujoco.MjModel:
    spec = scene.new_scene(0.004)
    world = spec.worldbody
    world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    scene.add_camera_looking_at(world, "side", [0.1, -1, 0.5], [0.1, 0, 0], 45)
    block = world.add_body(name="block", pos=[0.1, 0, 0.02])
    block.add_freejoint()
    block.add_geom(
        name="block", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.02] * 3, mass=0.05, rgba=[1, 0, 0, 1]
    )
    pusher = world.add_body(name="pusher", pos=[-0.1, 0, 0.015])
    pusher.add_joint(
        name="slide",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[1, 0, 0],
        range=[0, 0.6],
        damping=10,
        armature=0.05,
    )
    # A broad face without friction: the push is stable, so that engines can be compared.
    size = [0.01, 0.04, 0.01]
    pusher.add_geom(name="pusher", type=mujoco.mjtGeom.mjGEOM_BOX, size=size, mass=0.2)
    target = world.add_body(name="target", mocap=True, pos=[GOAL, 0.1, 0])
    target.add_geom(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0])
    scene.add_pair(spec, "table", "block")
    scene.add_pair(spec, "pusher", "block", condim=1)
    actuator = spec.add_actuator(name="slide", target="slide")
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    actuator.set_to_position(kp=100)
    return spec.compile()


def _initial_condition(rng):
    return jax.random.uniform(rng, (2,), minval=jnp.array([0.0, -0.005]), maxval=0.005)


def _start(initial):
    block = jnp.array([0.1, 0.0, 0.02, 1, 0, 0, 0]).at[:2].add(initial)
    rgba = jnp.asarray(load_model().geom_rgba, jnp.float32)
    return Start(
        qpos=jnp.concatenate([block, jnp.zeros(1)]),
        mocap_pos=jnp.array([[GOAL, 0.1, 0.0]]).at[0, 1].add(initial[1]),
        fields={"geom_rgba": rgba},
    )


def _outcome(readings, memory):
    half = jnp.asarray(load_model().geom_size, jnp.float32)
    block, pusher = load_model().geom("block").id, load_model().geom("pusher").id
    pos, mat = readings["geom_xpos"], readings["geom_xmat"]
    gap = separation(pos[block], mat[block], half[block], pos[pusher], mat[pusher], half[pusher])
    arrived = readings["qpos"][0] >= GOAL
    reward = jnp.where(arrived, 2.0, jnp.where((gap < 1e-3) | (memory["touched"] > 0), 1.0, 0.0))
    return Outcome(reward=reward, success=arrived, metrics={"reward": reward, "steps": memory["n"]})


def _remember(memory, readings, action):
    return {"touched": memory["touched"], "n": memory["n"] + 1.0}


def make_task() -> Task:
    return Task(
        name="tiny",
        load_model=load_model,
        observation_spec=ObservationSpec(
            features=(
                FeatureSpec("state", ("slide",), "m", "base", (0.0,), (0.6,)),
                FeatureSpec("block", ("x", "y"), "m", "world"),
            ),
            cameras=(CameraSpec("side", 48, 64),),
        ),
        action_spec=ActionSpec(("slide",), "m", "base", (True,), (0.0,), (0.6,), 25.0),
        substeps=10,
        max_episode_steps=60,
        success_metric="reward",
        initial_condition=_initial_condition,
        start=_start,
        observe=lambda readings, memory: {
            "state": readings["qpos"][7:8],
            "block": readings["qpos"][:2],
        },
        outcome=_outcome,
        fields=("geom_xpos", "geom_xmat"),
        start_memory=lambda initial, readings: {"touched": jnp.zeros(()), "n": jnp.zeros(())},
        remember=_remember,
        sub_goals=("touched", "arrived"),
        factors=(Factor("side", ("left", "right"), lambda k: (k[1] > 0).astype(jnp.int32)),),
        initial_names=("x", "y"),
    )


@functools.cache
def tiny_task() -> Task:
    return make_task()
