"""`python -m arp_jax.data.view`: the page of one episode, of every kind of source."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arp_jax.data import view
from arp_jax.data.cards import load_card
from arp_jax.data.images import decode_image
from arp_jax.data.pack import pack_dataset
from arp_jax.data.synthetic import write_raw_dataset
from arp_jax.data.view_page import write_episode_page
from arp_jax.data.viewed_episode import Series, ViewedEpisode, read_viewed
from tests.data.act_files import act_arrays, write_act
from tests.data.rlds_folder import synthetic_episodes, write_folder
from tests.data.robomimic_files import demo_arrays, write_robomimic

LENGTHS = [3, 7, 5]


class _Page(HTMLParser):
    """The parts of a page that tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def content_of(text: str) -> dict[str, Any]:
    """The JSON that the page's script reads."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


def pixels(uri: str) -> np.ndarray:
    return decode_image(base64.b64decode(uri.partition(",")[2]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    episodes = synthetic_episodes(LENGTHS, size=48)
    sentences = ["push", "<b>lift</b> & 'hold'", "put"]
    return write_folder(tmp_path / "toy", episodes, instructions=sentences)


def test_page_of_an_rlds_episode(folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "page.html"
    assert view.main([f"{folder}:train:1", "--out", str(out), "--width", "32"]) == 0
    assert re.fullmatch(rf"{re.escape(str(out))} \(\d+\.\d MB\)\n", capsys.readouterr().out)
    text = out.read_text()
    page, content = _Page(text), content_of(text)
    episode = synthetic_episodes(LENGTHS, size=48)[1]
    assert content["steps"] == 7
    assert content["stride"] == 1
    np.testing.assert_allclose(content["values"][0], episode["action"], rtol=1e-4)
    frames = content["frames"]["image"]
    assert len(frames) == 7
    assert pixels(frames[4]).shape == (32, 32, 3)
    expected = episode["image"][4].astype(float).mean((0, 1))
    np.testing.assert_allclose(pixels(frames[4]).mean((0, 1)), expected, atol=6)
    panels = [a for tag, a in page.attributes if tag == "svg"]
    assert [p["data-steps"] for p in panels] == ["7"] * len(panels)
    assert {p["aria-label"] for p in panels} >= {"x", "y"}
    # Words of the dataset are words, not markup; nothing comes from elsewhere.
    assert "<b>lift</b> & 'hold'" in page.words
    assert "<b>lift" not in text
    links = [v for _, a in page.attributes for k, v in a.items() if k in ("src", "href")]
    assert not links
    assert "http" not in text


def test_a_foreign_dataset_and_a_pack_show_the_same_names(folder: Path, tmp_path: Path) -> None:
    raw = write_raw_dataset(tmp_path, load_card("fractal20220817_data"), episodes=1, seed=5)
    episode = read_viewed(f"{raw}:train:0")
    assert episode.series[0].dims == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert list(episode.cameras) == ["image"]
    assert episode.language
    assert episode.rate_hz > 0
    pack_dataset(folder, tmp_path / "pack", ("agent_pos", "image"), False)
    from_pack, from_folder = (
        read_viewed(a) for a in (f"{tmp_path / 'pack'}:2", f"{folder}:train:2")
    )
    assert from_pack.language == from_folder.language == ("put",)
    for one, other in zip(from_pack.series, from_folder.series, strict=False):
        assert (one.name, one.dims, one.low) == (other.name, other.dims, other.low)
        np.testing.assert_array_equal(one.values, other.values)
    picture = np.asarray(from_pack.cameras["image"][3])
    np.testing.assert_array_equal(picture, decode_image(from_folder.cameras["image"][3]))


def test_an_act_file(tmp_path: Path) -> None:
    arrays = act_arrays(cameras=("top", "wrist"))
    path = tmp_path / "episode_3.hdf5"
    write_act(path, arrays)
    episode = read_viewed(str(path))
    assert episode.length == 7
    assert list(episode.cameras) == ["top", "wrist"]
    assert episode.series[0].name == "action"
    np.testing.assert_array_equal(episode.series[0].values, arrays["action"])
    content = content_of(write_episode_page(episode, 320))
    assert content["rate"] == 10
    assert len(content["frames"]["wrist"]) == 7


def test_a_robomimic_demonstration(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "image.hdf5")
    episode, arrays = read_viewed(f"{path}:demo_10"), demo_arrays(2)
    assert list(episode.cameras) == ["agentview_image"]
    np.testing.assert_array_equal(episode.cameras["agentview_image"], arrays["obs/agentview_image"])
    found = {series.name: series for series in episode.series}
    assert {"actions", "robot0_eef_pos", "rewards", "dones"} <= set(found)
    np.testing.assert_allclose(found["actions"].values, arrays["actions"])
    assert found["robot0_eef_pos"].dims == ("0", "1", "2")
    with pytest.raises(ValueError, match="no demonstration 'demo_4'"):
        read_viewed(f"{path}:demo_4")


def viewed(steps: int = 6, **changes: Any) -> ViewedEpisode:
    values = np.arange(2.0 * steps).reshape(steps, 2)
    picture = np.zeros((24, 24, 3), np.uint8)
    content = {
        "title": "t",
        "rate_hz": 5.0,
        "cameras": {"image": [picture] * steps},
        "series": (Series("action", values, ("x", "y"), "m", (0.0, 0.0), (12.0, 12.0)),),
    }
    return ViewedEpisode(**(content | changes))


def test_frames_are_fewer_in_long_episodes() -> None:
    content = content_of(write_episode_page(viewed(6), 320, stride=4))
    assert (len(content["frames"]["image"]), content["stride"]) == (2, 4)
    page = write_episode_page(viewed(2001), 320)
    assert content_of(page)["stride"] == 3
    assert "one in 3 steps" in page
    assert len(content_of(page)["values"][0]) == 2001


def test_flags_metadata_and_values_that_are_not_finite() -> None:
    values = np.array([[1.0, np.nan], [np.inf, 2.0]])
    flags = {"is_last": np.array([False, True]), "is_terminal": np.array([False, False])}
    series = (Series("action", values, ("x", "y")),)
    metadata = {"seed": np.int64(3), "file": b"a.h5", "long": "x" * 5000, "<k>": "<v>"}
    page = write_episode_page(viewed(2, series=series, flags=flags, metadata=metadata), 320)
    content = content_of(page)
    assert content["values"] == [[[1.0, None], [None, 2.0]]]
    assert content["flags"] == {"is_last": [1], "is_terminal": []}
    assert "NaN" not in page
    assert "never" in page
    assert "a.h5" in _Page(page).words
    assert "<v>" not in page
    assert "x" * 3000 not in page


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to parse the page's script")
def test_the_script_is_javascript(tmp_path: Path) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", write_episode_page(viewed(), 320), re.S)
    assert len(scripts) == 1
    (tmp_path / "page.js").write_text(scripts[0])
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{folder}", "names no episode; write DIR:SPLIT:NUMBER"),
        ("{folder}:1", "names no split; write e.g. .*:train:1"),
        ("{folder}:train:3", r"'train' has the episodes 0 .. 2"),
        ("{folder}:test:0", "no split 'test'"),
        ("{folder}/absent:train:0", "is no directory"),
        ("{pack}:train:1", "a pack has no splits"),
        ("{pack}:3", "the pack has the episodes 0 .. 2"),
        ("{folder}/absent.hdf5", "cannot be opened as HDF5"),
    ],
)
def test_wrong_addresses_are_one_line(
    folder: Path, tmp_path: Path, capsys: Any, address: str, message: str
) -> None:
    pack = tmp_path / "pack"
    if "{pack}" in address:
        pack_dataset(folder, pack, ("agent_pos",), False)
    out = tmp_path / "page.html"
    capsys.readouterr()
    assert view.main([address.format(folder=folder, pack=pack), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not out.exists()


def test_a_broken_picture_is_named(folder: Path, tmp_path: Path) -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 5 + [b"broken"]
    with pytest.raises(ValueError, match="t, camera 'image', step 5: image cannot be decoded"):
        write_episode_page(viewed(6, cameras={"image": pictures}), 320)
    with pytest.raises(ValueError, match="--width 3"):
        write_episode_page(viewed(6), 3)


def test_default_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert view.view("toy:train:0") == Path("toy_train_0.html")
    assert Path("toy_train_0.html").is_file()


def test_recording_for_rerun(folder: Path, tmp_path: Path) -> None:
    chunk = pytest.importorskip("rerun.chunk")
    path = tmp_path / "episode.rrd"
    view.view(f"{folder}:train:1", tmp_path / "page.html", rerun=path)
    rows: dict[str, int] = {}
    for piece in chunk.RrdReader(path).stream():
        rows[piece.entity_path] = max(rows.get(piece.entity_path, 0), piece.num_rows)
    assert {"/action", "/agent_pos", "/cameras/image"} <= set(rows)
    assert rows["/action"] == rows["/cameras/image"] == 7
