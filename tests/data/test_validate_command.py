"""The command: exit status, table, JSON, the page, and the corrected copy."""

import html.parser
import json
import re

import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.checks.findings import KINDS, Finding
from arp_jax.data.checks.fix import Repair, plan_repairs
from arp_jax.data.rlds import open_dataset
from arp_jax.data.synthetic import write_raw_dataset
from arp_jax.data.validate import main
from tests.data.defect_sets import DIMS, arm_episodes, write_raw_episodes
from tests.data.raw_card import assert_same_episode
from tests.datasets.scripts import contents


def run(*arguments):
    return main([*map(str, arguments), "--quiet", "--workers", "1"])


def spoiled_episodes():
    """NaN near the start, a damaged picture in the middle, a copy, one step, a lost flag."""
    episodes = arm_episodes()
    episodes[1]["action"][3, 0] = np.nan
    frames = episodes[2]["observation"]["image"]
    frames[20] = frames[20][:200]
    episodes[6] = episodes[5]
    episodes[7] = {
        key: {k: v[:1] for k, v in value.items()} if key == "observation" else value[:1]
        for key, value in episodes[7].items()
    }
    episodes[7]["is_last"] = np.array([True])
    episodes[8]["is_first"][0] = False
    episodes[9]["action"][10, 2] = 9.0
    return episodes


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_raw_episodes(tmp_path_factory.mktemp("good"), arm_episodes(6))


@pytest.fixture
def spoiled(tmp_path):
    return write_raw_episodes(tmp_path / "spoiled", spoiled_episodes())


def test_a_good_dataset_ends_with_status_0(good, capsys):
    assert run(good.parent) == 0
    assert "nothing to report" in capsys.readouterr().out


def test_warnings_end_with_status_0_errors_with_1(tmp_path, spoiled, capsys):
    episodes = arm_episodes(6)
    episodes[2]["language_instruction"][:] = ""
    assert run(write_raw_episodes(tmp_path, episodes)) == 0
    assert "language_missing" in capsys.readouterr().out
    assert run(spoiled) == 1
    printed = capsys.readouterr().out
    for part in ("undecodable", "episode 2, step 20", "arm-train.tfrecord-00000-of-00002"):
        assert part in printed


def test_a_name_is_found_in_the_data_folder(good, capsys):
    assert run("arm", "--data_dir", good.parents[1], "--episodes", 2) == 0
    assert "2 of 2 episodes" in capsys.readouterr().out


