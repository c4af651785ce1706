"""LeRobot v2.1 as published, read field for field; broken copies give one clear error."""

import json
import shutil

import numpy as np
import pytest

from arp_jax.data.formats.conversion_flags import Sentences
from arp_jax.specs import CameraSpec
from tests.data.lerobot_sets import JOINTS, LENGTHS, RATE, psnr, toy_episode, write_v21

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("av", reason="av is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

from arp_jax.data.formats import lerobot_rlds  # noqa: E402
from arp_jax.data.formats.array_episodes import Naming, PictureCoding  # noqa: E402
from arp_jax.data.formats.lerobot_layout import read_info, read_limits  # noqa: E402
from arp_jax.data.formats.lerobot_read import (  # noqa: E402
    open_lerobot,
    read_columns,
    read_instructions,
    read_pixels,
)

TOP, NEAR = "observation.images.top", "observation.image"
NAMING = Naming({"state": ("observation.state",)}, {"image": NEAR}, ("action",))
DATA = "data/chunk-000/episode_000001.parquet"
VIDEO = f"videos/chunk-000/{TOP}/episode_000001.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_v21(tmp_path_factory.mktemp("lerobot") / "v21")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def read_all(folder):
    """Everything of every episode."""
    dataset = open_lerobot(folder)
    for episode in dataset.episodes:
        read_columns(dataset, episode, dataset.vectors)
        read_instructions(dataset, episode)
        for camera in dataset.cameras:
            read_pixels(dataset, episode, camera)


def test_every_field_of_every_episode(folder):
    dataset = open_lerobot(folder)
    assert (dataset.info.version, dataset.info.rate_hz, dataset.info.robot) == (
        "v2.1", RATE, "so101",
    )  # fmt: skip
    assert set(dataset.vectors) == {"observation.state", "action", "next.reward"}
    assert set(dataset.cameras) == {TOP, NEAR}  # the depth map is left out
    assert dataset.cameras[TOP].shape == (48, 64, 3)  # described channels first
    assert dataset.vectors["observation.state"].names == JOINTS
    assert dataset.vectors["action"].names is None
    assert [e.length for e in dataset.episodes] == list(LENGTHS)
    for number, episode in enumerate(dataset.episodes):
        wanted = toy_episode(number)
        columns = read_columns(dataset, episode, [*dataset.vectors, "timestamp", "index"])
        np.testing.assert_array_equal(columns["observation.state"], wanted["state"])
        np.testing.assert_array_equal(columns["action"], wanted["action"])
        np.testing.assert_array_equal(columns["next.reward"][:, 0], wanted["reward"])
        assert columns["index"].tolist() == list(
            range(sum(LENGTHS[:number]), sum(LENGTHS[: number + 1]))
        )
        tasks = read_instructions(dataset, episode)
        assert tasks == [("open", "close")[number % 2] + " the drawer"] * LENGTHS[number]
        np.testing.assert_array_equal(read_pixels(dataset, episode, NEAR), wanted["wrist_image"])
        found = read_pixels(dataset, episode, TOP)
        assert found.shape == wanted["image"].shape
        assert all(psnr(a, b) > 34 for a, b in zip(found, wanted["image"], strict=True))


@pytest.mark.parametrize("stored", [True, False])
def test_limits_are_those_of_the_statistics_or_of_the_rows(copy, stored):
    if not stored:
        (copy / "meta/episodes_stats.jsonl").unlink()
    assert ("action" in read_limits(copy)) == stored
    measured = lerobot_rlds.measure_info(open_lerobot(copy), NAMING)
    actions = np.concatenate([toy_episode(n)["action"] for n in range(len(LENGTHS))])
    np.testing.assert_array_equal(measured.low, actions.min(axis=0))
    np.testing.assert_array_equal(measured.high, actions.max(axis=0))
    assert measured.sizes == {"state": 3}
    assert measured.cameras == (CameraSpec("image", 32, 32),)


def test_unusable_statistics(copy):
    edit_info(copy, lambda info: info["features"]["action"].update(shape=[4]))
    with pytest.raises(ValueError, match="statistics of action are not 4 finite numbers"):
        lerobot_rlds.measure_info(open_lerobot(copy), NAMING)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        ({"motors": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"c": 2, "a": 0, "b": 1}, ("a", "b", "c")),
        (["joints"], None),
        (None, None),
    ],
)
def test_names_of_dimensions(copy, names, expected):
    edit_info(copy, lambda info: info["features"]["action"].update(names=names))
    assert read_info(copy).features["action"].names == expected


def edit_info(folder, edit):
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


def edit_table(folder, edit):
    path = folder / DATA
    parquet.write_table(edit(parquet.read_table(path)), path)


def replace(name, values):
    def edit(table):
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return edit


def truncate(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def drop_line(path, number):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1 :]))


