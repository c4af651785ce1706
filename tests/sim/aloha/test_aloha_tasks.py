"""ALOHA's tasks: actions, observations, and rewards that agree with MuJoCo's contacts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.aloha import joints
from arp_jax.sim.tasks import make_task
from tests.golden_files import golden_path, load_golden
from tests.sim.aloha.stepping import started
from tests.sim.readings import read

TASKS = ("transfer_cube", "insertion", "move_cube")
each_task = pytest.mark.parametrize("name", TASKS)


@pytest.mark.golden
def test_gripper_normalization_is_the_published_one():
    golden = load_golden(golden_path("scripted", "act"))
    normal = joints.normalize_gripper(np.array([0.01844, 0.03, 0.058]))
    np.testing.assert_allclose(normal, golden["out/gripper_norm"], atol=1e-6)
    meters = joints.unnormalize_gripper(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(meters, golden["out/gripper_unnorm"], atol=1e-6)


@each_task
def test_specs_have_the_sizes_of_what_they_describe(name):
    task = make_task(name)
    initial = task.initial_condition(jax.random.key(3))
    assert initial.shape == (len(task.initial_names),)
    readings = read(task, started(task, np.array(initial)))
    seen = task.observe(readings, task.start_memory(initial, readings))
    assert set(seen) == {f.name for f in task.observation_spec.features}
    for feature in task.observation_spec.features:
        assert seen[feature.name].shape == (feature.size,), feature.name
    state = task.observation_spec.feature("state")
    assert state.dims == task.action_spec.dims
    assert np.all(np.array(seen["state"]) >= state.low)
    rows = task.control(jnp.zeros(task.action_spec.size), readings, {})
    assert rows.shape == (1, task.load_model().nu)
    assert task.physics_steps == task.substeps == 5


@each_task
def test_commanding_the_present_positions_holds_them(name):
    task = make_task(name)
    initial = np.array(task.initial_condition(jax.random.key(0)))
    readings = read(task, started(task, initial))
    state = task.observe(readings, {})["state"]
    ctrl = np.array(task.control(state, readings, {}))[0]
    np.testing.assert_allclose(ctrl, readings["qpos"][: len(ctrl)], atol=1e-6)


@each_task
def test_starts_fill_their_area_and_quadrants(name):
    task = make_task(name)
    draws = jax.vmap(task.initial_condition)(jax.random.split(jax.random.key(1), 400))
    for place, label in enumerate(task.initial_names):
        low, high = (0.4, 0.6) if label.endswith("_y") else (0.1, 0.2)
        if label in ("cube_x", "socket_x"):
            low, high = {"cube_x": (0.0, 0.2), "socket_x": (-0.2, -0.1)}[label]
        values = np.array(draws[:, place])
        assert low <= values.min() < low + 0.01, label
        assert high - 0.01 < values.max() <= high, label
    for factor in task.factors:
        counts = np.bincount(jax.vmap(factor.classify)(draws), minlength=4)
        assert len(counts) == len(factor.values) == 4
        assert counts.min() > 60, factor.name
    # x grows to the right and y away from the viewer of the "angle" camera.
    corner = jnp.array([0.19, 0.41, -0.19, 0.59][: len(task.initial_names)])
    first = task.factors[0]
    assert first.values[int(first.classify(corner))] == "near right"


def place(task, name: str, pos) -> np.ndarray:
    """qpos of the start with one free body moved, level."""
    model = task.load_model()
    qpos = np.array(task.start(jnp.array([0.1, 0.5])).qpos, np.float64)
    first = model.joint(name).qposadr[0]
    qpos[first : first + 3] = pos
    return qpos


def test_move_cube_counts_the_steps_off_the_table():
    """A cube that is pushed to the platform's top in no time does not count; a carried one does."""
    task = make_task("move_cube")
    data = mujoco.MjData(task.load_model())
    data.qpos[:] = place(task, "cube", (0.0, 0.9, 0.12))
    mujoco.mj_forward(task.load_model(), data)
    readings = read(task, data)
    memory = task.start_memory(jnp.zeros(2), readings)
    remember, outcome = jax.jit(task.remember), jax.jit(task.outcome)
    rewards = []
    for _ in range(60):
        memory = remember(memory, readings, jnp.zeros(7))
        rewards.append(float(outcome(readings, memory).reward))
    assert rewards[:49] == [0.0] * 49
    assert rewards[49:] == [3.0] * 11
    # Steps on the table do not reset the count, nor add to it.
    data.qpos[:] = place(task, "cube", (0.0, 0.5, 0.02))
    mujoco.mj_forward(task.load_model(), data)
    again = remember(memory, read(task, data), jnp.zeros(7))
    assert int(again["steps_off_table"]) == int(memory["steps_off_table"]) == 60
    # A platform that left the table spoils it.
    data.qpos[:] = place(task, "platform", (0.0, 0.9, 0.06))
    data.joint("cube").qpos[:3] = (0.0, 0.9, 0.13)
    mujoco.mj_forward(task.load_model(), data)
    assert float(outcome(read(task, data), memory).reward) == 0.0
