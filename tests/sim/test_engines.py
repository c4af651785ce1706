"""The MuJoCo engines: the same task, the same actions, the same answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.mjx import MjxEnv
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.randomize import FieldRange
from tests.sim.tiny_task import tiny_task

STEPS = 40


@pytest.fixture(scope="module")
def initial():
    keys = jax.random.split(jax.random.key(0), 4)
    return np.asarray(jax.vmap(tiny_task().initial_condition)(keys))


@pytest.fixture(scope="module")
def actions():
    return np.linspace(0.0, 0.4, STEPS, dtype=np.float32)[:, None, None].repeat(4, 1)  # [T, E, 1]


@pytest.fixture(scope="module")
def native_states(initial, actions):
    env = NativeEnv(tiny_task(), 4)
    return [env.reset(initial), *(env.step(a) for a in actions)]


def test_native_pushes_the_block_to_the_goal(native_states):
    assert not native_states[0].done.any()
    assert native_states[-1].done.all()
    assert native_states[-1].observation["block"].shape == (4, 2)
    assert native_states[-1].reward.dtype == np.float32
    np.testing.assert_array_equal(native_states[-1].metrics["steps"], STEPS)
    np.testing.assert_array_equal(native_states[-1].metrics["diverged"], 0)


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_mjx_gives_the_same_answer(initial, actions, native_states, impl):
    if impl == "warp":
        pytest.importorskip("warp", reason="needs the extra arp_jax[warp]")
    env = MjxEnv(tiny_task(), impl, worlds=4)

    @jax.jit
    def roll(initial, actions):
        step = jax.vmap(env.step)
        first = jax.vmap(env.reset_to)(initial)

        def body(state, action):
            state = step(state, action)
            return state, (state.physics.readings["qpos"], state.reward, state.done)

        return first, jax.lax.scan(body, first, actions)[1]

    first, (qpos, reward, done) = roll(initial, actions)
    np.testing.assert_allclose(
        first.physics.readings["qpos"], native_states[0].physics.readings["qpos"], atol=1e-6
    )
    native = np.stack([s.physics.readings["qpos"] for s in native_states[1:]])
    np.testing.assert_allclose(qpos[..., :3], native[..., :3], atol=1e-3)
    np.testing.assert_array_equal(done[-1], native_states[-1].done)
    np.testing.assert_array_equal(reward[-1], native_states[-1].reward)


def test_inactive_simulations_stay_where_they_are(initial, actions):
    env = NativeEnv(tiny_task(), 4)
    env.reset(initial)
    for action in actions[:5]:
        env.step(action)
    active = np.array([True, False, True, False])
    before = env.step(actions[5])
    after = env.step(actions[20], active)
    moved = np.abs(after.observation["state"] - before.observation["state"])[:, 0] > 1e-6
    np.testing.assert_array_equal(moved, active)
    np.testing.assert_array_equal(after.metrics["steps"], before.metrics["steps"] + active)


def test_outcomes_do_not_depend_on_the_number_of_simulations(initial, actions, native_states):
    env = NativeEnv(tiny_task(), 1)
    env.reset(initial[2:3])
    for action in actions:
        state = env.step(action[2:3])
    np.testing.assert_array_equal(
        state.physics.readings["qpos"][0], native_states[-1].physics.readings["qpos"][2]
    )


def test_a_second_reset_forgets_the_first_episode(initial, actions, native_states):
    env = NativeEnv(tiny_task(), 4)
    for _ in range(2):
        env.reset(initial)
        for action in actions[:10]:
            state = env.step(action)
    np.testing.assert_array_equal(
        state.physics.readings["qpos"], native_states[10].physics.readings["qpos"]
    )


@pytest.mark.parametrize("engine", ["native", "mjx"])
def test_randomised_fields_change_the_physics(engine, actions):
    ranges = (
        FieldRange("pair_friction", ("table--block",), 0.05, 1.0),
        FieldRange("body_mass", ("block",), 0.5, 4.0),
    )
    task = tiny_task()
    initial = np.zeros((2, 4), np.float32)
    initial[0, 2:], initial[1, 2:] = (0.05, 0.5), (1.0, 4.0)
    if engine == "native":
        env = NativeEnv(task, 2, randomize=ranges)
        env.reset(initial)
        for action in actions[:20]:
            state = env.step(action[:2])
        qpos = state.physics.readings["qpos"]
    else:
        env = MjxEnv(task, randomize=ranges)
        assert env.initial_condition(jax.random.key(0)).shape == (4,)

        def body(state, action):
            return jax.vmap(env.step)(state, action), None

        first = jax.vmap(env.reset_to)(jnp.asarray(initial))
        state = jax.jit(lambda s, a: jax.lax.scan(body, s, a)[0])(first, actions[:20, :2])
        qpos = np.asarray(state.physics.readings["qpos"])
    # A slippery light block is pushed off its pusher; a heavy one stays with it.
    assert abs(qpos[0, 0] - qpos[1, 0]) > 1e-4


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="nothing"):
        NativeEnv(tiny_task(), 1, observations=("nothing",))
    with pytest.raises(ValueError, match="impl"):
        MjxEnv(tiny_task(), impl="cuda")
    with pytest.raises(ValueError, match="geom_size"):
        FieldRange("geom_size", (), 0, 1)
    with pytest.raises(ValueError, match="no body 'ghost'"):
        NativeEnv(tiny_task(), 1, randomize=(FieldRange("body_mass", ("ghost",), 1, 2),)).reset(
            np.zeros((1, 3))
        )
