"""Against the lerobot package itself: we read what it writes, it loads what we write.

It needs torch; with it, in an environment of its own: pip install lerobot datasets jsonlines av.
"""

import os
import shutil

import numpy as np
import pytest

from tests.data.lerobot_sets import LENGTHS, RATE, psnr, toy_episode, write_rlds, write_v21

pytest.importorskip("lerobot", reason="the lerobot package is not installed (needs torch)")
pytest.importorskip("datasets", reason="the datasets package is not installed")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from lerobot.datasets import LeRobotDataset

from arp_jax.data.formats.lerobot_plan import IMAGE, make_plan
from arp_jax.data.formats.lerobot_read import (
    open_lerobot,
    read_columns,
    read_instructions,
    read_pixels,
)
from arp_jax.data.formats.lerobot_write import write_lerobot
from arp_jax.data.source import open_source

TOP, NEAR = "observation.images.top", "observation.images.near"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Where the datasets package keeps its copies."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")


def load(folder):
    return LeRobotDataset("toy/toy", root=folder, video_backend="pyav", return_uint8=True)


def pixels_of(item, key):
    """[H, W, 3] of a frame: uint8 from videos, [0, 1] from pictures."""
    frame = item[key].numpy().transpose(1, 2, 0)
    return frame if frame.dtype == np.uint8 else np.round(frame * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A dataset that lerobot recorded: a video, a camera of pictures, two tasks."""
    folder = tmp_path_factory.mktemp("lerobot") / "theirs"
    picture = ["height", "width", "channels"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        TOP: {"dtype": "video", "shape": (48, 64, 3), "names": picture},
        NEAR: {"dtype": "image", "shape": (32, 32, 3), "names": picture},
        "action": {"dtype": "float32", "shape": (3,), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create(
        "toy/toy", fps=RATE, features=features, root=folder, use_videos=True, robot_type="toy_arm"
    )
    for number in range(len(LENGTHS)):
        episode = toy_episode(number)
        for step in range(LENGTHS[number]):
            dataset.add_frame(
                {
                    "observation.state": episode["state"][step],
                    TOP: episode["image"][step],
                    NEAR: episode["wrist_image"][step],
                    "action": episode["action"][step],
                    "next.reward": episode["reward"][step : step + 1],
                    "task": f"task {(number + step // 3) % 2}",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return folder


def test_we_read_what_lerobot_writes(theirs):
    ours, loaded = open_lerobot(theirs), load(theirs)
    assert (ours.info.version, ours.info.rate_hz, ours.info.robot) == ("v3.0", RATE, "toy_arm")
    assert set(ours.cameras) == {TOP, NEAR}
    index = 0
    for number, episode in enumerate(ours.episodes):
        wanted = toy_episode(number)
        columns = read_columns(ours, episode, [*ours.vectors, "timestamp", "index"])
        np.testing.assert_array_equal(columns["observation.state"], wanted["state"])
        np.testing.assert_array_equal(columns["action"], wanted["action"])
        np.testing.assert_array_equal(columns["next.reward"][:, 0], wanted["reward"])
        near, top = read_pixels(ours, episode, NEAR), read_pixels(ours, episode, TOP)
        np.testing.assert_array_equal(near, wanted["wrist_image"])
        tasks = read_instructions(ours, episode)
        for step in range(LENGTHS[number]):
            item = loaded[index]
            assert item["index"] == columns["index"][step] == index
            assert item["task"] == tasks[step] == f"task {(number + step // 3) % 2}"
            # The same decoder: not one bit may differ.
            np.testing.assert_array_equal(top[step], pixels_of(item, TOP))
            assert psnr(top[step], wanted["image"][step]) > 28
            index += 1
    assert index == len(loaded) == sum(LENGTHS)


@pytest.mark.parametrize(
    ("pictures", "codec"), [("video", "h264"), ("video", "av1"), (IMAGE, "h264")]
)
def test_lerobot_loads_what_we_write(tmp_path, pictures, codec):
    source = open_source(write_rlds(tmp_path / "rlds"))
    plan = make_plan(
        source, "train", task="wait", pictures=pictures, codec=codec, data_mb=0.012, video_mb=0.005
    )
    folder = write_lerobot(tmp_path / "ours", plan, workers=1, progress=False)
    loaded, ours = load(folder), open_lerobot(folder)
    assert (loaded.num_episodes, len(loaded), loaded.fps) == (len(LENGTHS), sum(LENGTHS), RATE)
    index = 0
    for number, episode in enumerate(ours.episodes):
        wanted = toy_episode(number)
        cameras = {name: f"observation.images.{name}" for name in ("image", "wrist_image")}
        frames = {name: read_pixels(ours, episode, key) for name, key in cameras.items()}
        for step in range(LENGTHS[number]):
            item = loaded[index]
            assert (item["episode_index"], item["frame_index"]) == (number, step)
            np.testing.assert_array_equal(item["observation.state"], wanted["state"][step])
            np.testing.assert_array_equal(item["observation.force"], wanted["force"][step, 0])
            np.testing.assert_array_equal(item["action"], wanted["action"][step])
            np.testing.assert_array_equal(item["next.reward"], wanted["reward"][step])
            last = step == LENGTHS[number] - 1
            assert item["next.success"] == (last and wanted["success"])
            assert item["task"] == (wanted["language"] or ("wait",))[0]
            for name, key in cameras.items():
                found = pixels_of(item, key)
                np.testing.assert_array_equal(found, frames[name][step])
                assert psnr(found, wanted[name][step]) > (60 if pictures == IMAGE else 30)
            index += 1
    whole = np.concatenate([toy_episode(n)["action"] for n in range(len(LENGTHS))])
    np.testing.assert_allclose(loaded.meta.stats["action"]["mean"], whole.mean(0), rtol=1e-5)
    assert loaded.meta.stats["observation.images.image"]["std"].shape == (3, 1, 1)


def test_statistics_are_those_of_lerobot(theirs, tmp_path):
    """Of the same episodes; quantiles differ by the width of LeRobot's histogram bins."""
    source = open_source(write_rlds(tmp_path / "rlds"))
    folder = write_lerobot(tmp_path / "ours", make_plan(source, "train"), workers=1, progress=False)
    ours, stats = load(folder).meta.stats, load(theirs).meta.stats
    for key, other in (("action", "action"), (NEAR, "observation.images.wrist_image")):
        assert set(stats[key]) == set(ours[other])
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(
                ours[other][name], stats[key][name], rtol=1e-4, atol=1e-5, err_msg=f"{key} {name}"
            )
            assert ours[other][name].shape == stats[key][name].shape


def test_lerobots_own_converter_agrees_with_our_reading_of_v21(tmp_path):
    """The same v2.1 folder, read by us before and after lerobot turned it into v3.0."""
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    before = write_v21(tmp_path / "before", complete=True)
    after = shutil.copytree(before, tmp_path / "after")
    convert_dataset("toy/toy", root=after, push_to_hub=False)
    old, new = open_lerobot(before), open_lerobot(after)
    assert (old.info.version, new.info.version) == ("v2.1", "v3.0")
    assert set(old.cameras) == set(new.cameras)
    for left, right in zip(old.episodes, new.episodes, strict=True):
        assert left.tasks == right.tasks
        columns = [read_columns(d, e, d.vectors) for d, e in ((old, left), (new, right))]
        for key in old.vectors:
            np.testing.assert_array_equal(columns[0][key], columns[1][key])
        for camera in old.cameras:
            np.testing.assert_array_equal(
                read_pixels(old, left, camera), read_pixels(new, right, camera)
            )
