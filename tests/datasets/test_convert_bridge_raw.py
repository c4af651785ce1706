"""`datasets/convert_bridge_raw.py`: BridgeData's pickles and pictures become RLDS."""

import pickle

import numpy as np
import pytest

from arp_jax.data.images import encode_image
from arp_jax.data.source import open_source
from tests.datasets.scripts import assert_refused, contents, load_converter

NEW, OLD = "2022-03-01_10-20-30", "2021-05-01_10-20-30"


@pytest.fixture(scope="module")
def script():
    return load_converter("convert_bridge_raw")


def recording(seed, steps=5):
    """(actions [T, 7], state [T + 1, 7], pictures of two cameras) of a recording."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (2, steps + 1, 12, 16, 3), dtype=np.uint8)
    return rng.normal(size=(steps, 7)) * 0.02, rng.normal(size=(steps + 1, 7)), pictures


def write_recording(root, seed, *, date=NEW, number=0, text=None, as_dicts=True, **changes):
    """Writes .../DATE/raw/traj_group0/trajN/ as the robots' own program did."""
    actions, state, pictures = recording(seed)
    folder = root / "kitchen/task/00" / date / f"raw/traj_group0/traj{number}"
    folder.mkdir(parents=True)
    steps = [{"actions": a, "policy_type": "VRPolicy"} for a in actions] if as_dicts else actions
    observed = {
        "full_state": state,
        "qpos": state * 2,
        "time_stamp": [float(t) for t in range(len(state))],
        "task_stage": np.zeros(1),
        "env": object,
    } | changes.get("observed", {})
    (folder / "policy_out.pkl").write_bytes(pickle.dumps(changes.get("steps", steps)))
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps(observed))
    for camera, frames in enumerate(pictures):
        (folder / f"images{camera}").mkdir()
        for step, frame in enumerate(frames):
            path = folder / f"images{camera}/im_{step}.jpg"
            path.write_bytes(encode_image(frame, "jpeg"))
    if text is not None:
        (folder / "lang.txt").write_text(text)
    return folder


def convert(script, out, *arguments):
    assert script.main([*map(str, arguments), "--out", str(out), "--workers", "1"]) == 0
    (path,) = out.glob("*/1.0.0")
    return open_source(path)


def test_recordings_become_episodes(script, tmp_path):
    root = tmp_path / "raw"
    sentences = "confidence: 1\n\nput the pot left\nmove the pot\n"
    folders = [
        write_recording(root, 0, number=2, text=sentences),
        write_recording(root, 1, number=10, as_dicts=False),
        write_recording(root, 2, date=OLD),
    ]
    source = convert(script, tmp_path / "out", root)
    assert source.specs.observation.names == ("state", "image")
    assert source.specs.observation.feature("state").dims[-1] == "gripper"
    action = source.specs.action
    assert (action.gripper, action.rate_hz, action.absolute[-2:]) == ("open=1", 5.0, (False, True))
    episodes = list(source.episodes("train", decode_images=False))
    # In the order of folders and numbers: the old recording first, whose cameras were late.
    for episode, seed, (begin, end) in zip(
        episodes, (2, 0, 1), ((1, 4), (0, 5), (0, 5)), strict=True
    ):
        actions, state, _ = recording(seed)
        np.testing.assert_array_equal(
            episode["action"], actions[:end].astype(np.float32)[: 5 - begin]
        )
        np.testing.assert_array_equal(
            episode["observation"]["state"], state[begin:5].astype(np.float32)
        )
        files = [folders[seed] / f"images0/im_{step}.jpg" for step in range(begin, 5)]
        assert list(episode["observation"]["image"]) == [file.read_bytes() for file in files]
        assert episode["metadata"]["path"] == folders[seed].relative_to(root).as_posix()
    assert [e["language"] for e in episodes] == [(), ("put the pot left",), ()]
    flags = ["--camera", "images1=image_2", "--state", "full_state,qpos"]
    more = convert(script, tmp_path / "more", root, *flags)
    assert more.specs.observation.names == ("state", "image_2")
    assert more.specs.observation.feature("state").size == 14
    again = convert(script, tmp_path / "again", root)
    assert contents(again.path) == contents(source.path)


def test_faults_are_one_line_and_leave_no_dataset(script, tmp_path, capsys):
    count = iter(range(99))

    def refused(*parts, flags=(), after=lambda folder: None, **changes):
        root = tmp_path / str(next(count))
        write_recording(root, 0)
        after(write_recording(root, 1, number=1, **changes))
        assert_refused(script, [root, *flags], root / "out", capsys, *parts)

    state = recording(1)[1]
    refused("traj1/obs_dict.pkl: 'full_state' has 5 steps, 5 actions need 6",
            observed={"full_state": state[:-1]})  # fmt: skip
    refused("traj1/obs_dict.pkl: 'full_state' has 0 steps", observed={"full_state": "x"})
    refused("traj1/policy_out.pkl: 'actions' of step 0 is no array", steps=[{"a": 1}])
    refused("traj1/policy_out.pkl: expected a list of steps", steps=3)
    refused("traj0: no 'joints'", flags=["--vector", "joints"])
    refused("no camera 'images5'", flags=["--camera", "images5=image"])
    refused("traj1: 'full_state' is not finite at step 0", observed={"full_state": state * np.nan})

    def cut(name, share=0.5):
        def damage(folder):
            path = folder / name
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

        return damage

    refused("traj1/obs_dict.pkl: no whole pickle", after=cut("obs_dict.pkl"))
    refused("traj1: 'images0' step 3 is no whole picture", after=cut("images0/im_3.jpg"))
    refused("images0/im_0.jpg: image cannot be decoded", after=cut("images0/im_0.jpg", 0.001))
    refused("traj1/images0: im_2.jpg is missing",
            after=lambda folder: (folder / "images0/im_2.jpg").unlink())  # fmt: skip
    refused("traj1: 'images0' has 4 steps, the action 5",
            after=lambda folder: (folder / "images0/im_5.jpg").unlink())  # fmt: skip
    (tmp_path / "empty").mkdir()
    assert_refused(script, [tmp_path / "empty"], tmp_path / "o", capsys, "empty: no recordings")
