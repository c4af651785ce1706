"""RLDS to LeRobot v3.0 and back: numbers exactly, pictures within the error of the codec."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from arp_jax.data.source import open_source
from tests.data.lerobot_sets import LENGTHS, RATE, SPECS, psnr, toy_episode, write_rlds

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("av", reason="av is not installed")

from arp_jax.data.formats.lerobot_join import file_numbers
from arp_jax.data.formats.lerobot_layout import read_table
from arp_jax.data.formats.lerobot_plan import IMAGE, make_plan
from arp_jax.data.formats.lerobot_read import (
    open_lerobot,
    read_camera,
    read_columns,
    read_instructions,
    read_pixels,
)
from arp_jax.data.formats.lerobot_write import write_lerobot
from arp_jax.data.formats.video import video_info

CAMERAS = {"image": "observation.images.image", "wrist_image": "observation.images.wrist_image"}
QUIET = {"workers": 1, "progress": False}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_rlds(tmp_path_factory.mktemp("rlds")))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """As videos, in files so small that episodes share some of them."""
    plan = make_plan(source, "train", task="wait", robot="toy_arm", data_mb=0.012, video_mb=0.005)
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "toy", plan, **QUIET)


def contents(folder):
    """Bytes of every file; of a video what it holds, as x264 rarely repeats itself to the bit."""
    return {
        str(p.relative_to(folder)): video_info(p) if p.suffix == ".mp4" else p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_every_number_and_every_frame_comes_back(exported):
    dataset = open_lerobot(exported)
    assert dataset.info.version == "v3.0"
    assert (dataset.info.rate_hz, dataset.info.robot) == (RATE, "toy_arm")
    assert dataset.vectors["observation.state"].names == SPECS.observation.features[0].dims
    for number, episode in enumerate(dataset.episodes):
        wanted, steps = toy_episode(number), LENGTHS[number]
        columns = read_columns(dataset, episode, [*dataset.vectors, "timestamp", "frame_index"])
        for key, name in (
            ("observation.state", "state"), ("observation.force", "force"), ("action", "action"),
        ):  # fmt: skip
            np.testing.assert_array_equal(columns[key], wanted[name])
        np.testing.assert_array_equal(columns["next.reward"][:, 0], wanted["reward"])
        last = np.arange(steps) == steps - 1
        np.testing.assert_array_equal(columns["next.done"][:, 0], last)
        np.testing.assert_array_equal(columns["next.success"][:, 0], last & wanted["success"])
        np.testing.assert_allclose(columns["timestamp"], np.arange(steps) / RATE, atol=1e-6)
        wordings = wanted["language"] or ("wait",)
        assert episode.tasks == wordings
        assert read_instructions(dataset, episode) == [wordings[0]] * steps
        for name, key in CAMERAS.items():
            found = read_pixels(dataset, episode, key)
            assert found.shape == wanted[name].shape
            assert all(psnr(a, b) > 34 for a, b in zip(found, wanted[name], strict=True))


def test_files_hold_several_episodes_up_to_a_size(exported):
    episodes = open_lerobot(exported).episodes
    videos = [[e.videos[key].path for e in episodes] for key in CAMERAS.values()]
    for files in ([e.data for e in episodes], *videos):
        assert 1 < len(set(files)) < len(files)
        assert files == sorted(files)
    assert file_numbers([4, 4, 4, 20, 1, 1], limit=10) == [0, 0, 1, 2, 3, 3]
    parts = sorted(p.name for p in (exported / "videos" / CAMERAS["image"]).glob("*/*"))
    assert parts[:2] == ["file-000.mp4", "file-001.mp4"]


def test_metadata_are_those_of_the_published_layout(exported):
    info = json.loads((exported / "meta/info.json").read_text())
    assert info["total_frames"] == sum(LENGTHS)
    assert info["total_episodes"] == len(LENGTHS)
    assert info["splits"] == {"train": "0:5"}
    assert info["features"]["observation.force"] == {
        "dtype": "float32", "shape": [1], "names": ["force"],
    }  # fmt: skip
    camera = info["features"]["observation.images.image"]
    assert camera["shape"] == [48, 64, 3]
    assert camera["info"]["video.codec"] == "h264"
    rows = read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [r["dataset_from_index"] for r in rows] == [0, 7, 11, 20, 21]
    assert [r["dataset_to_index"] for r in rows] == [7, 11, 20, 21, 27]
    key = "videos/observation.images.image"
    for row, length in zip(rows, LENGTHS, strict=True):
        spent = row[f"{key}/to_timestamp"] - row[f"{key}/from_timestamp"]
        assert spent == pytest.approx(length / RATE)
    tasks = read_table(exported / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    words = ["open the drawer", "pull the drawer", "close the drawer", "wait"]
    assert tasks["task"].to_pylist() == words
    assert tasks["task_index"].to_pylist() == [0, 1, 2, 3]


def test_statistics_of_episodes_and_of_the_whole(exported):
    rows = read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    episodes = [toy_episode(n) for n in range(len(LENGTHS))]
    for row, episode in zip(rows, episodes, strict=True):
        action = episode["action"].astype(float)
        for name, expected in (
            ("min", action.min(0)), ("max", action.max(0)), ("mean", action.mean(0)),
            ("std", action.std(0)), ("q90", np.quantile(action, 0.9, axis=0)),
            ("count", [len(action)]),
        ):  # fmt: skip
            np.testing.assert_allclose(row[f"stats/action/{name}"], expected, err_msg=name)
        pixels = episode["wrist_image"] / 255
        for name in ("min", "max", "mean", "std"):
            found = np.array(row[f"stats/observation.images.wrist_image/{name}"])
            assert found.shape == (3, 1, 1)
            expected = getattr(pixels, name)(axis=(0, 1, 2))
            np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-12, err_msg=name)
    stats = json.loads((exported / "meta/stats.json").read_text())
    everything = np.concatenate([e["action"] for e in episodes]).astype(float)
    for name in ("min", "max", "mean", "std"):
        expected = getattr(everything, name)(axis=0)
        np.testing.assert_allclose(stats["action"][name], expected, rtol=1e-6, err_msg=name)
    assert stats["index"]["max"] == [sum(LENGTHS) - 1]
    assert stats["task_index"]["max"] == [3]


def test_pictures_may_stay_as_they_are(source, tmp_path):
    plan = make_plan(source, "train", pictures=IMAGE, episodes=2, leave_out=["image"])
    dataset = open_lerobot(write_lerobot(tmp_path / "toy", plan, **QUIET))
    assert set(dataset.cameras) == {"observation.images.wrist_image"}
    assert len(dataset.episodes) == 2
    assert not (tmp_path / "toy/videos").exists()
    for number, episode in enumerate(dataset.episodes):
        stored = list(read_camera(dataset, episode, "observation.images.wrist_image"))
        pixels = np.stack([pixels for pixels, _ in stored])
        np.testing.assert_array_equal(pixels, toy_episode(number)["wrist_image"])
        assert all(data.startswith(b"\x89PNG") for _, data in stored)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"leave_out": ["depth"]}, "no observation 'depth'"),
        ({"rename": {"depth": "x"}}, "no observation 'depth' to rename"),
        ({"rename": {"state": "a"}}, "'a': LeRobot's observations begin with 'observation.'"),
        ({"rename": {"state": "observation.force"}}, "the same key"),
        ({"codec": "mpeg1"}, "codec 'mpeg1' is unknown"),
        ({"pictures": "gif"}, "pictures 'gif'"),
    ],
)
def test_impossible_wishes(source, choices, message):
    with pytest.raises(ValueError, match=message):
        make_plan(source, "train", **choices)
    with pytest.raises(ValueError, match="no split 'test'"):
        make_plan(source, "test")


def test_broken_episode_is_named_and_the_repaired_one_continues(source, exported, tmp_path):
    broken = open_source(write_rlds(tmp_path / "rlds", broken=2))
    plan = make_plan(broken, "train", task="wait", robot="toy_arm", data_mb=0.012, video_mb=0.005)
    out, work = tmp_path / "toy", tmp_path / "toy.incomplete"
    with pytest.raises(ValueError, match=r"episode 2 of 'train': .*wrist_image step 2: image"):
        write_lerobot(out, plan, **QUIET)
    assert not out.exists()
    done = {p: p.stat().st_mtime_ns for p in work.glob("parts/*/part.json")}
    assert sorted(p.parent.name for p in done) == ["episode-000000", "episode-000001"]
    with pytest.raises(ValueError, match=r"toy\.incomplete: was begun with other arguments"):
        write_lerobot(out, make_plan(broken, "train"), **QUIET)
    for path in broken.path.iterdir():
        shutil.copy(source.path / path.name, path)
    assert write_lerobot(out, plan, **QUIET) == out
    assert not work.exists()
    assert contents(out) == contents(exported)
    with pytest.raises(ValueError, match="exists already"):
        write_lerobot(out, plan, **QUIET)


def test_killed_export_continues_and_ends_with_the_same_bytes(source, exported, tmp_path):
    script = (
        "import sys\n"
        "from tests.data.test_lerobot_write import *\n"
        "import arp_jax.data.formats.lerobot_write as write\n"
        "encode = write.encode_video\n"
        "def slowly(*args):\n"
        "    time.sleep(0.3)\n"
        "    return encode(*args)\n"
        "write.encode_video = slowly\n"
        "plan = make_plan(open_source(sys.argv[1]), 'train', task='wait', robot='toy_arm',"
        " data_mb=0.012, video_mb=0.005)\n"
        "write_lerobot(sys.argv[2], plan, workers=1, progress=False)\n"
    )
    out, work = tmp_path / "toy", tmp_path / "toy.incomplete"
    process = subprocess.Popen([sys.executable, "-c", script, str(source.path), str(out)])
    while len(list(work.glob("parts/*/part.json"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    plan = make_plan(source, "train", task="wait", robot="toy_arm", data_mb=0.012, video_mb=0.005)
    write_lerobot(out, plan, workers=2, progress=False)
    assert contents(out) == contents(exported)
    assert not work.exists()
