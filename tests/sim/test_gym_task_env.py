"""Our tasks behind gymnasium's interface: its own checker, and the numbers of our engines."""

import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from arp_jax.sim import gym_adapter, tasks
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.push_t.env import PushT
from tests.sim.tiny_task import GOAL

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
env_checker = pytest.importorskip("gymnasium.utils.env_checker")


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """The tiny task under a name of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "tiny", ("tests.sim.tiny_task", "tests.sim.tiny_expert"))
        patch.setitem(gym_adapter.TASK_IDS, "tiny", "arp_jax/tiny-v0")
        tasks.make_task.cache_clear()
        gym_adapter.register_environments()
        yield
        tasks.make_task.cache_clear()
        del gymnasium.registry["arp_jax/tiny-v0"]


def test_every_task_is_registered():
    for name in ("push_t", *tasks.TASKS):
        spec = gymnasium.registry[f"arp_jax/{name}-v0"]
        assert spec.kwargs == {"task": name}


def test_naming_the_module_registers():
    code = (
        "import gymnasium, sys; "
        "e = gymnasium.make('arp_jax.sim.gym_adapter:arp_jax/push_t-v0'); "
        "print(sorted(e.observation_space.spaces))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "agent_pos" in finished.stdout, finished.stderr[-2000:]


def test_registering_imports_neither_jax_nor_mujoco():
    code = "import arp_jax.sim.gym_adapter, sys; print({'jax', 'mujoco'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "set()", finished.stderr[-2000:]


@pytest.mark.parametrize(
    ("task", "observations"), [("push_t", ("agent_pos", "image")), ("tiny", ("state", "side"))]
)
def test_gymnasiums_own_checker_is_content(task, observations):
    if task == "tiny":
        pytest.importorskip("OpenGL", reason="MuJoCo's renderer needs PyOpenGL")
    env = gymnasium.make(
        f"arp_jax/{task}-v0",
        observations=observations,
        render_mode="rgb_array",
        disable_env_checker=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Features have no limits and actions have units, on purpose; the checker would like others.
        warnings.filterwarnings("ignore", message=".*Box observation space.*infinity.*")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        env_checker.check_env(env.unwrapped)
    assert env.unwrapped.render().std() > 5
    env.close()


def test_an_episode_equals_the_native_engine():
    env = gymnasium.make("arp_jax/tiny-v0")
    initial = np.array([0.002, 0.001], np.float32)
    native = NativeEnv(tasks.make_task("tiny"), 1, threads=1)
    expected = native.reset(initial[None])
    observation, info = env.reset(options={"initial": initial})
    np.testing.assert_array_equal(observation["block"], expected.observation["block"][0])
    assert info["is_success"] is False
    terminated = False
    for step in range(60):
        action = np.float32([0.02 + 0.01 * step])
        observation, reward, terminated, truncated, info = env.step(action)
        expected = native.step(action[None])
        for name, values in expected.observation.items():
            np.testing.assert_array_equal(observation[name], values[0])
        assert reward == expected.reward[0]
        assert not truncated
        if terminated:
            break
    assert terminated
    assert info["is_success"]
    assert (info["reward"], info["steps"]) == (2.0, step + 1)
    assert observation["block"][0] >= GOAL


def test_the_time_limit_truncates_and_seeds_repeat():
    env = gymnasium.make("arp_jax/tiny-v0")
    first, _ = env.reset(seed=7)
    other, _ = env.reset()
    again, _ = env.reset(seed=7)
    np.testing.assert_array_equal(first["block"], again["block"])
    assert not np.array_equal(first["block"], other["block"])
    for step in range(1, 61):
        _, _, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        assert not terminated
        assert truncated == (step == 60)
    assert not info["is_success"]


def test_physics_that_diverge_truncate(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file where it is
    env = gymnasium.make("arp_jax/tiny-v0")
    env.reset(options={"initial": np.array([0.0, np.nan], np.float32)})
    *_, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert (terminated, truncated, info["diverged"]) == (False, True, 1.0)


def test_push_t_equals_its_twin():
    env = gymnasium.make("arp_jax/push_t-v0", render_mode="rgb_array", height=192, width=192)
    initial = np.array([200, 300, 250, 220, 1.0], np.float32)
    twin = PushT(("agent_pos", "keypoints", "block_pose"))
    state = jax.jit(twin.reset_to)(initial)
    observation, _ = env.reset(options={"initial": initial})
    step = jax.jit(twin.step)
    for target in ([240, 260], [300, 200], [600, 200]):
        state = step(state, np.clip(np.float32(target), 0, 512))
        observation, reward, _, _, info = env.step(np.float32(target))
        np.testing.assert_array_equal(observation["block_pose"], state.observation["block_pose"])
        assert reward == pytest.approx(float(state.reward))
        assert info["coverage"] == pytest.approx(float(state.metrics["coverage"]))
    assert env.render().shape == (192, 192, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "juggle"}, "task 'juggle' is unknown"),
        ({"task": "tiny", "observations": ("front",)}, "no observation 'front'"),
        ({"task": "tiny", "render_mode": "human"}, "render_mode 'human' is unknown"),
        ({"task": "tiny", "render_mode": "rgb_array", "camera": "front"}, "no camera 'front'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    from arp_jax.sim import gym_task_env  # needs gymnasium

    with pytest.raises(ValueError, match=message):
        gym_task_env.TaskEnv(**arguments)
