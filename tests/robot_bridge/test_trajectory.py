"""Courses of actions: interpolation, limits, and what a source does with pauses and late ticks."""

import numpy as np
import pytest

from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.arm import action_spec

TICK = 100_000_000


def ramp(seconds=1.0, columns=7):
    """From 0 to 1 in every column."""
    times = np.array([0, seconds * 1e9], np.int64)
    return Trajectory(times, np.array([[0.0], [1.0]], np.float32).repeat(columns, 1), "ramp")


def played(source, times):
    """The first column at each time."""
    return [round(float(source.action(time).action[0]), 4) for time in times]


def test_actions_lie_on_the_line_and_the_ends_stay():
    at = ramp().at(np.array([-5, 0, TICK, 10 * TICK, 99 * TICK]))
    assert at.dtype == np.float32
    np.testing.assert_allclose(at[:, 3], [0, 0, 0.1, 1, 1], atol=1e-6)


def test_a_source_starts_with_its_first_question_and_ends_with_finished():
    source = TrajectorySource(ramp(), "ramp", "script")
    begin = 123 * TICK
    answers = [source.action(begin + i * TICK) for i in range(12)]
    np.testing.assert_allclose(
        [a.action[0] for a in answers], [min(i / 10, 1) for i in range(12)], atol=1e-6
    )
    assert [a.finished for a in answers] == [False] * 10 + [True] * 2
    source.reset()
    assert played(source, [7 * TICK]) == [0.0]
    assert source.health().ready
    assert source.health().queries == 1


def test_late_ticks_are_skipped_and_holds_stop_the_time():
    source = TrajectorySource(ramp(), "ramp", "script")
    assert played(source, [0, 3 * TICK]) == [0.0, 0.3]  # two ticks came late: no lag
    # A hold of a minute: the course goes on where it stopped.
    assert played(source, [600 * TICK, 601 * TICK]) == [0.3, 0.4]
    # A clock that runs backwards changes nothing.
    assert played(source, [500 * TICK, 602 * TICK]) == [0.4, 0.5]


def test_the_plan_is_the_course_ahead():
    source = TrajectorySource(ramp(), "ramp", "script")
    assert source.plan() is None
    source.action(5 * TICK)
    source.action(7 * TICK)
    plan = source.plan()
    assert plan.times_ns[0] == 7 * TICK
    np.testing.assert_allclose(plan.actions[:4, 0], [0.2, 0.3, 0.4, 0.5], atol=1e-6)


def test_slowing_stretches_the_time():
    assert ramp().slowed(0.5).seconds == 2.0
    for speed in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            ramp().slowed(speed)


@pytest.mark.parametrize(
    ("times", "actions", "message"),
    [
        ([0, 1], [[0.0]], "expected"),
        ([], np.zeros((0, 3)), "N > 0"),
        ([1, 2], [[0.0], [1.0]], "rise from 0"),
        ([0, 0], [[0.0], [1.0]], "rise from 0"),
        ([0, 1], [[0.0], [np.nan]], "action 1 is not finite"),
    ],
)
def test_broken_courses_are_refused(times, actions, message):
    with pytest.raises(ValueError, match=message):
        Trajectory(np.array(times, np.int64), np.array(actions, np.float32), "x.toml")


def test_limits_are_checked_before_anything_moves():
    spec = action_spec(True)
    low = np.array([spec.low, spec.high], np.float32)
    Trajectory(np.array([0, 1]), low, "x").check_limits(spec)
    low[1, 2] += 0.02
    with pytest.raises(ValueError, match=r"x: action 1 .*joint3 1\d\d\.\d deg is outside"):
        Trajectory(np.array([0, 1]), low, "x").check_limits(spec)
    with pytest.raises(ValueError, match=r"gripper 2\.000 is outside 0\.000"):
        Trajectory(np.array([0]), np.array([[0] * 6 + [2]], np.float32), "x").check_limits(spec)
    with pytest.raises(ValueError, match="actions of 6 numbers, the robot takes 7"):
        ramp(columns=6).check_limits(spec)
