"""The eight tasks: how they start, what they show, what counts, and that their experts succeed."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.tabletop import arm, palette, push_buttons
from arp_jax.sim.tasks import make_expert, make_task
from tests.sim.expert_tries import play, start_tries
from tests.sim.readings import read

TASKS = (
    "reach_target",
    "push_buttons",
    "pick_and_lift",
    "place_on_color",
    "stack_blocks",
    "put_item_in_drawer",
    "insert_peg",
    "close_lid",
)


def simulation(task, initial):
    """MjData of a task's start."""
    start = jax.jit(task.start)(initial)
    model = copy.copy(task.load_model())
    for field, value in start.fields.items():
        getattr(model, field)[:] = value
    data = mujoco.MjData(model)
    data.qpos[:] = start.qpos
    data.ctrl[:] = data.qpos[:9]
    if model.nmocap:
        data.mocap_pos[:], data.mocap_quat[:] = start.mocap_pos, start.mocap_quat
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize("name", TASKS)
def test_start_is_at_rest_and_no_success(name):
    task = make_task(name)
    initial = jax.jit(task.initial_condition)(jax.random.key(7))
    assert initial.shape == (len(task.initial_names),)
    model, data = simulation(task, initial)
    before = data.xpos.copy()
    mujoco.mj_step(model, data, 200)
    mujoco.mj_kinematics(model, data)
    # Soft contacts settle by less than a millimetre.
    np.testing.assert_allclose(data.xpos, before, atol=1e-3)
    readings = read(task, data)

    @jax.jit
    def after_waiting(initial, readings):
        memory = task.start_memory(initial, readings)
        return task.outcome(readings, task.remember(memory, readings, jnp.ones(8)))

    outcome = after_waiting(initial, readings)
    assert float(outcome.reward) == 0.0
    assert not bool(outcome.success)


@pytest.mark.parametrize("name", TASKS)
def test_features_are_as_specified(name):
    task = make_task(name)
    initial = jax.jit(task.initial_condition)(jax.random.key(3))
    model, data = simulation(task, initial)
    readings = read(task, data)
    memory = task.start_memory(initial, readings)
    features = jax.jit(task.observe)(readings, memory)
    spec = task.observation_spec
    assert {f.name: f.size for f in spec.features} == {k: v.size for k, v in features.items()}
    np.testing.assert_allclose(features["state"], [*arm.HOME, 2 * arm.FINGER_OPEN], atol=1e-6)
    np.testing.assert_allclose(features["tool_pose"][:3], data.site(arm.TOOL).xpos, atol=1e-5)
    # Objects come by name, quaternions x, y, z, w.
    last = spec.feature("object_pose").dims[-1].removesuffix("_qw")
    expected = [*data.body(last).xpos, *np.roll(data.body(last).xquat, -1)]
    np.testing.assert_allclose(features["object_pose"][-7:], expected, atol=1e-5)
    assert [c.name for c in spec.cameras] == [model.camera(i).name for i in range(model.ncam)]


@pytest.mark.parametrize("name", TASKS)
def test_sentences_name_the_colors_that_are_shown(name):
    task = make_task(name)
    drawn = jax.jit(jax.vmap(task.initial_condition))(jax.random.split(jax.random.key(0), 64))
    initials = np.asarray(drawn)
    assert task.instruction is not None
    sentences = [task.instruction(initial) for initial in initials]
    assert len(set(sentences)) > 15
    factor = {f.name: f for f in task.factors}
    assert set(factor) == {"quadrant", "distractors", "color"}
    classes = {n: np.asarray(jax.jit(jax.vmap(f.classify))(drawn)) for n, f in factor.items()}
    color = classes["color"]
    assert all(palette.NAMES[c] in words for c, words in zip(color, sentences, strict=True))
    for one in task.factors:
        found = set(classes[one.name].tolist())
        assert len(found) > 1
        assert found <= set(range(len(one.values)))
    rgba = np.asarray(jax.jit(task.start)(drawn[0]).fields["geom_rgba"])
    assert rgba.shape == (task.load_model().ngeom, 4)
    first = np.asarray(palette.rgba(color[0]))
    assert (rgba == first).all(-1).any()


def test_buttons_count_in_order_only():
    model = push_buttons.load_model()

    def pushed(progress, *names):
        qpos = np.array(model.qpos0, np.float32)
        for name in names:
            qpos[model.joint(push_buttons.cap(name)).qposadr[0]] = -push_buttons.TRAVEL
        return push_buttons._update_progress(progress, {"qpos": jnp.asarray(qpos)})

    start = jnp.zeros(2)
    first = pushed(start, "first")
    np.testing.assert_array_equal(first, [1, 0])
    np.testing.assert_array_equal(pushed(first), [1, 0])
    np.testing.assert_array_equal(pushed(first, "first"), [1, 0])  # may stay down
    np.testing.assert_array_equal(pushed(first, "second"), [2, 0])
    np.testing.assert_array_equal(pushed(first, "third"), [1, 1])
    np.testing.assert_array_equal(pushed(start, "distractor"), [0, 1])
    spoilt = pushed(start, "second")
    np.testing.assert_array_equal(pushed(spoilt, "first"), [0, 1])
    done = pushed(pushed(pushed(start, "first"), "second"), "third")
    np.testing.assert_array_equal(done, [3, 0])


def test_a_stack_that_is_still_held_does_not_count():
    task = make_task("stack_blocks")
    initial = task.initial_condition(jax.random.key(1))
    model, data = simulation(task, initial)
    place = int(model.jnt_qposadr[model.body("top").jntadr[0]])
    data.qpos[place : place + 3] = data.body("bottom").xpos + np.array([0.0, 0.0, 0.04])
    mujoco.mj_kinematics(model, data)
    readings = read(task, data)
    memory = task.start_memory(initial, readings)
    assert float(task.outcome(readings, memory).reward) == 4.0
    # The same with one finger pad beside the block.
    pad, block = model.geom("pad_left").id, model.geom("top").id
    beside = readings["geom_xpos"][block] + readings["geom_xmat"][block] @ jnp.array(
        [0.0, 0.026, 0]
    )
    touched = dict(readings)
    touched["geom_xpos"] = readings["geom_xpos"].at[pad].set(beside)
    touched["geom_xmat"] = readings["geom_xmat"].at[pad].set(readings["geom_xmat"][block])
    assert float(task.outcome(touched, memory).reward) < 4.0


@pytest.mark.parametrize("name", ["reach_target", "put_item_in_drawer"])
def test_plans_are_valid_actions(name):
    task, expert = make_task(name), make_expert(name)
    plans = np.asarray(start_tries(task, expert, 32)[1])
    assert plans.shape == (32, expert.execute, 8)
    assert expert.execute <= task.max_episode_steps
    spec = task.action_spec
    assert (plans >= np.array(spec.low) - 1e-6).all()
    assert (plans <= np.array(spec.high) + 1e-6).all()
    np.testing.assert_allclose(np.linalg.norm(plans[..., 3:7], axis=-1), 1.0, atol=1e-5)
    noisy = np.asarray(start_tries(task, expert, 32, noise=0.02)[1])
    shift = np.abs(noisy - plans)[..., :3]
    assert 0.01 < shift.max() <= 0.02 + 1e-6
    assert (shift.max(-1) == 0).any()  # the key frames that touch are kept


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("name", TASKS)
def test_experts_succeed(name, noise):
    task, expert = make_task(name), make_expert(name)
    # Each plan is tried once, though there is time for a second try.
    success = play(task, expert, 100, seed=1, noise=noise, steps=expert.execute)
    assert success.mean() >= 0.95
