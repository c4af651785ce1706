"""The safety filter, case by case: faults and holds; `test_step_limits.py` has steps and limits.

`test_safety_properties.py` feeds it everything at once.
"""

import time

import numpy as np
import pytest

from robot_bridge.arm import COMMAND_LIMITS, HOME, HOME_DEGREES, LIMITS
from robot_bridge.robots import Reading
from robot_bridge.safety.clearance import Clearance
from robot_bridge.safety.safety_filter import Limits, SafetyError, SafetyFilter
from tests.robot_bridge.safety_loop import DEGREE, Loop, moved

PERIOD_NS = 100_000_000
DOWN = (0, 50, 40, 0, -90, 90)  # degrees; the fingers point down, 30 mm above the table


# --- faults ----------------------------------------------------------------------------------


BAD_WISHES = {
    "NaN": np.array([np.nan, *HOME[1:], 0.5]),
    "infinity": np.array([*HOME, np.inf]),
    "shape [6]": np.array(HOME),
    "shape [8]": np.zeros(8),
    "shape []": np.array(1.0),
    "shape [1, 7]": np.array([[*HOME, 0.5]]),
    "numbers": np.array(["up", *HOME], dtype=object),
    "joint4 30.5 degrees from the target": np.append(moved(HOME, 4, -30.5), 0.5),
    "jumps: joint5": np.array([*HOME_DEGREES, 0.5]),  # somebody forgot the radians
}


@pytest.mark.parametrize(("words", "wish"), BAD_WISHES.items(), ids=BAD_WISHES)
def test_wishes_that_are_faults(words, wish):
    loop = Loop()
    loop.tick(moved(HOME, 1, 1))
    before = loop.target
    fault = loop.filter.check(wish, loop.reading(), loop.now_ns + PERIOD_NS).fault
    assert fault is not None
    assert words in fault
    np.testing.assert_array_equal(loop.target, before)


def test_a_wish_that_flips_is_a_jump():
    loop = Loop()
    loop.tick(moved(HOME, 1, 16))
    fault = loop.tick(moved(HOME, 1, -16)).fault
    assert fault is not None
    assert "joint1 32.0 degrees from the last action" in fault


BAD_READINGS = {
    "power is off": {"powered": False},
    "joint3 is beyond its limit; reset clears it": {"error": 3},
    "finite": {"angles": np.array([np.nan, *HOME[1:]])},
    "6 finite angles": {"angles": np.array(HOME[:5])},
    "not finite": {"gripper": np.nan},
    "joint2 is 31.0 degrees from its target": {"angles": moved(HOME, 2, 31)},
}


@pytest.mark.parametrize(("words", "changes"), BAD_READINGS.items(), ids=BAD_READINGS)
def test_readings_that_are_faults(words, changes):
    verdict = Loop().tick(HOME, seen=changes)
    assert verdict.fault is not None
    assert words in verdict.fault


def test_a_fault_stays_until_a_start_from_where_the_arm_is():
    loop = Loop()
    fault = loop.tick(np.full(6, np.nan)).fault
    for _ in range(30):
        assert loop.tick(HOME).fault == fault
    loop.measured = moved(HOME, 1, 50)  # somebody moved it meanwhile
    loop.filter.start(loop.reading(), loop.now_ns)
    verdict = loop.tick(moved(loop.measured, 1, 20))
    assert verdict.fault is None
    assert np.abs(verdict.angles - moved(HOME, 1, 50)).max() <= 3 * DEGREE + 1e-9


def test_a_filter_that_was_not_started_says_so():
    safety = SafetyFilter(Limits(), 0.1)
    verdict = safety.check(np.zeros(7), Reading(0, np.zeros(6)), 0)
    assert "not started" in (verdict.fault or "")


