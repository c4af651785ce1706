"""A person as the source: goals that are walked to slowly, and what a hand did."""

import numpy as np
import pytest

from robot_bridge.arm import HOME, action_spec
from robot_bridge.loop.manual import GRIPPER_SPEED, JOG_SPEED, HandGuided, Jogged
from robot_bridge.observations import Observation

PERIOD_NS = 50_000_000
START = np.array([*HOME, 1.0], np.float32)


def seen(state=START, time_ns=1):
    return Observation(time_ns, {"state": np.asarray(state, np.float32)})


@pytest.fixture
def jogged():
    made = Jogged(action_spec(True).dims, True)
    made.observe(seen())
    return made


def walk(source, count, start_ns=PERIOD_NS):
    return np.stack(
        [source.action(start_ns + number * PERIOD_NS).action for number in range(count)]
    )


def test_nobody_knows_before_the_first_observation():
    source = Jogged(action_spec(True).dims, True)
    source.jog("joint1", 0.1)
    source.open_gripper(0.0)
    assert source.action(PERIOD_NS) is None
    source.observe(seen())
    np.testing.assert_allclose(walk(source, 5), np.tile(START, (5, 1)), atol=1e-6)


def test_a_jog_is_walked_slowly_and_stops_there(jogged):
    walk(jogged, 1)
    jogged.jog("joint3", -0.1)
    jogged.open_gripper(0.5)
    way = walk(jogged, 60, start_ns=2 * PERIOD_NS)
    steps = np.abs(np.diff(way, axis=0, prepend=START[None]))
    assert steps[:, :6].max() <= JOG_SPEED * PERIOD_NS / 1e9 + 1e-6
    assert steps[:, 6].max() <= GRIPPER_SPEED * PERIOD_NS / 1e9 + 1e-6
    expected = START + np.array([0, 0, -0.1, 0, 0, 0, -0.5])
    np.testing.assert_allclose(way[-1], expected, atol=1e-6)
    np.testing.assert_allclose(way[-10], expected, atol=1e-6)


def test_a_held_button_does_not_wind_up(jogged):
    walk(jogged, 1)
    for _ in range(100):
        jogged.jog("joint1", 0.25)
    end = walk(jogged, 200, start_ns=2 * PERIOD_NS)[-1]
    assert end[0] - START[0] == pytest.approx(0.3, abs=1e-6)


def test_a_pause_is_not_made_up_for(jogged):
    walk(jogged, 1)
    jogged.jog("joint1", 0.25)
    first = jogged.action(10_000_000_000).action
    assert first[0] - START[0] <= JOG_SPEED * 0.2 + 1e-6


def test_reset_starts_from_the_next_observation(jogged):
    jogged.jog("joint1", 0.25)
    walk(jogged, 40)
    jogged.reset()
    assert jogged.action(PERIOD_NS) is None
    jogged.observe(seen(START + 0.5, time_ns=7))
    planned = jogged.action(PERIOD_NS)
    np.testing.assert_allclose(planned.action, START + 0.5, atol=1e-6)
    assert planned.observed_ns == 7


def test_a_hand_is_reported_as_it_moved():
    source = HandGuided()
    assert source.action(5) is None
    source.observe(seen(START + 0.1, time_ns=3))
    planned = source.action(5)
    np.testing.assert_allclose(planned.action, START + 0.1, atol=1e-6)
    assert planned.observed_ns == 3
    source.reset()
    assert source.action(5) is None
