"""Shards of an evaluation are its episodes; put together they are the evaluation."""

import dataclasses
import json

import numpy as np
import pytest

from arp_jax import evaluate, merge_evaluations
from arp_jax.evaluation.episodes import load_results, merge_results
from arp_jax.evaluation.protocol import parse_shard
from arp_jax.evaluation.report import compare_all, write_report
from arp_jax.evaluation.rollout import Rollout, RolloutConfig
from tests.evaluation.test_report import make_results

N = 11


def run(env, controller, params, shard=(0, 1)):
    config = RolloutConfig(episodes=N, envs=4, max_steps=20, shard=shard)
    return Rollout(env, controller, config)(params)


@pytest.fixture(scope="module")
def whole(env, controller, params):
    return run(env, controller, params)


@pytest.fixture(scope="module")
def parts(env, controller, params):
    return [run(env, controller, params, (i, 3)) for i in range(3)]


def part_of(results, rows):
    """Some rows of results, as a shard would have them."""
    pick = {k: getattr(results, k)[rows] for k in ("episode", "seed", "initial", "length")}
    pick |= {k: getattr(results, k)[rows] for k in ("success", "max_reward")}
    best = {k: v[rows] for k, v in results.best.items()}
    final = {k: v[rows] for k, v in results.final.items()}
    return dataclasses.replace(results, **pick, best=best, final=final)


def test_a_shard_holds_its_episodes_of_the_whole(whole, parts):
    assert [p.episode.tolist() for p in parts] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    for part in parts:
        np.testing.assert_array_equal(part.initial, whole.initial[part.episode])
        np.testing.assert_array_equal(part.length, whole.length[part.episode])
        np.testing.assert_allclose(part.max_reward, whole.max_reward[part.episode], atol=1e-5)


def test_merged_shards_are_the_whole(whole, parts):
    merged = merge_results([parts[2], parts[0], parts[1]], N)
    np.testing.assert_array_equal(merged.episode, np.arange(N))
    np.testing.assert_array_equal(merged.length, whole.length)
    np.testing.assert_allclose(merged.score, whole.score, atol=1e-5)
    np.testing.assert_array_equal(merged.initial, whole.initial)
    assert merged.seconds == pytest.approx(sum(p.seconds for p in parts))


def test_double_and_missing_episodes_are_named(parts):
    with pytest.raises(ValueError, match="episode 1 is in two shards"):
        merge_results([parts[0], parts[1], parts[1]], N)
    with pytest.raises(ValueError, match="3 of 11 episodes are missing, the first is 2"):
        merge_results(parts[:2], N)
    with pytest.raises(ValueError, match="beyond the 10"):
        merge_results(parts, 10)
    with pytest.raises(ValueError, match="different metrics"):
        merge_results([parts[0], parts[1], dataclasses.replace(parts[2], best={})], N)


def test_shards_are_parsed_and_checked():
    assert parse_shard("2/5") == (2, 5)
    for wrong in ("2", "a/b", "1/2/3", "-1/2"):
        with pytest.raises(ValueError, match="not of the form i/n"):
            parse_shard(wrong)
    with pytest.raises(ValueError, match="--shard 3/3"):
        RolloutConfig(episodes=10, shard=(3, 3))
    with pytest.raises(ValueError, match="n <= 2 episodes"):
        RolloutConfig(episodes=2, shard=(0, 3))


def test_results_survive_a_file(tmp_path):
    results = dataclasses.replace(
        make_results(6),
        sub_goals=("touched", "lifted"),
        classes={"side": np.array([0, 1, 1, 0, 0, 1], np.int32)},
        class_names={"side": ("left", "right")},
    )
    results.save(tmp_path / "e.npz")
    loaded = load_results(tmp_path / "e.npz")
    assert loaded.sub_goals == results.sub_goals
    assert loaded.class_names == results.class_names
    assert loaded.success_metric == "coverage"
    np.testing.assert_array_equal(loaded.classes["side"], results.classes["side"])
    np.testing.assert_array_equal(loaded.best["coverage"], results.best["coverage"])
    np.testing.assert_array_equal(loaded.success, results.success)
    (tmp_path / "broken.npz").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"broken\.npz is no table of episodes"):
        load_results(tmp_path / "broken.npz")


PROTOCOL = {"episodes": 40, "seed": 3}


@pytest.fixture
def folders(tmp_path):
    """Two shards of a comparison of two controllers."""
    whole = {"a": make_results(), "b": make_results(shift=0.1)}
    for i in range(2):
        rows = np.arange(i, 40, 2)
        shard = {label: part_of(results, rows) for label, results in whole.items()}
        comparison = compare_all(shard)
        write_report(
            tmp_path / str(i), shard, {"seed": 3}, comparison=comparison, protocol=PROTOCOL
        )
    write_report(tmp_path / "whole", whole, {}, comparison=compare_all(whole), protocol=PROTOCOL)
    return tmp_path


def test_merge_command_writes_the_report_of_the_whole(folders, capsys):
    shards = [str(folders / "1"), str(folders / "0")]
    assert merge_evaluations.main([str(folders / "merged"), *shards]) == 0
    assert "b minus a, paired on 40 episodes" in capsys.readouterr().out
    merged, whole = (
        json.loads((folders / name / "summary.json").read_text()) for name in ("merged", "whole")
    )
    for key in ("n", "success", "success_interval", "max_coverage_mean", "comparison", "protocol"):
        assert merged[key] == whole[key]
    assert merged["beside"][0]["success"] == whole["beside"][0]["success"]


def test_two_finished_evaluations_are_compared(folders, capsys):
    second = folders / "second"
    write_report(second, {"a": make_results(shift=0.2)}, {}, protocol=PROTOCOL)
    assert evaluate.main(["--compare", str(folders / "whole"), str(second)]) == 0
    printed = capsys.readouterr().out
    assert "a (second) minus a (whole), paired on 40 episodes" in printed
    (second / "summary.json").write_text("{}")
    assert evaluate.main(["--compare", str(folders / "whole"), str(second)]) == 2
    assert "has no protocol" in capsys.readouterr().err


def test_merge_command_refuses_what_is_no_evaluation(folders, capsys):
    out, one, two = (str(folders / name) for name in ("merged", "0", "1"))
    assert merge_evaluations.main([out, one]) == 2
    assert "20 of 40 episodes are missing" in capsys.readouterr().err
    assert merge_evaluations.main([out, one, str(folders / "none")]) == 2
    assert "summary.json" in capsys.readouterr().err
    path = folders / "1" / "summary.json"
    other = json.loads(path.read_text())
    other["protocol"]["seed"] = 4
    path.write_text(json.dumps(other))
    assert merge_evaluations.main([out, one, two]) == 2
    error = capsys.readouterr().err
    assert "is of another evaluation: seed is 4, in the first shard 3" in error
    assert not (folders / "merged").exists()