BAD_STARTS = {
    "not answered": None,
    "3.0 s old": Reading(7 * 10**9, np.array(HOME)),
    "-2.0 s old": Reading(12 * 10**9, np.array(HOME)),
    "power is off": Reading(10**10, np.array(HOME), powered=False),
    "collision": Reading(10**10, np.array(HOME), error=16),
    "finite": Reading(10**10, np.full(6, np.inf)),
    "by hand": Reading(10**10, np.array([3.0, *HOME[1:]])),
}


@pytest.mark.parametrize(("words", "reading"), BAD_STARTS.items(), ids=BAD_STARTS)
def test_starts_that_are_refused(words, reading):
    loop = Loop()
    with pytest.raises(SafetyError, match=words):
        loop.filter.start(reading, 10**10)
    assert loop.tick(HOME).fault is not None  # and the old target is no longer good


# --- holds -----------------------------------------------------------------------------------


def test_an_early_tick_is_left_out_and_motion_goes_on():
    loop = Loop()
    for tick in range(1, 6):
        loop.tick(moved(HOME, 1, 4 * tick))
    assert loop.tick(moved(HOME, 1, 4 * 5.1), after=0.1).held
    verdict = loop.tick(moved(HOME, 1, 4 * 6), after=0.9)
    assert verdict.interventions == ()
    np.testing.assert_allclose(verdict.angles, moved(HOME, 1, 24))


def test_an_early_tick_a_standing_and_a_backward_clock_allow_no_step():
    loop = Loop()
    for after in (0.5, 0.0, -3.0, 0.2):
        loop.tick(moved(HOME, 1, 10))
        before = loop.target
        verdict = loop.tick(moved(HOME, 1, 10), after=after)
        assert verdict.interventions == ("held:early",)
        np.testing.assert_array_equal(loop.target, before)
        loop.tick(moved(HOME, 1, 10))


@pytest.mark.parametrize("after", [2.0, 3.0, 50.0])
def test_a_late_tick_earns_no_longer_step(after):
    loop = Loop()
    for _ in range(3):
        before = loop.tick(moved(loop.target, 1, 10)).angles
    verdict = loop.tick(moved(loop.target, 1, 25), after=after)
    longest = 6 * DEGREE if after < 2.5 else 3 * DEGREE  # the arm stands: from rest
    assert np.abs(verdict.angles - before).max() <= longest + 1e-9
    assert loop.tick(moved(loop.target, 1, 25), after=0.1).held


def test_without_a_reading_the_target_stays_and_then_is_a_fault():
    loop = Loop()
    wish = np.append(moved(HOME, 1, 2), 0.5)
    for tick in range(1, 11):
        loop.now_ns += PERIOD_NS
        verdict = loop.filter.check(wish, None, loop.now_ns)
        assert verdict.interventions == ("held:no_reading",)
        np.testing.assert_array_equal(verdict.angles, HOME)
        assert (verdict.fault is not None) == (tick == 10)


def test_a_blocked_arm_is_not_pulled_away_from():
    loop = Loop()
    loop.frozen = True
    for _ in range(100):
        verdict = loop.tick(moved(loop.target, 1, 5))
        assert np.abs(verdict.angles - HOME).max() <= 25 * DEGREE + 1e-9
        if verdict.fault is not None:
            break
    assert "no safe step for 10 ticks" in (verdict.fault or "")
    assert verdict.interventions == ("held:lag:joint1",)


def test_the_table_is_not_reached_and_can_be_left():
    loop = Loop(np.radians(DOWN))
    verdicts = [loop.tick(moved(loop.target, 2, 3)) for _ in range(8)]
    held = [verdict for verdict in verdicts if verdict.held]
    assert 2 <= len(held) < 8
    assert all(name.startswith("held:table:finger") for v in held for name in v.interventions)
    before = loop.target
    assert not loop.tick(moved(before, 2, -2)).held
    assert loop.target[1] < before[1]


def test_pushing_at_the_table_for_a_second_is_a_fault():
    loop = Loop(np.radians(DOWN))
    for _ in range(20):
        verdict = loop.tick(moved(loop.target, 2, 3))
        if verdict.fault:
            break
    assert "no safe step for 10 ticks, at last because of held:table" in (verdict.fault or "")


