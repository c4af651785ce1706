"""Statistics of sources: from the cache by content, as a table with flags."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from arp_jax.data import stats_cache
from arp_jax.data.pack import open_pack, pack_dataset
from arp_jax.data.stats import compute_stats
from arp_jax.data.stats_cache import SourceStats, merged_pack_stats, stats_for
from arp_jax.data.stats_report import flags, main, stats_table
from arp_jax.specs import ObservationSpec
from tests.data.rlds_folder import ACTION_SPEC, synthetic_episodes, write_folder

LENGTHS = [5, 1, 9, 4]
FIELDS = ("mean", "std", "min", "max", "q01", "q99")


def as_read(episodes):
    return [{"observation": {"agent_pos": e["agent_pos"]}, "action": e["action"]} for e in episodes]


def assert_same(found, expected, rtol=1e-6):
    assert set(found) == set(expected)
    for name, stats in expected.items():
        for field in FIELDS:
            np.testing.assert_allclose(getattr(found[name], field), getattr(stats, field), rtol)
        assert found[name].count == stats.count


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "toy" / "1.0.0", synthetic_episodes(LENGTHS))


def test_every_step_of_a_source_counts(folder, tmp_path):
    expected = compute_stats(as_read(synthetic_episodes(LENGTHS)))
    assert_same(stats_for(folder.parent).stats, expected)
    pack_dataset(folder, tmp_path / "pack", progress=False).close()
    found = stats_for(tmp_path / "pack")
    assert_same(found.stats, expected)
    assert_same(found.stats, open_pack(tmp_path / "pack").stats)
    part = compute_stats(as_read(synthetic_episodes(LENGTHS)[1:3]))
    assert_same(stats_for(folder, "train[1:3]").stats, part)


def test_one_planted_value_is_found_wherever_it_is(tmp_path):
    for index, (episode, step) in enumerate([(0, 0), (0, 4), (2, 8), (3, 3)]):
        episodes = synthetic_episodes(LENGTHS)
        episodes[episode]["action"][step, 1] = 600.0  # its limit is 512
        found = stats_for(write_folder(tmp_path / f"toy{index}", episodes))
        assert found.stats["action"].max[1] == 600.0
        assert found.outside["action"] == [0.0, 1 / 19]


def test_the_cache_is_keyed_by_content(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    made = stats_for(folder, cache_dir=cache)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        # Reading the episodes again would fail.
        patch.setattr(stats_cache, "running_stats", None)
        again = stats_for(folder, cache_dir=cache)
        with pytest.raises(TypeError):
            stats_for(folder, "train[1:]", cache_dir=cache)  # another content
    assert_same(again.stats, made.stats, rtol=0)
    assert again.outside == made.outside
    # What is damaged, or of another version, is made again; nothing half-written is ever there.
    good = kept.read_text()
    for bad in ("{", good.replace('"format_version": 2', '"format_version": 0'), "[]"):
        assert bad != good
        kept.write_text(bad)
        assert_same(stats_for(folder, cache_dir=cache).stats, made.stats, rtol=0)
        assert kept.read_text() == good
    assert list(cache.iterdir()) == [kept]
    # The same folder with other bytes.
    other = write_folder(tmp_path / "other", synthetic_episodes(LENGTHS, seed=1))
    assert stats_for(other, cache_dir=cache).stats["action"].mean[0] != made.stats["action"].mean[0]
    assert len(list(cache.iterdir())) == 2


def test_packs_merge_as_one(tmp_path):
    parts, packs = [synthetic_episodes([6, 3], seed=1), synthetic_episodes([11], seed=2)], []
    for index, episodes in enumerate(parts):
        source = write_folder(tmp_path / f"toy{index}", episodes)
        packs.append(pack_dataset(source, tmp_path / f"pack{index}", progress=False))
    merged = merged_pack_stats(packs, ["agent_pos", "action"], tmp_path / "cache")
    assert_same(merged, compute_stats(as_read(parts[0] + parts[1])), rtol=2e-6)


def test_command_prints_and_flags(tmp_path, capsys):
    episodes = synthetic_episodes([300, 200])
    for episode in episodes:
        episode["agent_pos"][:, 0] = 256.0
        episode["action"][:, 0] = 0.0
        episode["action"][7, 1] = 513.0
    episodes[0]["action"][3, 0] = 1.0  # closes once
    source = write_folder(tmp_path / "toy", episodes)
    arguments = [str(source), f"--cache={tmp_path / 'cache'}", f"--json={tmp_path / 'out.json'}"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if "[" in line}
    assert "500 steps" in out
    assert "near-constant (unit scale)" in lines["agent_pos[x]"]
    assert lines["action[x]"].rstrip().endswith("binary")
    assert "0.40%" in lines["action[y]"]
    assert "leaves its limits" in lines["action[y]"]
    assert "near-constant: agent_pos[x]\nbinary: action[x]\n" in out
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["outside"]["action"] == [0.0, 0.004]
    assert main([str(tmp_path)]) == 0  # the one dataset inside
    capsys.readouterr()
    assert main([str(tmp_path / "nowhere"), "--no_cache"]) == 2
    assert capsys.readouterr().err.startswith("error: '")


def test_a_dimension_that_explodes_is_flagged():
    rows = np.zeros((10_000, 1), np.float32)
    rows[5], rows[6] = 1.0, 0.5
    stats = compute_stats([{"observation": {}, "action": rows}])["action"]
    assert list(flags(stats, 0)) == ["standard: up to 89"]
    wide = dataclasses.replace(stats, max=np.float32([50.0]))
    assert "quantile: up to 50" in list(flags(wide, 0))


def test_a_wide_feature_is_one_row(capsys):
    vectors = np.random.default_rng(0).normal(size=(2, 70)).astype(np.float32)[[0, 1, 1, 0]]
    stats = compute_stats([{"observation": {"e": vectors}, "action": vectors[:, :2]}])
    found = SourceStats("somewhere", "train", ObservationSpec(), ACTION_SPEC, stats, {})
    Console(width=160).print(stats_table(found))
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line for line in lines if line.lstrip().startswith("e["))
    assert "e[70 dimensions]" in row
    assert row.rstrip().endswith("70 binary")
    assert sum("action[" in line for line in lines) == 2
