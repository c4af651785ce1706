"""Recording of the tiny task's expert: what is kept, that it repeats, and both file layouts."""

import dataclasses
import json
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest

from arp_jax.data.rlds import open_dataset
from arp_jax.sim import record, tasks
from arp_jax.sim.cameras import camera_from_record
from arp_jax.sim.expert_episodes import (
    ExpertRunner,
    Tally,
    TryConfig,
    feature_velocity,
    recorded_episodes,
)
from tests.sim import tiny_expert
from tests.sim.tiny_task import GOAL, tiny_task

ENVS = 8
CONFIG = TryConfig(seed=3, envs=ENVS, threads=1)


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """The tiny task under a name of the command line; one object, so that it is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "tiny", ("tests.sim.tiny_task", "tests.sim.tiny_expert"))
        patch.setattr(record.compile_cache, "enable", lambda: None)
        tasks.make_task.cache_clear()
        yield
        tasks.make_task.cache_clear()
        tasks.make_expert.cache_clear()


def expert():
    return tasks.make_expert("tiny")


def command(out: Path, *flags: object) -> int:
    given = ["--task", "tiny", "--out", out, "--seed", 3, "--envs", ENVS, "--threads", 1, *flags]
    return record.main([str(flag) for flag in given])


def episodes(count: int, keep_failures: bool = False, config: TryConfig = CONFIG):
    tally = Tally()
    runner = ExpertRunner(tasks.make_task("tiny"), expert(), config)
    return list(recorded_episodes(runner, count, keep_failures, tally)), tally


def test_kept_episodes_are_the_first_successes():
    tries, counted = episodes(2 * ENVS, keep_failures=True)
    assert counted == Tally(2 * ENVS, sum(e.success for e in tries))
    assert 0 < counted.succeeded < counted.tried
    assert [e.attempt for e in tries] == list(range(2 * ENVS))
    kept, _ = episodes(5)
    assert [e.attempt for e in kept] == [e.attempt for e in tries if e.success][:5]
    for short, long in zip(kept, [e for e in tries if e.success], strict=False):
        jax.tree.map(
            np.testing.assert_array_equal, dataclasses.asdict(short), dataclasses.asdict(long)
        )
    for episode in tries:
        length = len(episode.action)
        assert length < 60 or not episode.success
        assert episode.done.tolist() == [False] * (length - 1) + [episode.success]
        # Rewards and success are those after the action, observations those before it.
        block = episode.observation["block"][:, 0]
        assert (block < GOAL).all()
        assert (episode.reward[:-1] < 2).all()
        assert (episode.reward[-1] == 2) == episode.success
        np.testing.assert_array_equal(episode.qpos[:, 0], block)
    actions = {e.action.tobytes() for e in tries}
    assert len(actions) == len(tries)  # every try has noise of its own


def test_episodes_replay_in_plain_mujoco():
    (episode, *_), _ = episodes(1)
    model = tasks.make_task("tiny").load_model()
    data = mujoco.MjData(model)
    data.qpos[:] = episode.qpos[0]
    for action, qpos in zip(episode.action, [*episode.qpos[1:], None], strict=True):
        data.ctrl[:] = action
        mujoco.mj_step(model, data, 10)
        if qpos is not None:
            np.testing.assert_allclose(data.qpos, qpos, atol=1e-4)
    assert data.qpos[0] >= GOAL


def test_full_length_goes_on_after_success():
    whole, _ = episodes(3, config=dataclasses.replace(CONFIG, full_length=True))
    short, _ = episodes(3)
    for long, cut in zip(whole, short, strict=True):
        assert len(long.action) == 60
        np.testing.assert_array_equal(long.action[: len(cut.action)], cut.action)
        assert long.success


def test_the_velocity_of_a_feature_is_its_time_derivative():
    (episode, *_), _ = episodes(1)
    velocity = feature_velocity(tasks.make_task("tiny"), "state", episode)
    np.testing.assert_allclose(velocity[:, 0], episode.qvel[:, 6], atol=1e-6)
    # The slider is measured every 0.04 s: the mean of two velocities is close to the difference.
    step = np.diff(episode.observation["state"][:, 0]) / 0.04
    assert np.abs(step - (velocity[1:, 0] + velocity[:-1, 0]) / 2)[3:].max() < 0.05


def test_a_hopeless_expert_is_reported(monkeypatch, tmp_path, capsys):
    lazy = dataclasses.replace(
        tiny_expert.make_expert(tasks.make_task("tiny")),
        act=lambda memory, observation, readings: (0.0 * memory[0][:20], memory),
    )
    runner = ExpertRunner(tasks.make_task("tiny"), lazy, CONFIG)
    with pytest.raises(ValueError, match="0 of 32 tries of the expert succeeded, 2 episodes were"):
        list(recorded_episodes(runner, 2, False, Tally()))
    monkeypatch.setattr(tasks, "make_expert", lambda name: lazy)
    assert command(tmp_path, "-n", 2) == 2
    assert "0 of 32 tries of the expert succeeded" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("tiny/1.0.0"))


def test_the_command_writes_rlds(tmp_path, capsys):
    assert command(tmp_path, "-n", 5) == 0
    output = capsys.readouterr().out
    folder = tmp_path / "tiny" / "1.0.0"
    assert f"dataset   {folder}" in output
    expected, tally = episodes(5)
    assert f"{tally.succeeded} of {tally.tried} tries succeeded" in output
    assert not list(tmp_path.glob("downloads"))
    dataset = open_dataset(folder)
    assert dataset.specs.observation == dataclasses.replace(
        tiny_task().observation_spec, cameras=()
    )
    assert dataset.specs.action == tiny_task().action_spec
    found = list(dataset.episodes("train"))
    assert len(found) == 5
    for read, episode in zip(found, expected, strict=True):
        np.testing.assert_array_equal(read["action"], episode.action)
        np.testing.assert_array_equal(read["observation"]["block"], episode.observation["block"])
        np.testing.assert_array_equal(read["reward"], episode.reward)
        assert read["is_terminal"][-1]
        metadata = read["episode_metadata"]
        assert str(metadata["task"]) == "tiny"
        assert (metadata["seed"], metadata["attempt"]) == (3, episode.attempt)
        assert metadata["max_reward"] == 2
        np.testing.assert_array_equal(metadata["initial"], episode.initial)
    summary = json.loads((folder / "recording.json").read_text())
    assert (summary["tried"], summary["kept"]) == (tally.tried, 5)
    assert summary["success_rate"]["low"] < tally.succeeded / tally.tried
    # Again: nothing to do. With other arguments: refused, in one line.
    assert command(tmp_path, "-n", 5) == 0
    assert command(tmp_path, "-n", 5, "--noise", 0.01) == 2
    assert capsys.readouterr().err.count("was built with noise=0.0, asked for 0.01") == 1


def test_the_command_draws_pictures(tmp_path, capsys):
    pytest.importorskip("OpenGL", reason="MuJoCo's renderer needs PyOpenGL")
    flags = ("--observations", "state,side", "--height", 24, "--width", 32)
    assert command(tmp_path, "-n", 2, *flags) == 0, capsys.readouterr().err
    dataset = open_dataset(tmp_path / "tiny" / "1.0.0")
    assert dataset.specs.observation.names == ("state", "side")
    expected, _ = episodes(2)
    for read, episode in zip(dataset.episodes("train"), expected, strict=True):
        images = read["observation"]["side"]
        assert images.shape == (len(episode.action), 24, 32, 3)
        # The slider moves to the right in the picture, and the pictures are of their steps.
        assert len({image.tobytes() for image in images}) > len(images) // 2
        records = json.loads(str(read["episode_metadata"]["cameras"]))
        camera = camera_from_record(records["side"])
        np.testing.assert_allclose(camera.position, [0.1, -1, 0.5], atol=1e-5)
        assert records["side"]["body"] == "world"
        assert (camera.height, camera.width) == (24, 32)


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(tmp_path):
    pytest.importorskip("OpenGL", reason="MuJoCo's renderer needs PyOpenGL")
    read = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert command(out, "-n", 4, "--observations", "side", "--threads", processes) == 0
        read.append(list(open_dataset(out / "tiny" / "1.0.0").episodes("train")))
    for one, two in zip(*read, strict=True):
        np.testing.assert_array_equal(one["observation"]["side"], two["observation"]["side"])
        np.testing.assert_array_equal(one["action"], two["action"])


def test_the_command_writes_act_files_and_resumes(tmp_path, capsys):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    flags = ("--format", "act_hdf5", "--observations", "side", "--image_format", "jpeg")
    assert command(tmp_path, "-n", 2, *flags) == 0, capsys.readouterr().err
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"episode_0.hdf5", "episode_1.hdf5", "build.json", "recording.json"}
    expected, _ = episodes(3, config=dataclasses.replace(CONFIG, full_length=True))
    with h5py.File(tmp_path / "episode_1.hdf5") as file:
        np.testing.assert_array_equal(file["/action"], expected[1].action)
        np.testing.assert_array_equal(file["/observations/qpos"], expected[1].observation["state"])
        np.testing.assert_allclose(
            file["/observations/qvel"][:, 0], expected[1].qvel[:, 6], atol=1e-6
        )
        assert file["/observations/images/side"].shape[0] == 60
        assert file.attrs["compress"]
    before = (tmp_path / "episode_0.hdf5").stat().st_mtime_ns
    (tmp_path / "episode_1.hdf5").unlink()
    (tmp_path / ".episode_1.hdf5.123").touch()  # of a recording that was killed
    assert command(tmp_path, "-n", 3, *flags) == 0
    assert (tmp_path / "episode_0.hdf5").stat().st_mtime_ns == before
    with h5py.File(tmp_path / "episode_2.hdf5") as file:
        np.testing.assert_array_equal(file["/action"], expected[2].action)
    assert len(list(tmp_path.iterdir())) == 5
    assert command(tmp_path, "-n", 3, "--format", "act_hdf5") == 2
    assert "observations=['side']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-n", 0), "-n must be at least 1, found 0"),
        (("-n", 1, "--noise", -1), "--noise must be at least 0 m"),
        (("-n", 1, "--envs", 0), "--envs must be at least 1"),
        (("-n", 1, "--observations", "state,front"), "--observations: no observation 'front'"),
        (("-n", 1, "--height", 24), "--height and --width need a camera"),
        (("-n", 1, "--observations", "side", "--width", 0), "--width must be at least 1"),
        (("-n", 1, "--task", "juggle"), "task 'juggle' is unknown"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, capsys, flags, message):
    assert command(tmp_path, *flags) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not list(tmp_path.iterdir())


def test_foreign_hdf5_files_are_left_alone(tmp_path, capsys):
    pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "episode_0.hdf5").write_text("not ours")
    assert command(tmp_path, "-n", 1, "--format", "act_hdf5") == 2
    assert "of another origin" in capsys.readouterr().err
    assert (tmp_path / "episode_0.hdf5").read_text() == "not ours"
