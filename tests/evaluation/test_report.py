"""The report says what the episodes say, and a video shows what was recorded."""

import dataclasses
import json

import numpy as np
import pytest

from arp_jax.evaluation.episodes import EpisodeResults, representative_episodes
from arp_jax.evaluation.report import compare, summarize, table, write_report
from arp_jax.evaluation.video import grid_frames, read_video, write_video


def make_results(count=40, seed=0, shift=0.0) -> EpisodeResults:
    score = np.clip(np.random.default_rng(seed).random(count) + shift, 0, 1).astype(np.float32)
    return EpisodeResults(
        episode=np.arange(count),
        seed=np.full(count, 3),
        initial=np.arange(count, dtype=np.float32)[:, None],
        length=np.full(count, 50, np.int32),
        success=score > 0.7,
        max_reward=np.minimum(score / 0.95, 1),
        best={"coverage": score},
        final={"coverage": score / 2},
        success_metric="coverage",
        trajectory=None,
        seconds=2.0,
        compile_seconds=1.0,
    )


def test_summary_holds_the_numbers_of_the_episodes():
    results = make_results()
    summary = summarize("mine", results).to_json()
    assert summary["n"] == 40
    assert summary["success"] == pytest.approx(results.success.mean())
    assert summary["max_coverage_mean"] == pytest.approx(results.score.mean())
    low, high = summary["max_coverage_interval"]
    assert low < results.score.mean() < high
    assert summary["steps_per_second"] == pytest.approx(40 * 50 / 2.0)
    assert f"{results.score.mean():.3f} [" in table([summarize("mine", results)])


def test_report_is_one_self_contained_page(tmp_path):
    clips = [np.full((5, 16, 16, 3), 90, np.uint8)]
    write_video(tmp_path / "v.mp4", grid_frames(clips, [True]), fps=10)
    results = {"a <run>": make_results(), "b": make_results(seed=0, shift=0.1)}
    comparison = compare(("a <run>", "b"), *results.values())
    write_report(tmp_path, results, {"seed": 3}, comparison=comparison, video=tmp_path / "v.mp4")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in page
    assert "data:video/mp4;base64," in page
    assert "a &lt;run&gt;" in page  # labels are escaped
    assert "http://" not in page
    assert "https://" not in page
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["label"] == "a <run>"
    assert document["beside"][0]["label"] == "b"
    assert document["comparison"]["score"]["difference"]["value"] > 0
    assert {p.name for p in tmp_path.glob("episodes_*.npz")} == {
        "episodes_a__run_.npz",
        "episodes_b.npz",
    }


def test_comparison_needs_the_same_initial_states():
    first, second = make_results(), make_results(seed=1)
    paired = compare(("a", "b"), first, second)
    assert "b minus a, paired on 40 episodes" in paired.describe()
    moved = dataclasses.replace(second, initial=second.initial + 1)
    with pytest.raises(ValueError, match="same initial states"):
        compare(("a", "b"), first, moved)
    # One environment is drawn from an evaluation seed, the other from seeds of its own.
    reseeded = dataclasses.replace(second, seed=second.seed + 1)
    assert compare(("a", "b"), first, reseeded).score == paired.score
    hidden = [dataclasses.replace(r, initial=np.zeros((40, 0))) for r in (first, reseeded)]
    with pytest.raises(ValueError, match="same initial states"):
        compare(("a", "b"), *hidden)


def test_a_score_that_is_the_reward_has_one_column():
    reward = make_results().max_reward
    results = dataclasses.replace(make_results(), best={"reward": reward}, success_metric="reward")
    assert table([summarize("mine", results)]).count("max reward") == 1
    assert "max coverage" in table([summarize("mine", make_results())])


def test_episodes_must_be_counted_once():
    results = make_results(4)
    with pytest.raises(ValueError, match="each exactly once"):
        dataclasses.replace(results, episode=np.array([0, 1, 1, 3]))


def test_representative_episodes_show_both_kinds():
    results = make_results()
    chosen = representative_episodes(results, 6)
    assert results.success[chosen].tolist() == [True] * 3 + [False] * 3
    assert chosen[0] == int(results.score.argmax())
    assert chosen[-1] == int(results.score.argmin())
    nothing_solved = dataclasses.replace(results, success=np.zeros(40, bool))
    assert len(representative_episodes(nothing_solved, 6)) == 6
    assert len(representative_episodes(results, 100)) == 40


def test_grid_holds_last_frames_and_frames_by_outcome(tmp_path):
    clips = [np.full((3, 20, 30, 3), 10, np.uint8), np.full((7, 20, 30, 3), 200, np.uint8)]
    clips[0][2] = 77
    grid = grid_frames(clips, [True, False])
    assert grid.shape[0] == 7
    assert grid.shape[1] % 16 == grid.shape[2] % 16 == 0
    assert (grid[6, 3:23, 3:33] == 77).all()  # the short clip holds its last frame
    assert tuple(grid[0, 0, 0]) == (46, 160, 67)
    assert tuple(grid[0, 0, 36]) == (207, 34, 46)
    write_video(tmp_path / "grid.mp4", grid, fps=10)
    film = read_video(tmp_path / "grid.mp4")
    assert film.shape == grid.shape
    assert np.abs(film[6, 8:18, 8:28].astype(int) - 77).mean() < 6
    assert np.abs(film[0, 8:18, 44:64].astype(int) - 200).mean() < 6


def test_clips_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        grid_frames([np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 9, 3), np.uint8)], [1, 1])
