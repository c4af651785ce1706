"""Rates by sub-goal and factor count the right episodes; failures are shown with their classes."""

import dataclasses
import json

import numpy as np
import pytest

from arp_jax.evaluation.breakdown import describe, factor_rates, sub_goal_rates
from arp_jax.evaluation.gallery import caption, contact_sheet, failed_rows
from arp_jax.evaluation.intervals import wilson
from arp_jax.evaluation.report import summarize, table, write_report
from tests.evaluation.test_report import make_results


@pytest.fixture
def results():
    base = make_results(8)
    return dataclasses.replace(
        base,
        max_reward=np.float32([0, 1, 2, 3, 3, 3, 1, 0]),
        success=np.array([0, 0, 0, 1, 1, 1, 0, 0], bool),
        sub_goals=("touched", "lifted", "placed"),
        classes={"side": np.int32([0, 0, 0, 0, 1, 1, 1, 1]), "color": np.int32([2] * 8)},
        class_names={"side": ("left", "right"), "color": ("red", "green", "blue")},
        best={**base.best, "diverged": np.float32([0, 0, 1, 0, 0, 0, 0, 0])},
    )


def test_sub_goals_count_the_episodes_that_reached_them(results):
    rates = sub_goal_rates(results)
    assert [(r.name, r.reward, r.rate.value) for r in rates] == [
        ("touched", 1, 6 / 8),
        ("lifted", 2, 4 / 8),
        ("placed", 3, 3 / 8),
    ]
    assert rates[1].rate == wilson(results.max_reward >= 2)


def test_factors_split_the_episodes(results):
    side, color = factor_rates(results)
    assert side.factor == "side"
    assert [(name, r.n, r.value) for name, r in side.rates] == [
        ("left", 4, 1 / 4),
        ("right", 4, 2 / 4),
    ]
    # A class that did not occur has no rate.
    assert [(name, r.n) for name, r in color.rates] == [("blue", 8)]


def test_a_task_without_stages_and_factors_has_none():
    plain = make_results()
    assert sub_goal_rates(plain) == ()
    assert factor_rates(plain) == ()
    assert describe((), ()) == ""


def test_report_and_table_show_them(results, tmp_path):
    summary = summarize("mine", results)
    printed = table([summary])
    assert "reward >= 2  lifted   n=8      50.0 %" in printed
    assert "right" in printed
    assert "diverged in 1 episodes" in printed
    write_report(tmp_path, {"mine": results}, {})
    page = (tmp_path / "report.html").read_text()
    for text in ("Sub-goals", "lifted", "Success by initial condition", "<td>blue</td>"):
        assert text in page
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["sub_goals"][2]["rate"] == pytest.approx(3 / 8)
    assert document["factors"]["side"]["right"]["n"] == 4
    assert document["diverged"] == 1


def test_failures_are_the_first_by_id_with_their_story(results):
    assert failed_rows(results, 3) == [0, 1, 2]
    assert failed_rows(results, 100) == [0, 1, 2, 6, 7]
    text = caption(results, 2)
    assert text.startswith("episode 2; 50 steps; max coverage ")
    assert text.endswith("reached: lifted; side: left; color: blue")
    assert "reached: no sub-goal" in caption(results, 0)


def test_contact_sheet_shows_the_first_and_the_last_frame():
    clips = [np.zeros((n, 20, 30, 3), np.uint8) for n in (1, 9)]
    clips[1][0], clips[1][-1] = 50, 250
    sheet = contact_sheet(clips, ["episode 0", "episode 1"])
    assert sheet.shape == (2 * 38, 5 * 32, 3)
    assert (sheet[16:36, :30] == 0).all()
    assert (sheet[54:74, :30] == 50).all()
    assert (sheet[54:74, 4 * 32 : 4 * 32 + 30] == 250).all()
    assert (sheet[:16] < 100).any()  # the caption is written