def test_an_arm_that_starts_too_close_may_only_leave():
    pose = moved(np.radians(DOWN), 2, 12)
    limits = Limits()
    judge = Clearance(limits.tool, limits.box, 0.0, 0.01, 0.01)
    assert judge.distances(pose[None])[0].min() < 0  # it lies on the table
    loop = Loop(pose)
    assert loop.tick(moved(pose, 2, 2)).held
    for _ in range(9):
        assert not loop.tick(moved(loop.target, 2, -2)).held
    assert (judge.distances(loop.target[None])[0] >= judge.required).all()
    # From then on it is like any other: there is no way back into the table.
    for _ in range(8):
        loop.tick(moved(loop.target, 2, 2))
    assert (judge.distances(loop.target[None])[0] >= judge.required - 1e-6).all()


def test_an_arm_that_is_pushed_into_the_table_is_not_followed():
    loop = Loop(np.radians(DOWN))
    while not loop.tick(moved(loop.target, 2, 1)).held:
        pass
    loop.measured, loop.frozen = moved(loop.target, 2, 4), True
    before = loop.target
    assert loop.tick(moved(before, 2, 2)).held
    np.testing.assert_array_equal(loop.target, before)


def test_a_joint_a_little_beyond_its_limit_may_only_come_back():
    beyond = (COMMAND_LIMITS[0] + LIMITS[0]) / 2
    loop = Loop(np.array([beyond, *HOME[1:]]))
    way = [beyond]
    for _ in range(5):
        loop.tick(moved(loop.target, 1, 5))
        way.append(loop.target[0])
    assert (np.diff(way) <= 0).all()
    assert way[-1] <= COMMAND_LIMITS[0] + 1e-9


def test_the_way_is_looked_at_not_only_the_target():
    """The tool swings through its lowest point: free at both ends, too low between them."""
    limits = Limits()
    judge = Clearance(limits.tool, limits.box, 0.0, 0.01, 0.01)

    table = [name.startswith("table") for name in judge.names]

    def room(pose):
        return float((judge.distances(pose[None])[0] - judge.required)[table].min())

    above = moved(np.radians(DOWN), 2, -30)
    middle = min((moved(above, 4, angle) for angle in range(0, 80)), key=room)
    while room(middle) > -0.002:
        middle = moved(moved(middle, 2, 0.2), 4, -0.2)
    here, there = moved(middle, 4, -12), moved(middle, 4, 12)
    assert min(room(here), room(there)) > 0
    loop = Loop(there)
    loop.measured, loop.frozen = here, True
    assert loop.tick(there).interventions[0].startswith("held:table:finger")
    loop.measured = there
    assert not loop.tick(there).held


def test_an_arm_without_gripper_takes_six_numbers():
    reading = Reading(10**9, np.array(HOME))
    safety = SafetyFilter(Limits(), 0.1, with_gripper=False)
    safety.start(reading, 10**9)
    verdict = safety.check(np.array(HOME), reading, 10**9)
    assert verdict.fault is None
    assert verdict.gripper is None
    assert "expected [6]" in (safety.check(np.zeros(7), reading, 2 * 10**9).fault or "")


def test_a_verdict_is_a_copy():
    loop = Loop()
    verdict = loop.tick(HOME)
    verdict.angles[:] = 9
    loop.target[:] = 9
    np.testing.assert_array_equal(loop.target, HOME)


def test_a_check_costs_little(capsys):
    loop, times = Loop(), []
    for tick in range(300):
        wish = moved(HOME, 1, 3 * np.sin(0.2 * tick))
        begin = time.perf_counter()
        loop.tick(wish)
        times.append(time.perf_counter() - begin)
    median = 1000 * float(np.median(times))
    with capsys.disabled():
        print(f"\nsafety check: median {median:.2f} ms", end=" ")
    assert median < 5  # 0.2 ms on a quiet machine
