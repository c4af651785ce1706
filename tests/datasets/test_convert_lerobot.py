"""The commands between LeRobot and RLDS, as a user runs them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.source import open_source
from tests.data.lerobot_sets import (
    ACTION,
    JOINTS,
    LENGTHS,
    SPECS,
    psnr,
    toy_episode,
    write_rlds,
    write_v21,
)
from tests.datasets.scripts import assert_refused, contents, load_converter

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("av", reason="av is not installed")

DESCRIBED = ("--unit", "rad", "--frame", "joint", "--gripper", "open=1")


@pytest.fixture(scope="module")
def to_rlds():
    return load_converter("convert_lerobot")


@pytest.fixture(scope="module")
def to_lerobot():
    return load_converter("convert_to_lerobot")


@pytest.fixture(scope="module")
def rlds(tmp_path_factory):
    return write_rlds(tmp_path_factory.mktemp("rlds"))


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return write_v21(tmp_path_factory.mktemp("lerobot") / "old")


def run(script, capsys, *arguments):
    """Runs in this process; returns what it prints."""
    capsys.readouterr()
    status = script.main([*map(str, arguments), "--workers", "1"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def test_there_and_back(to_lerobot, to_rlds, rlds, tmp_path, capsys):
    """Numbers, texts, flags and specs exactly; pictures within the error of two codecs."""
    printed = run(to_lerobot, capsys, rlds, "--out", tmp_path / "toy", "--robot", "toy_arm")
    assert "episodes  5\nsteps     27\n" in printed
    printed = run(to_rlds, capsys, tmp_path / "toy", "--out", tmp_path, "--name", "again")
    assert "episodes  5 of 1 to 9 steps" in printed
    source = open_source(tmp_path / "again/1.0.0")
    assert source.specs == SPECS
    for number, episode in enumerate(source.episodes("train")):
        wanted = toy_episode(number)
        for name in ("state", "force"):
            np.testing.assert_array_equal(episode["observation"][name], wanted[name])
        np.testing.assert_array_equal(episode["action"], wanted["action"])
        np.testing.assert_array_equal(episode["reward"], wanted["reward"])
        assert episode["language"] == wanted["language"]
        assert episode["metadata"] == {"episode_index": number}
        last = np.arange(LENGTHS[number]) == LENGTHS[number] - 1
        np.testing.assert_array_equal(episode["is_terminal"], last & wanted["success"])
        for camera in ("image", "wrist_image"):
            pairs = zip(episode["observation"][camera], wanted[camera], strict=True)
            assert all(psnr(found, sent) > 33 for found, sent in pairs)
    assert number == len(LENGTHS) - 1


def test_pictures_that_stay_pictures_come_back_exactly(to_lerobot, to_rlds, rlds, tmp_path, capsys):
    run(
        to_lerobot, capsys, rlds, "--out", tmp_path / "toy", "--pictures", "image",
        "--leave_out", "force", "--leave_out", "image", "--episodes", 2,
        "--rename", "wrist_image=observation.images.hand",
    )  # fmt: skip
    run(to_rlds, capsys, tmp_path / "toy", "--out", tmp_path, "--image_format", "png")
    source = open_source(tmp_path / "lerobot/1.0.0")
    assert source.specs.observation.names == ("state", "hand")
    episodes = list(source.episodes("train"))
    assert len(episodes) == 2
    for number, episode in enumerate(episodes):
        pixels = toy_episode(number)["wrist_image"]
        np.testing.assert_array_equal(episode["observation"]["hand"], pixels)


def test_names_units_and_sentences_by_flags(to_rlds, old, tmp_path, capsys):
    sentences = tmp_path / "sentences.json"
    sentences.write_text(json.dumps({"1": "close it"}))
    run(
        to_rlds, capsys, old, "--out", tmp_path, "--name", "so101", *DESCRIBED,
        "--camera", "top=image", "--camera", "observation.image=wrist_image",
        "--vector", "state", "--dims", f"action={','.join(JOINTS)}",
        "--language_file", sentences, "--successful", "--image_format", "png",
    )  # fmt: skip
    source = open_source(tmp_path / "so101/1.0.0")
    specs = source.specs
    assert specs.observation.names == ("state", "image", "wrist_image")
    state = specs.observation.feature("state")
    assert (state.dims, state.unit, state.frame) == (JOINTS, "rad", "joint")
    assert (specs.action.dims, specs.action.gripper) == (JOINTS, "open=1")
    assert specs.action.rate_hz == ACTION.rate_hz
    actions = np.concatenate([toy_episode(n)["action"] for n in range(len(LENGTHS))])
    np.testing.assert_array_equal(specs.action.low, actions.min(axis=0))
    for number, episode in enumerate(source.episodes("train")):
        text = "close it" if number == 1 else ("open", "close")[number % 2] + " the drawer"
        assert episode["language"] == (text,)
        assert episode["is_terminal"][-1]
        wanted = toy_episode(number)["wrist_image"]
        np.testing.assert_array_equal(episode["observation"]["wrist_image"], wanted)


def test_specs_of_a_dataset_to_join(to_rlds, old, tmp_path, capsys):
    observation = SPECS.observation.select(["state", "image"])
    DatasetSpecs(observation, ACTION).write(tmp_path)
    names = ("--camera", "top=image", "--vector", "state")
    run(to_rlds, capsys, old, "--out", tmp_path, *names, "--specs", tmp_path / "specs.json")
    assert open_source(tmp_path / "lerobot/1.0.0").specs == DatasetSpecs(observation, ACTION)
    slower = DatasetSpecs(observation, type(ACTION)(**{**vars(ACTION), "rate_hz": 10.0}))
    slower.write(tmp_path)
    arguments = (old, *names, "--specs", tmp_path / "specs.json", "--name", "other")
    assert_refused(to_rlds, arguments, tmp_path / "other", capsys, "10.0 Hz", "15.0")


def test_processes_of_their_own_write_the_same_bytes(to_rlds, old, tmp_path, capsys, repository):
    run(to_rlds, capsys, old, "--out", tmp_path / "one", *DESCRIBED)
    command = ["datasets/convert_lerobot.py", old, "--out", tmp_path / "two", "--workers", "2"]
    command = [sys.executable, *map(str, command), *DESCRIBED]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    one, two = (contents(tmp_path / name / "lerobot/1.0.0") for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("fault", ["video", "column", "type", "episode", "version"])
def test_broken_datasets(to_rlds, old, tmp_path, capsys, fault):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    copy = shutil.copytree(old, tmp_path / "copy")
    data = copy / "data/chunk-000/episode_000001.parquet"
    table = parquet.read_table(data)
    if fault == "video":
        video = copy / "videos/chunk-000/observation.images.top/episode_000001.mp4"
        video.write_bytes(video.read_bytes()[:-500])
        parts = ("episode_000001.mp4", "observation.images.top", "episode 1 of 'train'")
    elif fault == "column":
        parquet.write_table(table.drop_columns(["observation.state"]), data)
        parts = ("episode_000001.parquet", "'observation.state'", "episode 1 of 'train'")
    elif fault == "type":
        column = table.column_names.index("action")
        parquet.write_table(table.set_column(column, "action", pa.array(["x"] * 4)), data)
        parts = ("episode_000001.parquet", "'action'", "episode 1 of 'train'")
    elif fault == "episode":
        lines = (copy / "meta/episodes.jsonl").read_text().splitlines(keepends=True)
        (copy / "meta/episodes.jsonl").write_text("".join(lines[:1] + lines[2:]))
        parts = ("episodes.jsonl", "episode 1 is missing")
    else:
        info = (copy / "meta/info.json").read_text()
        (copy / "meta/info.json").write_text(info.replace("v2.1", "v4.0"))
        parts = ("info.json", "'v4.0'")
    assert_refused(to_rlds, (copy, *DESCRIBED), tmp_path / "out", capsys, *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--split", "test"), ("no split 'test'",)),
        (("--rename", "state"), ("--rename state", "NAME=KEY")),
        (("--leave_out", "depth"), ("no observation 'depth'",)),
    ],
)
def test_wrong_usage_of_the_export(to_lerobot, rlds, tmp_path, capsys, arguments, parts):
    out = tmp_path / "out"
    assert_refused(to_lerobot, (rlds, *arguments), out, capsys, *parts)
    assert not out.exists()
    assert not out.with_name("out.incomplete").exists()


def test_cameras_that_do_not_exist(to_rlds, old, tmp_path, capsys):
    arguments = (old, "--camera", "left=image", *DESCRIBED)
    assert_refused(to_rlds, arguments, tmp_path, capsys, "no feature 'left'", "images.top")


@pytest.mark.parametrize("package", ["av", "pyarrow"])
def test_missing_packages_are_named(to_lerobot, rlds, tmp_path, capsys, monkeypatch, package):
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert_refused(to_lerobot, (rlds,), tmp_path / "out", capsys, f"pip install {package}")
