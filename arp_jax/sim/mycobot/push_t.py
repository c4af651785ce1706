"""myCobot 320, Push-T: the planar task done by an upright peg at the arm's flange.

Observations, actions and success are Push-T's own, in its pixels (512 px = 20.48 cm on the table,
see `board.py`), so that a policy trained on the analytic engine drives this arm.

Reset: Push-T's legacy law: agent x, y 50 ... 449 px, T x, y 100 ... 399 px (integers), angle normal
with deviation 2 pi; the arm holds the peg upright at the agent's place. The initial condition is
agent x, y and T x, y (px) and angle (rad).

Action: the agent's target, x and y in px, 10 Hz, clipped to the board. Inverse kinematics turns it
into joint targets for the upright peg; the servos have the same critically damped law
(10 rad/s) as Push-T's agent. The T is quasi-static and frictionless.

Success: the T covers more than 95 % of the goal. The reward is coverage / 0.95, at most 1.
"""

import functools

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import kinematics
from arp_jax.sim.areas import quadrant_factor
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.kinematics import Chain
from arp_jax.sim.mycobot import bench, bench_scene, board, joints, tools
from arp_jax.sim.mycobot.arm import COMMAND_LIMITS, HOME
from arp_jax.sim.push_t import env as push_t
from arp_jax.sim.push_t import geometry, reset_laws
from arp_jax.sim.push_t.coverage import coverage
from arp_jax.sim.task import Memory, Outcome, Readings, Start, Task
from arp_jax.specs import ObservationSpec

# In the picture x grows to the right and y downwards, which is towards the arm.
QUARTERS = ("far left", "far right", "near left", "near right")
PEG_RADIUS = geometry.AGENT_RADIUS * board.SCALE
# From anywhere on the board, and from one target to the next.
START_ITERATIONS, STEP_ITERATIONS = 40, 10


@functools.cache
def load_model() -> mujoco.MjModel:
    """Arm, peg, T and walls: qpos is six joints, then the T's x, y and yaw."""
    spec, flange = bench_scene.new_bench("peg")
    tools.add_peg(flange, PEG_RADIUS, 0.6 * board.THICKNESS)
    board.add_board(spec, "peg")
    return spec.compile()


def upright(chain: Chain, target: Array, near: Array, iterations: int) -> Array:
    """Joints [6] that hold the peg upright at a board point.

    Args:
        chain: to the peg's tip.
        target: [2] px.
        near: joints [6] where the search begins.
        iterations: of the solver.
    """
    place = jnp.append(board.to_world(target), board.TOOL_HEIGHT)
    quat = bench.down(bench.radial_yaw(place))
    return kinematics.solve(chain, place, quat, near, iterations).q


def make_task() -> Task:
    """The task; see the top of this file."""
    model = load_model()
    chain = bench.tip_chain(model)
    tip = model.site(tools.TIP).id
    first = qpos_place(model, board.BLOCK[0])

    def start(initial: Array) -> Start:
        arm = upright(chain, initial[:2], jnp.array(HOME), START_ITERATIONS)
        return Start(qpos=jnp.concatenate([arm, board.block_joints(initial)]))

    def control(action: Array, readings: Readings, memory: Memory) -> Array:
        del memory
        now, limits = readings["qpos"][: joints.ANGLES], jnp.array(COMMAND_LIMITS)
        target = jnp.clip(action, 0.0, geometry.WORLD_SIZE)
        return jnp.clip(upright(chain, target, now, STEP_ITERATIONS), -limits, limits)[None]

    def block(readings: Readings) -> Array:
        return board.block_pose(readings["qpos"][first : first + 3])

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        del memory
        agent = board.to_px(readings["site_xpos"][tip][:2])
        names = tuple(f.name for f in push_t.OBSERVATION_SPEC.features)
        features = push_t.observe(agent, block(readings), names)
        return features | {"state": joints.joint_state(readings["qpos"], None)}

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        del memory
        covered = coverage(block(readings))
        return Outcome(
            reward=jnp.clip(covered / geometry.SUCCESS_COVERAGE, 0.0, 1.0),
            success=covered > geometry.SUCCESS_COVERAGE,
            metrics={"coverage": covered},
        )

    def initial_condition(rng: jax.Array) -> Array:
        return reset_laws.sample_initial_condition(rng, "legacy")

    return Task(
        name="mycobot_push_t",
        load_model=load_model,
        # Push-T's features first and unchanged: that is what its policies were trained with.
        observation_spec=ObservationSpec(
            (*push_t.OBSERVATION_SPEC.features, joints.state_spec(False)),
            bench_scene.camera_specs(False),
        ),
        action_spec=push_t.ACTION_SPEC,
        substeps=joints.SUBSTEPS,
        max_episode_steps=geometry.MAX_EPISODE_STEPS,
        success_metric="coverage",
        initial_condition=initial_condition,
        start=start,
        observe=observe,
        outcome=outcome,
        fields=("qpos", "site_xpos"),
        control=control,
        factors=(quadrant_factor(lambda initial: initial[2:4], (250.0, 250.0), QUARTERS),),
        initial_names=("agent_x", "agent_y", "block_x", "block_y", "block_angle"),
    )
