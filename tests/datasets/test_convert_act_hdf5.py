"""`datasets/convert_act_hdf5.py`: ACT's episodes become RLDS, number for number."""

import json
import subprocess
import sys

import numpy as np
import pytest

from arp_jax.data.images import decode_image
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.source import open_source
from tests.commands import run_module
from tests.data.act_files import act_arrays, write_act
from tests.datasets.scripts import assert_refused, load_converter

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")


@pytest.fixture(scope="module")
def script():
    return load_converter("convert_act_hdf5")


def episode_arrays(number, **kwargs):
    kwargs = {"cameras": CAMERAS, "effort": True} | kwargs
    return act_arrays(number, steps=5 + number, **kwargs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three raw episodes of two arms; the second has base actions."""
    path = tmp_path_factory.mktemp("aloha")
    for number in range(3):
        arrays = episode_arrays(number, base=number == 1)
        write_act(path / f"episode_{number}.hdf5", arrays, sim=number == 2)
    return path


def convert(script, capsys, out, *arguments):
    """Converts in this process; returns the canonical source."""
    status = script.main([*map(str, arguments), "--out", str(out), "--workers", "1"])
    assert status == 0, capsys.readouterr().err
    (path,) = out.glob("*/1.0.0")
    return open_source(path)


def test_raw_episodes_are_stored_exactly(script, folder, tmp_path, capsys):
    source = convert(script, capsys, tmp_path, folder, "--name", "wipe", "--language", "Wipe it.")
    assert "episodes  3 of 5 to 7 steps" in capsys.readouterr().out
    specs = source.specs
    assert specs.observation.names == ("state", "velocity", "effort", *CAMERAS)
    dims = tuple(f"{side}_{name}" for side in ("left", "right") for name in ARM)
    assert specs.observation.feature("state").dims == dims
    assert specs.observation.feature("velocity").unit == "rad/s, gripper 1/s"
    assert specs.action.dims == (*dims, "base_linear", "base_turning")
    assert specs.action.gripper == "open=1"
    assert specs.action.rate_hz == 50.0
    actions = []
    for number, episode in enumerate(source.episodes("train")):
        arrays = episode_arrays(number, base=number == 1)
        for name, key in (("state", "qpos"), ("velocity", "qvel"), ("effort", "effort")):
            np.testing.assert_array_equal(
                episode["observation"][name], arrays[f"observations/{key}"], err_msg=name
            )
        base = arrays.get("base_action", np.zeros((5 + number, 2), np.float32))
        actions.append(np.concatenate([arrays["action"], base], axis=1))
        np.testing.assert_array_equal(episode["action"], actions[-1])
        for camera in CAMERAS:
            np.testing.assert_array_equal(
                episode["observation"][camera], arrays[f"observations/images/{camera}"]
            )
        assert episode["language"] == ("Wipe it.",)
        assert episode["metadata"] == {
            "file": f"episode_{number}.hdf5", "sim": number == 2, "mirrored": False,
        }  # fmt: skip
        assert "reward" not in episode
    assert number == 2
    low, high = np.concatenate(actions).min(0), np.concatenate(actions).max(0)
    np.testing.assert_array_equal(specs.action.low, low.astype(np.float64))
    np.testing.assert_array_equal(specs.action.high, high.astype(np.float64))


def test_mirrored_episodes(script, folder, tmp_path, capsys):
    sentences = tmp_path / "sentences.json"
    sentences.write_text(json.dumps({"episode_1.hdf5": "wipe with the left arm"}))
    flags = ("--mirror", "--language_file", sentences, "--language", "wipe")
    flags += ("--camera", "cam_high=image", "--camera", "cam_left_wrist=wrist_image")
    source = convert(script, capsys, tmp_path / "out", folder, *flags, "--vector", "qpos")
    assert source.specs.observation.names == ("state", "image", "wrist_image")
    episodes = list(source.episodes("train"))
    assert [e["metadata"]["mirrored"] for e in episodes] == [False] * 3 + [True] * 3
    assert [e["language"] for e in episodes[:3]] == [
        ("wipe",), ("wipe with the left arm",), ("wipe",)
    ]  # fmt: skip
    turned, arrays = episodes[4], episode_arrays(1, base=True)
    assert turned["language"] == ("wipe with the right arm",)
    signs = np.array([-1, 1, 1, -1, 1, -1, 1] * 2)
    swapped = np.roll(arrays["observations/qpos"], 7, axis=1) * signs
    np.testing.assert_array_equal(turned["observation"]["state"], swapped)
    np.testing.assert_array_equal(turned["action"][:, :14], np.roll(arrays["action"], 7, 1) * signs)
    np.testing.assert_array_equal(turned["action"][:, 14:], arrays["base_action"] * [1, -1])
    right = arrays["observations/images/cam_right_wrist"]
    np.testing.assert_array_equal(turned["observation"]["wrist_image"], right[:, :, ::-1])


def test_compressed_one_arm_in_degrees(script, tmp_path, capsys):
    pytest.importorskip("cv2", reason="opencv is not installed")
    data = tmp_path / "arm"
    for number in range(2):
        arrays = act_arrays(number, columns=7)
        arrays["action"] *= 60
        write_act(data / f"episode_{number}.hdf5", arrays, compress=True)
    assert_refused(script, [data], tmp_path / "x", capsys, "these are no radians", "--degrees")
    units = ("--unit", "action=deg", "--unit", "state=deg, gripper 0..100", "--rate", 10)
    flags = (*units, "--color_order", "bgr", "--shift_real", "--vector", "qpos=state")
    source = convert(script, capsys, tmp_path / "out", data, *flags)
    assert source.specs.action.unit == "deg"
    assert source.specs.action.rate_hz == 10.0
    assert source.specs.action.dims == ARM
    assert source.specs.observation.feature("state").unit == "deg, gripper 0..100"
    encoded = list(source.episodes("train", ["top"], decode_images=False))
    with h5py.File(data / "episode_1.hdf5") as file:
        rows = file["observations/images/top"][()]
        action = file["action"][()]
    for frame, row in zip(encoded[1]["observation"]["top"], rows, strict=True):
        assert frame == row.tobytes().rstrip(b"\0")  # byte for byte
    # The attribute `sim` is missing: a real robot, whose actions are those of the step before.
    np.testing.assert_array_equal(encoded[1]["action"], np.concatenate([action[:1], action[:-1]]))
    flags = (*units, "--quality", 98, "--vector", "qpos=state")
    swapped = convert(script, capsys, tmp_path / "rgb", data, *flags)
    (first, *_) = swapped.episodes("train", ["top"])
    expected = np.stack([decode_image(f)[..., ::-1] for f in encoded[0]["observation"]["top"]])
    assert np.abs(first["observation"]["top"].astype(int) - expected).mean() < 1.5


def test_degrees_and_percent_become_our_units(script, tmp_path, capsys):
    arrays = act_arrays(3, columns=7)
    for key in ("action", "observations/qpos", "observations/qvel"):
        arrays[key] *= 50
        arrays[key][:, 6] = np.linspace(0, 100, 7)
    path = write_act(tmp_path / "episode_0.hdf5", arrays)
    source = convert(script, capsys, tmp_path / "out", path, "--degrees", "--gripper_percent")
    assert source.specs.action.unit == "rad"
    assert source.specs.action.high[6] == 1.0
    (episode,) = source.episodes("train")
    for found, key in (
        (episode["action"], "action"),
        (episode["observation"]["state"], "observations/qpos"),
        (episode["observation"]["velocity"], "observations/qvel"),
    ):
        np.testing.assert_allclose(found[:, :6], np.deg2rad(arrays[key][:, :6]), rtol=1e-6)
        np.testing.assert_allclose(found[:, 6], np.linspace(0, 1, 7), atol=1e-7)
    odd = write_act(tmp_path / "episode_1.hdf5", act_arrays(columns=8))
    parts = ("episode_1.hdf5: '", "8 columns; --degrees and")
    assert_refused(script, [odd, "--degrees"], tmp_path / "x", capsys, *parts)


def test_base_flags(script, folder, tmp_path, capsys):
    flags = ("--camera", "cam_high", "--vector", "qpos")
    never = convert(script, capsys, tmp_path / "never", folder, *flags, "--base", "never")
    assert never.specs.action.size == 14
    smooth = convert(script, capsys, tmp_path / "smooth", folder, *flags, "--smooth_base")
    base = np.pad(episode_arrays(1, base=True)["base_action"], ((2, 2), (0, 0)))
    expected = np.stack([base[i : i + 5].mean(axis=0) for i in range(6)])
    stored = list(smooth.episodes("train", ["state"]))[1]["action"][:, 14:]
    np.testing.assert_allclose(stored, expected, atol=1e-6)


def test_given_specs(script, folder, tmp_path, capsys):
    flags = ("--camera", "cam_high=image", "--vector", "qpos")
    first = convert(script, capsys, tmp_path / "a", folder, *flags)
    observation, action = first.specs.observation, first.specs.action
    wide = DatasetSpecs(observation, type(action)(**{**action.__dict__, "low": (-9.0,) * 16}))
    wide.write(tmp_path)
    flags += ("--specs", tmp_path / "specs.json")
    second = convert(script, capsys, tmp_path / "b", folder, *flags)
    assert second.specs == wide
    out = tmp_path / "c"
    refused = [folder, "--vector", "qvel=state", "--vector", "qpos", *flags[4:]]
    assert_refused(script, refused, out, capsys, "name 'state' is given to two observations")
    refused = [folder, "--vector", "qpos=joints", *flags[4:]]
    assert_refused(script, refused, out, capsys, "specs.json: no observation 'joints'")
    refused = [folder, *flags, "--base", "never"]
    assert_refused(script, refused, out, capsys, "'action' has 16 dimensions, recorded were 14")


def test_faults_are_one_line_and_leave_no_dataset(script, tmp_path, capsys):
    def files(number=1, **changes):
        data = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        for index in range(2):
            arrays = act_arrays(index, columns=7)
            if index == number:
                arrays |= changes
            arrays = {k: v for k, v in arrays.items() if v is not None}
            write_act(data / f"episode_{index}.hdf5", arrays, chunked=False)
        return data

    out = tmp_path / "out"

    def refused(data, *parts, flags=()):
        assert_refused(script, [data, *flags], out, capsys, *parts)

    refused(tmp_path / "absent", "absent: none of 0 .hdf5 files")
    refused(files(action=None), "episode_1.hdf5: no 'action'")
    bad = act_arrays(1, columns=7)["action"]
    bad[3, 2] = np.nan
    refused(files(action=bad), "episode_1.hdf5: 'action' is not finite at step 3")
    eight = np.zeros((7, 8), np.float32)
    refused(files(action=eight), "episode_1.hdf5: 'action' has 8 columns, in the first episode 7")
    small = np.zeros((7, 9, 9, 3), np.uint8)
    image = "observations/images/top"
    refused(files(**{image: small}), "episode_1.hdf5: 'top' has pictures of 9 x 9, in the first")
    refused(files(**{image: None}), "episode_1.hdf5: no camera 'top'; there are no pictures")
    refused(files(), "no camera 'wrist'", flags=["--camera", "wrist"])
    refused(files(), "no 'torque'", flags=["--vector", "torque"])
    refused(files(), "name 'Top': use small letters", flags=["--camera", "top=Top"])
    refused(files(), "no 'speed'", flags=["--unit", "speed=m"])
    refused(files(), "--quality must be in 1..100", flags=["--quality", "0"])
    mirrored = files()
    (mirrored / "episode_1.hdf5").rename(mirrored / "mirror_episode_1.hdf5")
    refused(mirrored, "mirror_episode_1.hdf5 is a mirror image", flags=["--mirror"])
    cut = files()
    (cut / "episode_1.hdf5").write_bytes((cut / "episode_1.hdf5").read_bytes()[:3000])
    refused(cut, "episode_1.hdf5: cannot be opened as HDF5")
    texts = tmp_path / "texts.json"
    texts.write_text('{"episode_7.hdf5": "x"}')
    refused(files(), "no episode 'episode_7.hdf5'", flags=["--language_file", texts])


@pytest.mark.slow
def test_what_our_recorder_wrote(tmp_path, repository):
    """Recorded twice, as HDF5 and as RLDS: after the conversion both are the same episodes."""
    pytest.importorskip("mujoco")
    record = ["arp_jax.sim.record", "--task", "insertion", "-n", 2, "--envs", 4, "--full_length"]
    record += ["--observations", "state,velocity,top", "--height", 48, "--width", 64]
    record += ["--keep_failures"]
    run_module(*record, "--out", tmp_path / "rlds", cwd=repository)
    run_module(*record, "--format", "act_hdf5", "--out", tmp_path / "act", cwd=repository)
    (recorded,) = (tmp_path / "rlds").glob("*/1.0.0")
    command = ["datasets/convert_act_hdf5.py", tmp_path / "act", "--out", tmp_path / "out"]
    command += ["--specs", recorded]
    subprocess.run([sys.executable, *map(str, command)], cwd=repository, check=True)
    first, second = open_source(recorded), open_source(tmp_path / "out/act/1.0.0")
    assert first.specs.action == second.specs.action
    assert second.specs.observation == first.specs.observation
    for left, right in zip(first.episodes("train"), second.episodes("train"), strict=True):
        np.testing.assert_array_equal(left["action"], right["action"])
        for name in ("state", "top"):
            np.testing.assert_array_equal(left["observation"][name], right["observation"][name])
        assert right["metadata"]["sim"]
