"""How far a joint may go in a tick, alone and in the safety filter; which limits are refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.arm import COMMAND_LIMITS, HOME, LIMITS
from robot_bridge.safety.safety_filter import Limits, SafetyFilter
from robot_bridge.safety.step_limits import brakable_step
from tests.robot_bridge.safety_loop import DEGREE, Loop, moved


@given(st.floats(0, 10), st.floats(1e-3, 1))
def test_the_longest_brakable_step_stops_exactly_there(distance, braking):
    step = float(brakable_step(np.array(distance), braking))
    way, steps = 0.0, step
    while steps > 0:
        way, steps = way + steps, steps - braking
    assert way == pytest.approx(distance, abs=1e-9 * (1 + step / braking))


@given(st.floats(-10, 0))
def test_where_no_room_is_left_nothing_is_brakable(distance):
    assert brakable_step(np.array([distance]), 0.1) == [0.0]


def test_the_defaults_are_those_of_the_requirements():
    limits = Limits()
    assert limits.speed * 0.1 == pytest.approx(6 * DEGREE)
    assert limits.jump == pytest.approx(30 * DEGREE)
    assert limits.high == COMMAND_LIMITS
    assert limits.table_z == 0
    assert limits.tool.capsules


@pytest.mark.parametrize("rate_hz", [10.0, 50.0])
def test_a_stream_within_the_limits_passes_unchanged(rate_hz):
    loop = Loop(rate_hz=rate_hz)
    rng, signs = np.random.default_rng(0), np.array([1, -1, 1, -1, 0, 1])
    jitter = 0.0
    for tick in range(int(4 * rate_hz)):
        seconds = tick / rate_hz
        # Up to 47 degrees/s and 120 degrees/s^2, beginning at rest.
        wish = np.array(HOME) + 18 * DEGREE * (1 - np.cos(2.6 * seconds)) * signs
        # Each tick is up to a tenth of a period off its time.
        last, jitter = jitter, rng.uniform(-0.1, 0.1)
        verdict = loop.tick(wish, after=1 + jitter - last)
        assert verdict.interventions == ()
        np.testing.assert_allclose(verdict.angles, wish, atol=1e-12)


@pytest.mark.parametrize("rate_hz", [10.0, 20.0, 50.0, 100.0])
def test_a_wish_that_jumps_is_reached_without_overshoot(rate_hz):
    loop, goal = Loop(rate_hz=rate_hz), moved(HOME, 1, 20)
    way = []
    for _ in range(int(1.0 * rate_hz)):
        loop.tick(goal)
        way.append(loop.target[0])
    assert (np.diff(way) >= -1e-12).all()
    assert way[-1] == pytest.approx(goal[0], abs=1e-9)
    assert np.diff(way).max() > 0.8 * 60 * DEGREE / rate_hz  # nor slower than it has to be


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rate_hz", [10.0, 50.0])
def test_it_brakes_before_a_joint_limit(rate_hz, sign):
    """Joint 6 runs into its limit at full speed: it gets there, and with no abrupt stop."""
    limit = COMMAND_LIMITS[5]
    way = [limit - 1.0]
    loop = Loop(np.array([*HOME[:5], sign * way[0]]), rate_hz=rate_hz)
    for _ in range(int(3 * rate_hz)):
        verdict = loop.tick(moved(loop.target, 6, 12 * sign))
        way.append(sign * loop.target[5])
    speeds = np.diff(way) * rate_hz
    assert max(way) <= limit + 1e-12
    assert way[-1] == pytest.approx(limit, abs=1e-6)
    assert speeds.max() > 0.9 * 60 * DEGREE
    assert np.abs(np.diff(speeds)).max() * rate_hz <= 300 * DEGREE + 1e-6
    assert "limit:joint6" in verdict.interventions


def test_what_was_changed_is_named():
    loop = Loop()
    assert loop.tick(moved(HOME, 2, -20)).interventions == ("speed:joint2",)
    assert loop.tick(loop.target, gripper=1.5).interventions[-2:] == (
        "limit:gripper",
        "speed:gripper",
    )
    loop = Loop()
    assert loop.tick(moved(HOME, 3, 5)).interventions == ("acceleration:joint3",)


def test_the_gripper_takes_a_second_to_open():
    loop = Loop()
    found = [loop.tick(HOME, gripper=1.0).gripper for _ in range(7)]
    np.testing.assert_allclose(found, [0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0])
    assert loop.tick(HOME, gripper=1.0).interventions == ()


@pytest.mark.parametrize(
    ("name", "value"),
    list(
        itertools.product(
            ["speed", "acceleration", "jump", "lag", "hold_s", "table_z", "table_distance"],
            [float("nan"), float("inf"), -2.0, 1e3],
        )
    ),
)
def test_limits_that_limit_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"safety {name}"):
        Limits(**{name: value})


def test_joint_limits_can_be_narrowed_but_not_widened():
    narrow = (1.0, *COMMAND_LIMITS[1:])
    loop = Loop(limits=Limits(high=narrow))
    for _ in range(40):
        loop.tick(moved(loop.target, 1, 10))
    assert loop.target[0] == pytest.approx(1.0)
    for wrong in (LIMITS, (float("nan"),) * 6, tuple(-limit for limit in COMMAND_LIMITS)):
        with pytest.raises(ValueError, match="safety limits of joint1"):
            Limits(high=wrong)
    with pytest.raises(ValueError, match=r"zip\(\)"):
        Limits(high=(1.0,) * 5)


@pytest.mark.parametrize("period", [0.0, -0.1, 0.6, float("nan"), float("inf")])
def test_periods_in_which_a_step_is_a_jump_are_refused(period):
    with pytest.raises(ValueError, match="safety: period"):
        SafetyFilter(Limits(), period)
