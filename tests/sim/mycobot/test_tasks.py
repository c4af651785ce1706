"""myCobot's four tasks: specs, start, rewards in arranged situations, experts."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.mycobot import bench, move_cube, pick_place, tools
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.env import ACTION_SPEC, PushT
from arp_jax.sim.push_t.reset_laws import initial_from_pose
from arp_jax.sim.task import Task
from arp_jax.sim.tasks import make_expert, make_task
from arp_jax.specs import check_match
from tests.sim.expert_tries import play
from tests.sim.readings import read

NAMES = ("mycobot_reach", "mycobot_move_cube", "mycobot_pick_place", "mycobot_push_t")


@functools.cache
def programs(name: str) -> tuple[Task, Callable, Callable, Callable]:
    """A task and its `start`, `observe` and `outcome`, jitted once for all tests."""
    task = make_task(name)
    return task, jax.jit(task.start), jax.jit(task.observe), jax.jit(task.outcome)


def readings_at(task: Task, qpos: np.ndarray) -> dict[str, jax.Array]:
    """What an engine would report of a resting configuration."""
    model = task.load_model()
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return read(task, data)


@pytest.mark.parametrize("name", NAMES)
def test_starts_match_their_specs(name):
    task, start_of, observe, judge = programs(name)
    model = task.load_model()
    assert task.physics_steps == task.substeps == 20
    for camera in task.observation_spec.cameras:
        assert model.camera(camera.name).id >= 0
    initial = task.initial_condition(jax.random.key(1))
    assert initial.shape == (len(task.initial_names),)
    assert initial.dtype == jnp.float32
    start = start_of(initial)
    assert start.qpos.shape == (model.nq,)
    readings = readings_at(task, np.asarray(start.qpos))
    memory = task.start_memory(initial, readings)
    seen = observe(readings, memory)
    assert set(seen) == {feature.name for feature in task.observation_spec.features}
    for feature in task.observation_spec.features:
        assert seen[feature.name].shape == (feature.size,)
        assert seen[feature.name].dtype == jnp.float32
        if feature.low is not None:
            assert (seen[feature.name] >= np.array(feature.low) - 1e-3).all()
            assert (seen[feature.name] <= np.array(feature.high) + 1e-3).all()
    outcome = judge(readings, memory)
    assert not outcome.success
    assert task.success_metric in outcome.metrics
    for factor in task.factors:
        assert 0 <= int(factor.classify(initial)) < len(factor.values)


def test_actions_are_clipped_and_scaled():
    task = make_task("mycobot_move_cube")
    model = task.load_model()
    action = jnp.array([9.0, -9.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    ctrl = np.asarray(task.control(action, {}, {}))
    assert ctrl.shape == (1, model.nu)
    assert (ctrl <= model.actuator_ctrlrange[:, 1] + 1e-6).all()
    assert (ctrl >= model.actuator_ctrlrange[:, 0] - 1e-6).all()
    np.testing.assert_allclose(ctrl[0, 2:6], [0.1, 0.2, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(ctrl[0, 6:], 0.5 * tools.GRIPPERS["adaptive"].stroke)


def test_move_cube_counts_stages():
    task, start_of, _, outcome = programs("mycobot_move_cube")
    start = np.asarray(start_of(jnp.array([0.24, -0.09, 0.0])).qpos)
    place = qpos_place(task.load_model(), move_cube.CUBE)
    x, y, middle = move_cube.STAND_POS
    top = middle + move_cube.STAND_HALF[2] + bench.CUBE_HALF

    def reward(cube: tuple[float, float, float] | None, steps: int, grasp: bool = False) -> float:
        qpos = start.copy()
        if cube is not None:
            qpos[place : place + 3] = cube
        if grasp:
            qpos[6:8] = bench.CUBE_HALF
            sites = readings_at(make_task("mycobot_pick_place"), np.append(qpos, np.zeros(7)))
            qpos[place : place + 3] = sites["site_xpos"][0]
        readings = readings_at(task, qpos)
        return float(outcome(readings, {"steps_off_table": jnp.int32(steps)}).reward)

    assert reward(None, 0) == 0
    assert reward(None, 0, grasp=True) == 2
    assert reward((x, y, top), 9) == 0  # pushed or thrown there
    assert reward((x, y, top), 10) == 3
    assert reward((x, y, top + 0.02), 10) == 0  # above the stand
    assert reward((0.3, 0.0, bench.CUBE_HALF), 10) == 0


def test_move_cube_remembers_how_long_the_cube_was_off_the_table():
    task, start_of, _, _ = programs("mycobot_move_cube")
    qpos = np.asarray(start_of(jnp.array([0.24, -0.09, 0.3])).qpos)
    low = readings_at(task, qpos)
    qpos = qpos.copy()
    qpos[qpos_place(task.load_model(), move_cube.CUBE) + 2] += 0.01
    high = readings_at(task, qpos)
    memory = task.start_memory(jnp.zeros(3), low)
    for readings, expected in ((low, 0), (high, 1), (low, 1), (high, 2)):
        memory = task.remember(memory, readings, jnp.zeros(7))
        assert int(memory["steps_off_table"]) == expected


def test_pick_place_wants_the_free_goal():
    task, start_of, _, outcome = programs("mycobot_pick_place")
    model = task.load_model()
    cube, blocker = (qpos_place(model, name) for name in (pick_place.CUBE, pick_place.BLOCKER))

    def judge(
        goal: tuple[float, float], occupied: float, push: float = 0.0, speed: float = 0.0
    ) -> float:
        initial = jnp.array([0.24, -0.09, 0.0, occupied])
        qpos = np.asarray(start_of(initial).qpos).copy()
        qpos[cube : cube + 2] = goal
        qpos[blocker] += push
        readings = readings_at(task, qpos) | {"qvel": jnp.full(model.nv, speed)}
        return float(outcome(readings, task.start_memory(initial, readings)).reward)

    assert judge(pick_place.B1, 0.0) == 4
    assert judge(pick_place.B2, 0.0) == 0
    assert judge(pick_place.B2, 1.0) == 4
    assert judge(pick_place.B1, 1.0) == 0
    assert judge(pick_place.B2, 1.0, push=0.02) == 3
    assert judge(pick_place.B1, 0.0, speed=0.1) == 3


def test_push_t_has_the_specs_of_the_analytic_engine():
    task = make_task("mycobot_push_t")
    env = PushT(observations=("agent_pos", "keypoints", "block_pose"))
    check_match(
        env.observation_spec, task.observation_spec.select(env.observation_spec.names), "push_t"
    )
    check_match(ACTION_SPEC, task.action_spec, "push_t")
    assert task.max_episode_steps == env.max_episode_steps


def test_push_t_starts_where_the_analytic_engine_does():
    task, start_of, observe, _ = programs("mycobot_push_t")
    env = PushT(observations=("agent_pos", "block_pose"))
    initial = jnp.array([400.0, 120.0, 180.0, 300.0, 2.0])
    readings = readings_at(task, np.asarray(start_of(initial).qpos))
    seen, expected = observe(readings, {}), env.reset_to(initial).observation
    np.testing.assert_allclose(seen["agent_pos"], expected["agent_pos"], atol=0.1)
    np.testing.assert_allclose(seen["block_pose"], expected["block_pose"], atol=0.01)


def test_push_t_succeeds_at_the_goal():
    task, start_of, _, judge = programs("mycobot_push_t")
    for turn, success in ((0.0, True), (0.2, False)):
        x, y, angle = geometry.GOAL_POSE
        initial = initial_from_pose(np.array([450.0, 60.0]), np.array([x, y, angle + turn]))
        start = start_of(jnp.asarray(initial, jnp.float32))
        outcome = judge(readings_at(task, np.asarray(start.qpos)), {})
        assert bool(outcome.success) == success
        assert (float(outcome.metrics["coverage"]) > 0.99) == success


def test_reach_expert_arrives():
    assert play(make_task("mycobot_reach"), make_expert("mycobot_reach"), 8).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mycobot_move_cube", "mycobot_pick_place"])
def test_cube_experts_succeed(name):
    assert play(make_task(name), make_expert(name), 40).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("module", [move_cube, pick_place])
def test_cube_experts_succeed_with_the_force_gripper(module):
    task = module.make_task("force")
    expert = make_expert(task.name)
    assert play(task, expert, 20).mean() >= 0.95


@pytest.mark.slow
def test_push_t_expert_succeeds():
    assert play(make_task("mycobot_push_t"), make_expert("mycobot_push_t"), 20).mean() >= 0.9
