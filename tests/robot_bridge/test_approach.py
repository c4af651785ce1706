"""The approach with arms that follow, lag, stick and fall silent."""

import numpy as np
import pytest

from robot_bridge.arm import HOME, HOME_DEGREES
from robot_bridge.robots import Reading
from robot_bridge.safety.approach import Approach, ApproachLimits
from robot_bridge.safety.safety_filter import Limits, SafetyFilter

DEGREE = np.radians(1.0)
START = np.radians([30.0, 10.0, 20.0, 30.0, -60.0, 20.0])


class Arm:
    """Goes a share of the remaining way per tick; joints in `stuck` do not move."""

    def __init__(self, pose=START, share=0.5, stuck=()):
        self.angles, self.gripper, self.now_ns = np.array(pose, float), 0.2, 10**9
        self._share = np.full(6, share)
        self._share[list(stuck)] = 0.0

    @property
    def reading(self):
        return Reading(self.now_ns, self.angles.copy(), self.gripper)

    def follow(self, action, period_ns):
        self.angles = self.angles + self._share * (action[:6] - self.angles)
        self.now_ns += period_ns


def drive(arm, rate_hz=10.0, goal=HOME, gripper=1.0, seconds=30.0, limits=None, through=None):
    """Steps until it arrives, fails or time is up; returns all steps."""
    approach = Approach(arm.reading, goal, gripper, 1 / rate_hz, limits or ApproachLimits())
    steps = []
    for _ in range(int(seconds * rate_hz)):
        step = approach.step(arm.reading)
        steps.append(step)
        if step.arrived or step.failure:
            break
        arm.follow(through(step.action) if through else step.action, round(1e9 / rate_hz))
    return steps


@pytest.mark.parametrize("rate_hz", [10.0, 50.0])
def test_it_arrives_slowly_and_all_joints_together(rate_hz):
    arm = Arm(share=5 / rate_hz)
    steps = drive(arm, rate_hz)
    assert steps[-1].arrived
    assert all(step.failure is None for step in steps)
    np.testing.assert_allclose(steps[-1].action, [*HOME, 1.0], atol=1e-12)
    assert np.abs(arm.angles - HOME).max() <= 2 * DEGREE
    actions = np.array([[*START, 0.2]] + [step.action for step in steps])
    speeds = np.diff(actions, axis=0) * rate_hz
    assert np.abs(speeds[:, :6]).max() <= 20 * DEGREE + 1e-9
    assert np.abs(speeds[:, 6]).max() <= 0.5 + 1e-9
    assert np.abs(np.diff(speeds[:, :6], axis=0)).max() * rate_hz <= 40 * DEGREE + 1e-6
    shares = (actions - actions[0]) / (actions[-1] - actions[0])
    np.testing.assert_allclose(shares, shares[:, :1] * np.ones(7), atol=1e-9)
    progress = [step.progress for step in steps]
    assert (np.diff(progress) >= 0).all()
    assert progress[-1] == 1.0


def test_it_passes_the_safety_filter_unchanged():
    arm = Arm()
    safety = SafetyFilter(Limits(), 0.1)
    safety.start(arm.reading, arm.now_ns)
    interventions: list[str] = []

    def through(action):
        verdict = safety.check(action, arm.reading, arm.now_ns)
        interventions.extend(verdict.interventions)
        assert verdict.fault is None
        np.testing.assert_allclose(verdict.angles, action[:6], atol=1e-12)
        return action

    assert drive(arm, through=through)[-1].arrived
    assert interventions == []


def test_arrival_takes_measured_angles_for_the_whole_settling_time():
    arm = Arm(pose=HOME, share=1.0)
    approach = Approach(arm.reading, HOME, 0.2, 0.1, ApproachLimits(settle_s=0.3))
    seen = [approach.step(arm.reading).arrived for _ in range(2)]
    arm.angles = arm.angles + 3 * DEGREE  # somebody bumps into it
    seen.append(approach.step(arm.reading).arrived)
    arm.angles = np.array(HOME)
    seen += [approach.step(arm.reading).arrived for _ in range(3)]
    assert seen == [False, False, False, False, False, True]


def test_a_gripper_alone_is_moved_too():
    steps = drive(Arm(pose=HOME, share=1.0), gripper=1.0)
    openings = [step.action[6] for step in steps]
    assert steps[-1].arrived
    assert openings[-1] == pytest.approx(1.0)
    assert np.abs(np.diff([0.2, *openings])).max() <= 0.05 + 1e-9


def test_without_gripper_actions_have_six_numbers():
    steps = drive(Arm(), gripper=None)
    assert steps[-1].arrived
    assert steps[-1].action.shape == (6,)


def test_the_target_waits_for_an_arm_that_is_stuck_and_then_says_which_joint():
    arm = Arm(stuck=[4])
    steps = drive(arm)
    assert steps[-1].failure is not None
    assert "joint5 does not follow the approach" in steps[-1].failure
    actions = np.array([step.action for step in steps])
    assert np.abs(actions[:, 4] - START[4]).max() < 15 * DEGREE
    assert not any(step.arrived for step in steps)


def test_an_arm_that_stops_short_has_not_arrived():
    near = np.array(HOME) - 5 * DEGREE * np.eye(6)[2]
    steps = drive(Arm(pose=near, share=1.0, stuck=[2]))
    assert steps[-1].failure is not None
    assert "joint3 stopped short of the start pose by 5.0 degrees" in steps[-1].failure


@pytest.mark.parametrize("angles", [None, np.full(6, np.nan)], ids=["silent", "NaN"])
def test_an_arm_that_falls_silent_is_a_failure(angles):
    arm = Arm()
    approach = Approach(arm.reading, HOME, 1.0, 0.1, ApproachLimits(timeout_s=2.0))
    before = approach.step(arm.reading)
    reading = None if angles is None else Reading(arm.now_ns, angles)
    steps = [approach.step(reading) for _ in range(20)]
    for step in steps:
        np.testing.assert_array_equal(step.action, before.action)
    assert [step.failure is None for step in steps] == [True] * 19 + [False]
    assert ("did not answer" in (steps[-1].failure or "")) == (angles is None)


def test_waiting_now_and_then_is_no_failure():
    arm = Arm(share=1.0)
    approach = Approach(arm.reading, HOME, 1.0, 0.1, ApproachLimits())
    for tick in range(200):
        step = approach.step(None if tick % 3 == 0 else arm.reading)
        if step.arrived:
            break
        assert step.failure is None
        arm.follow(step.action, 10**8)
    assert step.progress == 1.0


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (HOME_DEGREES, "joint1 at -175.9 degrees is beyond"),
        (HOME[:5], "need 6 finite angles"),
        ((*HOME[:5], np.nan), "need 6 finite angles"),
    ],
)
def test_goals_that_are_no_pose_are_refused(goal, words):
    with pytest.raises(ValueError, match=words):
        Approach(Arm().reading, goal, 1.0, 0.1, ApproachLimits())


@pytest.mark.parametrize("name", ["speed", "tolerance", "timeout_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e3, np.nan, np.inf])
def test_limits_that_limit_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"approach {name}"):
        ApproachLimits(**{name: value})