def test_what_cannot_be_read_ends_with_status_2(good, tmp_path, capsys):
    unknown = write_raw_episodes(tmp_path, arm_episodes(2), specs=None)
    for arguments, part in (
        ([tmp_path / "none"], "neither a folder nor a dataset"),
        ([good, "--split", "test"], "no split 'test'"),
        ([good, "--fix", good.parents[1]], "the source itself"),
        ([good, "--episodes", 2, "--fix", tmp_path], "leave out --episodes"),
        ([unknown], "--card"),
    ):
        capsys.readouterr()
        assert run(*arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert part in lines[0]


def test_a_dataset_without_a_readable_episode_ends_with_status_2(tmp_path, capsys):
    folder = write_raw_episodes(tmp_path, arm_episodes(2), shards=1)
    (shard,) = folder.glob("*.tfrecord*")
    shard.write_bytes(b"damaged" + shard.read_bytes()[7:])
    assert run(folder, "--report", tmp_path / "report.html") == 2
    assert "none of 2 episodes can be read" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_report_of_a_truncated_file(tmp_path):
    folder = write_raw_episodes(tmp_path, arm_episodes(4), shards=1)
    (shard,) = folder.glob("*.tfrecord*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size * 2 // 3])
    before = contents(folder)
    assert run(folder, "--report", tmp_path / "r.html", "--fix", tmp_path / "fixed") == 1
    assert "2 of 4 episodes read" in (tmp_path / "r.html").read_text()
    assert run(tmp_path / "fixed/arm/1.0.0") == 0
    assert contents(folder) == before


def test_json_holds_every_finding(spoiled, tmp_path):
    run(spoiled, "--json", tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["counts"] == {"error": 5, "warning": 1, "note": 0}
    assert content["episodes"] == content["episodes_read"] == 10
    (damaged,) = [f for f in content["findings"] if f["kind"] == "undecodable"]
    assert (damaged["episode"], damaged["step"]) == (2, 20)
    assert damaged["file"] == "arm-train.tfrecord-00000-of-00002"


class _Page(html.parser.HTMLParser):
    """Collects ids, links and whatever a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.fetched, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.fetched += [v for k, v in values.items() if k in ("src", "xlink:href", "data")]
        self.fetched += [values["href"]] if tag == "link" else []


def test_the_page_is_one_file_with_every_dimension(spoiled, tmp_path):
    run(spoiled, "--report", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = _Page()
    page.feed(text)
    for field in ("action", "observation-state"):
        for index, name in enumerate(DIMS):
            assert f"plot-{field}-{index}" in page.ids
            assert f">{name}</text>" in text
    # Links stay in the page and lead somewhere; nothing is fetched.
    assert page.links
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert page.fetched
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.fetched)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "script" not in page.tags
    # The finding, its picture and its plot.
    assert "#pictures-image" in page.links
    assert "cannot be decoded" in text
    assert "#plot-action-0" in page.links
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_the_copy_is_clean_and_the_source_untouched(spoiled, tmp_path, capsys):
    before = contents(spoiled)
    assert run(spoiled, "--fix", tmp_path / "fixed", "--clip") == 1
    printed = capsys.readouterr().out
    assert contents(spoiled) == before
    for line in (
        "steps 4..",
        "episode 2: dropped (undecodable)",
        "episode 6: dropped (duplicate_episode)",
        "episode 7: dropped (one_step)",
        "flags set from the episodes' bounds: is_first",
        "7 of 10 episodes",
    ):
        assert line in printed
    assert "left as it is" not in printed
    fixed = tmp_path / "fixed/arm/1.0.0"
    assert run(fixed) == 0
    copied = list(open_dataset(fixed).episodes("train", decode_images=False))
    original = list(open_dataset(spoiled).episodes("train", decode_images=False))
    assert_same_episode(copied[2], original[3])  # untouched episodes are copied to the bit
    assert copied[1]["is_first"].tolist() == [True] + [False] * (len(copied[1]["action"]) - 1)
    np.testing.assert_array_equal(copied[1]["action"], original[1]["action"][4:])
    assert copied[-1]["action"].max() == 3.0
    assert open_dataset(fixed).specs == open_dataset(spoiled).specs


def test_without_clip_the_values_stay(spoiled, tmp_path, capsys):
    run(spoiled, "--fix", tmp_path / "fixed")
    assert "left as it is: action_range in action[joint_2], episode 9" in capsys.readouterr().out
    assert run(tmp_path / "fixed/arm/1.0.0") == 1


def test_a_foreign_dataset_is_copied_in_its_canonical_form(tmp_path):
    card = load_card("bridge_dataset")
    folder = write_raw_dataset(tmp_path / "raw", card, 3, 0)
    assert run(folder, "--fix", tmp_path / "fixed") == 0
    fixed = open_dataset(tmp_path / "fixed/bridge_dataset/1.0.0")
    assert fixed.specs == card.specs
    assert fixed.num_episodes("train") == 3
    assert run(fixed.path) == 0


def test_only_edges_are_cut_off():
    def spoiled_at(first, last):
        return [Finding("not_finite", "", 4, first, "action", last=last)]

    lengths = {4: 100}
    assert plan_repairs(spoiled_at(0, 19), lengths)[0] == Repair(4, 20, 100, ("not_finite",))
    assert plan_repairs(spoiled_at(80, 99), lengths)[0] == Repair(4, 0, 80, ("not_finite",))
    assert plan_repairs(spoiled_at(20, 20), lengths)[0].dropped
    assert plan_repairs(spoiled_at(3, 90), lengths)[0].dropped
    assert plan_repairs([Finding("jump", "", 4, 3)], lengths) == [Repair(4, 0, 100)]


def test_every_kind_tells_what_to_do():
    assert {kind.severity for kind in KINDS.values()} == {"error", "warning", "note"}
    assert all(kind.advice for kind in KINDS.values())
