"""robomimic's files are read as documented, and its controller's actions become metric."""

import copy

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arp_jax.data.formats import robomimic_hdf5 as robomimic
from tests.data.robomimic_files import ENV_ARGS, OSC_POSE, demo_arrays, write_robomimic

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


def test_demonstrations(tmp_path):
    path = write_robomimic(tmp_path / "a.hdf5", masks={"train": ["demo_10", "demo_0"]})
    assert robomimic.list_demos(path) == ["demo_0", "demo_1", "demo_10"]
    assert robomimic.list_demos(path, "train") == ["demo_0", "demo_10"]
    demo, arrays = robomimic.read_demo(path, "demo_1"), demo_arrays(1)
    assert demo.vectors == ("object", "robot0_eef_pos", "robot0_gripper_qpos")
    assert demo.pictures == {"agentview_image": (12, 16)}
    assert set(demo.arrays) == {*demo.vectors, "actions", "rewards", "dones", "action_dict/abs_pos"}
    for name, values in demo.arrays.items():
        key = f"obs/{name}" if name in demo.vectors else name
        np.testing.assert_array_equal(values, arrays[key], err_msg=name)
    frames = np.stack(list(robomimic.read_pictures(path, "demo_1", "agentview_image")))
    np.testing.assert_array_equal(frames, arrays["obs/agentview_image"])


def test_what_a_file_says_about_itself(tmp_path):
    language = '{"language_instruction": "open the drawer"}'
    info = robomimic.read_info(write_robomimic(tmp_path / "a.hdf5", problem_info=language))
    assert (info.env_name, info.rate_hz, info.language) == ("Lift", 20.0, "open the drawer")
    assert info.controller.frame == "world"
    np.testing.assert_array_equal(info.controller.output_max, OSC_POSE["output_max"])
    np.testing.assert_array_equal(info.controller.input_min, [-1] * 6)
    info = robomimic.read_info(write_robomimic(tmp_path / "b.hdf5", env_args=None))
    assert info == robomimic.RobomimicInfo("", None, None, "")


@pytest.mark.parametrize(
    ("config", "frame"),
    [
        # robosuite 1.5: one arm in a composite controller.
        (
            {
                "type": "BASIC",
                "body_parts": {
                    "right": {k: v for k, v in OSC_POSE.items() if k != "control_delta"}
                    | {"input_type": "delta", "input_ref_frame": "base", "gripper": {}}
                },
            },
            "base",
        ),
        ({"body_parts": {"left": OSC_POSE, "right": OSC_POSE}}, None),
        (OSC_POSE | {"control_delta": False}, None),
        (OSC_POSE | {"type": "JOINT_VELOCITY"}, None),
        ({k: v for k, v in OSC_POSE.items() if k != "output_max"}, None),
        (None, None),
    ],
)
def test_controllers(tmp_path, config, frame):
    env_args = copy.deepcopy(ENV_ARGS)
    env_args["env_kwargs"]["controller_configs"] = config
    info = robomimic.read_info(write_robomimic(tmp_path / "a.hdf5", env_args=env_args))
    assert (info.controller.frame if info.controller else None) == frame


def test_metric_actions(tmp_path):
    controller = robomimic.read_info(write_robomimic(tmp_path / "a.hdf5")).controller
    actions = np.array(
        [
            [1.0, -0.5, 0.0, 0.0, 0.0, 0.0, -1.0],  # gripper opens
            [3.0, 0.0, -3.0, 0.0, 0.0, 1.0, 1.0],  # clipped; a quarter of 2 rad about z; closes
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        ]
    )
    expected = [
        [0.05, -0.025, 0, 0, 0, 0, 1],
        [0.05, 0, -0.05, 0, 0, 0.5, 0],
        [0, 0, 0, 0.5, 0, 0, 0.5],
    ]
    metric = robomimic.metric_actions(actions, controller)
    assert metric.dtype == np.float32
    np.testing.assert_allclose(metric, expected, atol=1e-7)


def test_roll_pitch_yaw_describe_the_same_rotation():
    vectors = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 3))
    vectors[0] = 0
    # Small letters: about fixed axes, x first.
    expected = Rotation.from_rotvec(vectors).as_euler("xyz")
    np.testing.assert_allclose(robomimic.rpy_of_vector(vectors), expected, atol=1e-12)


def changed(**changes):
    arrays = demo_arrays(1) | changes
    return {"demo_0": demo_arrays(0), "demo_1": {k: v for k, v in arrays.items() if v is not None}}


@pytest.mark.parametrize(
    ("demos", "message"),
    [
        (changed(actions=None), "demo_1: no 'actions'"),
        (changed(rewards=np.zeros(3)), "demo_1: 'rewards' has 3 steps, 'actions' 6"),
        (changed(**{"obs/object": np.zeros((5, 2))}), "demo_1: 'object' has 5 steps, 'actions' 6"),
        ({"demo_1": {"actions": np.zeros((3, 7))}}, "demo_1: no 'obs': raw states only"),
        ({"demo_0": demo_arrays(0)}, "no demonstration 'demo_1'"),
    ],
)
def test_faults_name_file_demo_and_field(tmp_path, demos, message):
    path = write_robomimic(tmp_path / "a.hdf5", demos)
    with pytest.raises(ValueError, match=rf"a\.hdf5: {message}"):
        robomimic.read_demo(path, "demo_1")


def test_other_faults(tmp_path):
    path = write_robomimic(tmp_path / "a.hdf5", masks={"train": ["demo_7"]})
    with pytest.raises(ValueError, match=r"no filter key 'valid'; there are \['train'\]"):
        robomimic.list_demos(path, "valid")
    with pytest.raises(ValueError, match="'train' names demo_7: not there"):
        robomimic.list_demos(path, "train")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["num_samples"] = 3
        file["data"].attrs["env_args"] = "{broken"
    with pytest.raises(ValueError, match="demo_0: 'actions' has 4 steps, num_samples says 3"):
        robomimic.read_demo(path, "demo_0")
    with pytest.raises(ValueError, match="attribute 'env_args' of 'data' is no JSON"):
        robomimic.read_info(path)
    with pytest.raises(ValueError, match="demo_0: 'obs/object' holds no pictures"):
        next(robomimic.read_pictures(path, "demo_0", "object"))
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["other"] = 1
    with pytest.raises(ValueError, match=r"b\.hdf5: no group 'data', so it is no robomimic file"):
        robomimic.list_demos(tmp_path / "b.hdf5")
