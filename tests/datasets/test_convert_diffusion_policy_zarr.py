"""`datasets/convert_diffusion_policy_zarr.py`: any replay becomes RLDS, number for number."""

import json

import numpy as np
import pytest

from arp_jax.data.formats.zarr_replay import open_buffer
from arp_jax.data.source import open_source
from tests.data.replay_files import LENGTHS, replay_arrays, write_replay
from tests.datasets.scripts import assert_refused, contents, load_converter

pytest.importorskip("zarr", reason="zarr is not installed")
ENDS = np.cumsum(LENGTHS)


@pytest.fixture(scope="module")
def script():
    return load_converter("convert_diffusion_policy_zarr")


def convert(script, out, *arguments, workers=1):
    flags = ["--rate", 10, "--out", out, "--workers", workers]
    assert script.main([*map(str, (*arguments, *flags))]) == 0
    (path,) = out.glob("*/1.0.0")
    return open_source(path)


def steps_of(number):
    return slice(ENDS[number] - LENGTHS[number], ENDS[number])


def test_everything_in_a_replay(script, tmp_path):
    arrays = replay_arrays()
    path = write_replay(tmp_path / "a.zarr", arrays)
    source = convert(script, tmp_path / "out", path, "--reward", "reward")
    assert source.specs.observation.names == ("keypoint", "state", "img", "wrist")
    assert source.specs.action.rate_hz == 10.0
    assert source.specs.action.gripper is None
    for number, episode in enumerate(source.episodes("train")):
        steps = steps_of(number)
        observation = episode["observation"]
        np.testing.assert_array_equal(observation["img"], arrays["data/img"][steps])
        wrist = np.moveaxis(arrays["data/wrist"][steps], 1, 3)
        np.testing.assert_array_equal(observation["wrist"], wrist)
        np.testing.assert_array_equal(observation["state"], arrays["data/state"][steps])
        flat = arrays["data/keypoint"][steps].reshape(-1, 18).astype(np.float32)
        np.testing.assert_array_equal(observation["keypoint"], flat)
        np.testing.assert_array_equal(episode["action"], arrays["data/action"][steps])
        np.testing.assert_array_equal(episode["reward"], arrays["data/reward"][steps])
        assert episode["metadata"] == {"episode_id": number}
        assert episode["language"] == ()
    assert number == 2


def test_chosen_arrays_and_meanings(script, tmp_path):
    arrays = replay_arrays()
    path = write_replay(tmp_path / "a.zarr.zip", arrays)
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"1": "push it left"}))
    flags = ["--camera", "img=image", "--state", "state,reward", "--unit", "px", "--frame", "world"]
    flags += ["--dims", "action=x,y", "--unit", "state=px, rad", "--language_file", texts]
    flags += ["--episodes", 2, "--relative", "--name", "pushes"]
    source = convert(script, tmp_path / "out", path, *flags, workers=2)
    assert source.path.parts[-2:] == ("pushes", "1.0.0")
    assert source.specs.observation.names == ("state", "image")
    state = source.specs.observation.feature("state")
    assert (state.size, state.unit, state.frame) == (6, "px, rad", "world")
    action = source.specs.action
    assert (action.dims, action.unit, action.absolute) == (("x", "y"), "px", (False, False))
    first, second = source.episodes("train")
    assert (first["language"], second["language"]) == ((), ("push it left",))
    reward = arrays["data/reward"][steps_of(1), None]
    expected = np.concatenate([arrays["data/state"][steps_of(1)], reward], axis=1)
    np.testing.assert_array_equal(second["observation"]["state"], expected)
    assert "reward" not in second
    again = convert(script, tmp_path / "again", path, *flags)
    assert contents(again.path) == contents(source.path)


def test_faults_are_one_line_and_leave_no_dataset(script, tmp_path, capsys):
    def refused(changes, *parts, flags=()):
        arrays = {k: v for k, v in (replay_arrays() | changes).items() if v is not None}
        path = write_replay(tmp_path / "a.zarr", arrays)
        command = [path, "--rate", 10, *flags]
        assert_refused(script, command, tmp_path / "out", capsys, *parts)

    bad = replay_arrays()["data/state"]
    bad[7, 1] = np.inf
    refused({"data/state": bad}, "a.zarr: recording 1: 'state' is not finite at step 2")
    refused({"data/action": None}, "no array 'data/action'; there are ['img'")
    refused({"data/action": np.array(["a"] * 18, "S1")}, "'action' has dtype |S1")
    half = replay_arrays()["data/img"] + 0.5
    refused({"data/img": half}, "recording 0: 'img' must hold whole numbers 0 to 255")
    refused({}, "no camera 'state'", flags=["--camera", "state=image"])
    refused({}, "2 dimensions, 3 names", flags=["--dims", "action=x,y,z"])
    refused({}, "'action' has 2 dimensions, 3 names", flags=["--dims", "x,y,z"])
    refused({}, "--unit speed=m: no 'speed'", flags=["--unit", "speed=m"])
    refused({}, "write SOURCE=NAME", flags=["--vector", "state,reward"])
    refused({}, "no episode '9'", flags=["--language_file", _texts(tmp_path, {"9": "x"})])
    path = write_replay(tmp_path / "b.zarr", replay_arrays())
    chunk = path / "data/wrist/1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    command = [path, "--rate", 10]
    part = "data/wrist/1.0.0.0: chunk is truncated"
    assert_refused(script, command, tmp_path / "out2", capsys, part)
    chunk.unlink()
    assert_refused(script, command, tmp_path / "out2", capsys, "1.0.0.0: chunk is missing")
    # Repaired, the same command continues.
    write_replay(tmp_path / "b.zarr", replay_arrays())
    assert convert(script, tmp_path / "out2", path).num_episodes("train") == 3


def _texts(folder, content):
    path = folder / "texts.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_part_of_the_published_recordings(script, shared_dir, tmp_path):
    path = shared_dir / "data" / "pusht_cchi_v7_replay.zarr"
    flags = ["--camera", "img=image", "--state", "state", "--unit", "px", "--frame", "world"]
    source = convert(script, tmp_path, path, *flags, "--episodes", 20, workers=2)
    replay = open_buffer(path)
    bounds = replay.bounds()[:20]
    assert source.num_episodes("train") == 20
    for (start, stop), episode in zip(bounds, source.episodes("train"), strict=True):
        for name, key in (("image", "img"), ("state", "state")):
            np.testing.assert_array_equal(
                episode["observation"][name], replay.arrays[key].read(start, stop)
            )
        np.testing.assert_array_equal(episode["action"], replay.arrays["action"].read(start, stop))
