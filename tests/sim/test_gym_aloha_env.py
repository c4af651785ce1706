"""gym-aloha behind our names: same starts and features as our twin, its own reward and pictures."""

import builtins

import numpy as np
import pytest

from arp_jax.sim.gym_adapter import make_host_environment
from arp_jax.sim.gym_aloha_env import initial_conditions
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.tasks import make_task

CASES = {
    "gym_aloha/AlohaTransferCube-v0": "transfer_cube",
    "gym_aloha/AlohaInsertion-v0": "insertion",
}
each_task = pytest.mark.parametrize(("name", "task"), CASES.items())


def wave(task, steps: int) -> np.ndarray:
    """Slow joint motions around the start pose, within the limits: [steps, 14]."""
    spec = make_task(task).action_spec
    start = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1] * 2)
    turn = 0.15 * np.sin(np.arange(steps)[:, None] / 12 + np.arange(14))
    turn[:, [6, 13]] += 0.3
    return np.clip(start + turn, spec.low, spec.high)


@each_task
def test_starts_are_those_of_gym_aloha(name, task):
    utils = pytest.importorskip("gym_aloha.utils", reason="gym-aloha is not installed")
    for seed, row in zip((0, 100_000), initial_conditions(task, (0, 100_000)), strict=True):
        if task == "transfer_cube":
            expected = utils.sample_box_pose(seed)[:2]
        else:
            expected = np.concatenate([pose[:2] for pose in utils.sample_insertion_pose(seed)])
        np.testing.assert_allclose(row, expected, atol=1e-6)


@each_task
def test_features_and_specs_are_those_of_our_twin(name, task):
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
    env = make_host_environment(name)
    ours = make_task(task)
    assert env.action_spec == ours.action_spec
    assert env.observation_spec.features == ours.observation_spec.features
    assert env.observation_spec.cameras == ()
    found = env.reset(11)
    twin = NativeEnv(ours, 1, threads=1)
    state = twin.reset(initial_conditions(task, [11]))
    for key, values in found.items():
        np.testing.assert_allclose(values, state.observation[key][0], atol=1e-5, err_msg=key)
    # Free motion of the arms agrees with our model; objects settle on the table in both.
    for action in wave(task, 25):
        found, reward, done, metrics = env.step(action)
        state = twin.step(np.float32(action)[None])
        assert (reward, done) == (0.0, False)
        assert metrics == {"reward": 0.0, "success": 0.0, "diverged": 0.0}
    assert np.abs(found["state"] - state.observation["state"][0]).max() < 0.03
    for feature in ours.observation_spec.features:
        if feature.name.endswith("_pose"):
            difference = found[feature.name] - state.observation[feature.name][0]
            assert np.abs(difference).max() < 0.005
    # What gym-aloha reports itself.
    own = env._control.task.get_qpos(env._control.physics)
    np.testing.assert_allclose(found["state"], own, atol=1e-6)
    moved = np.abs(found["state"] - wave(task, 25)[-1]).max()
    assert moved < 0.2


def test_physics_that_blow_up_end_the_episode(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file where it is
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
    env = make_host_environment("gym_aloha/AlohaTransferCube-v0", ["state"])
    first = env.reset(0)
    env._control.physics.data.qvel[3] = np.nan
    observation, reward, done, metrics = env.step(wave("transfer_cube", 1)[0])
    np.testing.assert_array_equal(observation["state"], first["state"])
    assert (reward, done) == (0.0, True)
    assert metrics == {"reward": 0.0, "success": 0.0, "diverged": 1.0}
    env.reset(1)  # and the next one begins afresh
    observation, _, done, _ = env.step(wave("transfer_cube", 1)[0])
    assert not done
    assert np.isfinite(observation["state"]).all()


@pytest.mark.slow
def test_pictures_are_drawn_on_request():
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
    names = ["state", "top", "left_wrist"]
    env = make_host_environment("gym_aloha/AlohaTransferCube-v0", names)
    observation = env.reset(0)
    assert set(observation) == set(names)
    for name in names[1:]:
        assert observation[name].shape == (480, 640, 3)
        assert observation[name].std() > 10


def test_a_missing_package_is_named(monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("gym_aloha"):
            raise ImportError("No module named 'gym_aloha'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"gym-aloha is not installed.*--no-deps"):
        make_host_environment("gym_aloha/AlohaTransferCube-v0")