# What is done to a good copy, and what the error must name.
BROKEN = {
    "truncated video": (lambda f: truncate(f / VIDEO), ["episode_000001.mp4", TOP, "episode 1"]),
    "missing video": (lambda f: (f / VIDEO).unlink(), ["episode_000001.mp4", TOP, "episode 1"]),
    "shorter video": (
        lambda f: shutil.copy(f / f"videos/chunk-001/{TOP}/episode_000003.mp4", f / VIDEO),
        ["episode_000001.mp4", TOP, "episode 1", "no frame within"],
    ),
    "missing file": (lambda f: (f / DATA).unlink(), ["episode_000001.parquet", "episode 1"]),
    "truncated file": (lambda f: truncate(f / DATA), ["episode_000001.parquet", "episode 1"]),
    "missing column": (
        lambda f: edit_table(f, lambda t: t.drop_columns(["action"])),
        ["episode_000001.parquet", "'action'", "episode 1"],
    ),
    "column of text": (
        lambda f: edit_table(f, replace("action", ["left"] * 4)),
        ["episode_000001.parquet", "'action'", "episode 1", "numbers"],
    ),
    "column of another size": (
        lambda f: edit_table(f, replace("action", [[1.0, 2.0]] * 4)),
        ["episode_000001.parquet", "'action'", "episode 1", "3 a row"],
    ),
    "holes in a column": (
        lambda f: edit_table(f, replace("observation.state", [[1.0] * 3, None] * 2)),
        ["episode_000001.parquet", "'observation.state'", "episode 1"],
    ),
    "rows of another episode": (
        lambda f: edit_table(f, replace("episode_index", [2] * 4)),
        ["episode_000001.parquet", "0 rows of episode 1", "4"],
    ),
    "too few rows": (
        lambda f: edit_table(f, lambda t: t.slice(1)),
        ["episode_000001.parquet", "3 rows of episode 1", "4"],
    ),
    "unknown task": (
        lambda f: edit_table(f, replace("task_index", [7] * 4)),
        ["episode_000001.parquet", "task_index 7", "episode 1"],
    ),
    "truncated picture": (
        lambda f: edit_table(f, replace(NEAR, [{"bytes": b"\x89PNG\r\n", "path": None}] * 4)),
        ["episode_000001.parquet", NEAR, "episode 1", "step 0"],
    ),
    "picture of another size": (
        lambda f: edit_info(f, lambda i: i["features"][NEAR].update(shape=[16, 16, 3])),
        ["episode_000000.parquet", NEAR, "episode 0", "(16, 16)"],
    ),
    "video of another size": (
        lambda f: edit_info(f, lambda i: i["features"][TOP].update(shape=[16, 16, 3])),
        ["episode_000000.mp4", TOP, "episode 0", "(16, 16)"],
    ),
    "missing episode": (
        lambda f: drop_line(f / "meta/episodes.jsonl", 2),
        ["episodes.jsonl", "episode 2 is missing"],
    ),
    "missing last episode": (
        lambda f: drop_line(f / "meta/episodes.jsonl", 4),
        ["episodes.jsonl", "4 episodes", "says 5"],
    ),
    "no list of episodes": (
        lambda f: (f / "meta/episodes.jsonl").unlink(),
        ["episodes.jsonl"],
    ),
    "no rate": (lambda f: edit_info(f, lambda i: i.pop("fps")), ["info.json", "'fps'"]),
    "other version": (
        lambda f: edit_info(f, lambda i: i.update(codebase_version="v1.6")),
        ["info.json", "'v1.6'"],
    ),
    "broken info": (lambda f: truncate(f / "meta/info.json"), ["info.json", "JSON"]),
    "no info": (lambda f: (f / "meta/info.json").unlink(), ["no LeRobot dataset"]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_copies_are_refused_in_one_line(copy, fault):
    spoil, parts = BROKEN[fault]
    spoil(copy)
    with pytest.raises(ValueError) as caught:
        read_all(copy)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_pictures_may_lie_beside_the_rows(copy):
    """Not embedded: the column then names a file."""
    dataset = open_lerobot(copy)
    wanted = read_pixels(dataset, dataset.episodes[1], NEAR)
    column = parquet.read_table(copy / DATA)[NEAR].to_pylist()
    paths = [f"images/{NEAR}/frame_{step}.png" for step in range(len(column))]
    (copy / paths[0]).parent.mkdir(parents=True)
    for path, entry in zip(paths, column, strict=True):
        (copy / path).write_bytes(entry["bytes"])
    edit_table(copy, replace(NEAR, [{"bytes": None, "path": path} for path in paths]))
    np.testing.assert_array_equal(read_pixels(dataset, dataset.episodes[1], NEAR), wanted)
    (copy / paths[2]).unlink()
    with pytest.raises(ValueError, match=r"frame_2\.png: the picture of step 2 is missing"):
        read_pixels(dataset, dataset.episodes[1], NEAR)


def test_pictures_of_the_right_format_keep_their_bytes(folder):
    dataset = open_lerobot(folder)
    measured = lerobot_rlds.measure_info(dataset, NAMING)
    stored = [row["bytes"] for row in parquet.read_table(folder / DATA)[NEAR].to_pylist()]
    for image_format, same in (("png", True), ("jpeg", False)):
        job = lerobot_rlds.make_job(
            dataset,
            NAMING,
            measured,
            PictureCoding(image_format),
            successful=False,
            sentences=Sentences(),
        )
        steps = lerobot_rlds.read_example(job, dataset.episodes[1])["steps"]
        found = [step["observation"]["image"].getvalue() for step in steps]
        assert (found == stored) == same
