"""`datasets/convert_robomimic.py`: demonstrations become RLDS, number for number."""

import numpy as np
import pytest

from arp_jax.data.formats import robomimic_hdf5 as robomimic
from arp_jax.data.source import open_source
from tests.data.robomimic_files import ENV_ARGS, demo_arrays, write_robomimic
from tests.datasets.scripts import assert_refused, contents, load_converter

pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.fixture(scope="module")
def script():
    return load_converter("convert_robomimic")


def convert(script, out, *arguments, workers=1):
    assert script.main([*map(str, arguments), "--out", str(out), "--workers", str(workers)]) == 0
    (path,) = out.glob("*/1.0.0")
    return open_source(path)


def test_everything_with_metric_actions(script, tmp_path):
    path = write_robomimic(tmp_path / "a.hdf5")
    source = convert(script, tmp_path / "out", path, "--language", "Lift.", workers=2)
    observation, action = source.specs.observation, source.specs.action
    assert observation.names == (
        "object", "robot0_eef_pos", "robot0_gripper_qpos", "agentview_image",
    )  # fmt: skip
    assert observation.feature("robot0_eef_pos").unit == "m"
    assert observation.feature("object").unit == "unknown"
    assert action.dims == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert action.absolute == (False,) * 6 + (True,)
    assert (action.gripper, action.rate_hz, action.frame) == ("open=1", 20.0, "world")
    controller = robomimic.read_info(path).controller
    for number, episode in enumerate(source.episodes("train")):
        arrays = demo_arrays(number)
        for name in ("object", "robot0_eef_pos", "robot0_gripper_qpos"):
            stored = arrays[f"obs/{name}"].astype(np.float32)
            np.testing.assert_array_equal(episode["observation"][name], stored)
        pictures = episode["observation"]["agentview_image"]
        np.testing.assert_array_equal(pictures, arrays["obs/agentview_image"])
        metric = robomimic.metric_actions(arrays["actions"], controller)
        np.testing.assert_array_equal(episode["action"], metric)
        np.testing.assert_array_equal(episode["reward"], arrays["rewards"].astype(np.float32))
        assert episode["is_terminal"].tolist()[-1] == (number != 1)  # as `dones` says
        assert episode["metadata"] == {
            "file": "a.hdf5", "demo": f"demo_{(0, 1, 10)[number]}", "env_name": "Lift",
        }  # fmt: skip
        assert episode["language"] == ("Lift.",)
    assert number == 2


def test_raw_actions_chosen_names_and_filter_key(script, tmp_path):
    path = write_robomimic(tmp_path / "a.hdf5", masks={"valid": ["demo_10"]})
    flags = [path, "--raw_actions", "--filter_key", "valid", "--upside_down"]
    flags += ["--camera", "agentview_image=image", "--rate", 10]
    flags += ["--state", "robot0_eef_pos,robot0_gripper_qpos"]
    source = convert(script, tmp_path / "out", *flags)
    assert source.specs.observation.names == ("state", "image")
    assert source.specs.observation.feature("state").unit == "m, m"
    assert source.specs.action.rate_hz == 10.0
    assert source.specs.action.unit == "of the simulator's controller, -1..1"
    assert source.specs.action.absolute == (False,) * 6 + (True,)
    (episode,) = source.episodes("train")
    arrays = demo_arrays(2)
    np.testing.assert_array_equal(episode["action"], arrays["actions"].astype(np.float32))
    state = [arrays["obs/robot0_eef_pos"], arrays["obs/robot0_gripper_qpos"]]
    np.testing.assert_array_equal(
        episode["observation"]["state"], np.concatenate(state, axis=1).astype(np.float32)
    )
    flipped = arrays["obs/agentview_image"][:, ::-1]
    np.testing.assert_array_equal(episode["observation"]["image"], flipped)
    again = convert(script, tmp_path / "again", *flags)
    assert contents(again.path) == contents(source.path)


def test_a_folder_of_tasks_with_sentences(script, tmp_path):
    for name in ("drawer", "stove"):
        text = f'{{"language_instruction": "open the {name}"}}'
        write_robomimic(tmp_path / f"set/{name}.hdf5", problem_info=text)
    source = convert(script, tmp_path / "out", tmp_path / "set")
    episodes = list(source.episodes("train"))
    texts = [f"open the {name}" for name in ("drawer", "stove") for _ in range(3)]
    assert [episode["language"] for episode in episodes] == [(text,) for text in texts]
    assert [e["metadata"]["file"] for e in episodes] == ["drawer.hdf5"] * 3 + ["stove.hdf5"] * 3


def test_another_action(script, tmp_path):
    path = write_robomimic(tmp_path / "a.hdf5", env_args={"env_kwargs": {}})
    flags = [path, "--rate", 20, "--action", "action_dict/abs_pos", "--dims", "action=x,y,z"]
    flags += ["--unit", "action=m"]
    source = convert(script, tmp_path / "out", *flags)
    assert source.specs.action.absolute == (True, True, True)
    (first, *_) = source.episodes("train")
    stored = demo_arrays(0)["action_dict/abs_pos"].astype(np.float32)
    np.testing.assert_array_equal(first["action"], stored)


def test_faults_are_one_line_and_leave_no_dataset(script, tmp_path, capsys):
    def refused(*parts, flags=(), demos=None, **kwargs):
        path = write_robomimic(tmp_path / "a.hdf5", demos, **kwargs)
        assert_refused(script, [path, *flags], tmp_path / "out", capsys, *parts)

    def second(**changes):
        return {"demo_0": demo_arrays(0), "demo_1": demo_arrays(1) | changes}

    wrong = np.full((6, 3), np.nan)
    refused("a.hdf5: demo_1: 'robot0_eef_pos' is not finite at step 0",
            demos=second(**{"obs/robot0_eef_pos": wrong}))  # fmt: skip
    refused("demo_1: 'actions' is float64 (6, 8), its controller takes 7",
            demos=second(actions=np.zeros((6, 8))))  # fmt: skip
    refused("demo_1: 'actions' is |S1 (6, 7)", demos=second(actions=np.full((6, 7), b"x")))
    refused("demo_1: 'object' has 4 columns, in the first episode 10",
            demos=second(**{"obs/object": np.zeros((6, 4))}))  # fmt: skip
    refused("demo_1: 'agentview_image' has pictures of 5 x 5", demos=second(
        **{"obs/agentview_image": np.zeros((6, 5, 5, 3), np.uint8)}))  # fmt: skip
    refused("control rates of the files: {None}; say which with --rate", env_args=None)
    refused("no filter key 'x'", flags=["--filter_key", "x"])
    refused("no camera 'wrist'", flags=["--camera", "wrist"])
    refused("--unit: --specs says this", flags=["--specs", tmp_path, "--unit", "m"])
    folder = tmp_path / "empty"
    folder.mkdir()
    assert_refused(script, [folder], tmp_path / "out", capsys, "empty: no .hdf5 files")
    path = write_robomimic(tmp_path / "a.hdf5")
    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(script, [path], tmp_path / "out", capsys, "a.hdf5: cannot be opened as HDF5")
    other = {**ENV_ARGS, "env_kwargs": {"control_freq": 20}}
    write_robomimic(tmp_path / "two/a.hdf5")
    write_robomimic(tmp_path / "two/b.hdf5", env_args=other)
    assert_refused(script, [tmp_path / "two"], tmp_path / "out", capsys, "controllers differ")
