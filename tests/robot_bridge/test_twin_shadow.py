"""A twin beside the arm: silent while the arm does as simulated, loud when it does not."""

import dataclasses
import math
import time
from contextlib import closing

import numpy as np
import pytest

from robot_bridge.arm import HOME, HOME_DEGREES
from robot_bridge.commands.assembly import make_robot
from robot_bridge.emulator import Emulator, EmulatorConfig, PtyPort
from robot_bridge.robots import RobotError
from robot_bridge.settings.config import Config, RobotSection
from robot_bridge.twin.twin_robot import TwinRobot
from robot_bridge.twin.twin_shadow import ShadowedRobot, ShadowLimits

TICK_NS = 100_000_000


class Arm(TwinRobot):
    """Stands for the real arm: another twin, with a joint that can be blocked, and late readings.

    Args:
        clock: of one element, ns.
        late_ns: readings are so old.
    """

    def __init__(self, clock, late_ns=0, slow=1.0):
        self.clock, self.blocked, self.pushed = clock, None, np.zeros(6)
        self._late_ns, self._slow, self._slowed = late_ns, slow, np.array(HOME)
        self._readings = []
        super().__init__(real_time=False, now_ns=lambda: clock[0])

    def read(self):
        self.advance(self.clock[0])
        reading = super().read()
        if reading is None:
            return None
        angles = reading.angles + self.pushed
        if self.blocked is not None:
            angles = np.where(self.blocked, np.array(HOME), angles)
        self._readings.append(dataclasses.replace(reading, angles=angles))
        known = [r for r in self._readings if r.time_ns <= self.clock[0] - self._late_ns]
        return (known or self._readings)[-1]

    def write(self, angles, gripper):
        """A slow arm's own targets trail behind."""
        self._slowed = self._slowed + self._slow * (angles - self._slowed)
        super().write(self._slowed, gripper)


@pytest.fixture
def stage():
    """Makes an arm with its shadow; closes it."""
    opened = []

    def make(limits=None, **options):
        clock = [10**9]
        arm = Arm(clock, **options)
        twin = TwinRobot(real_time=False, now_ns=lambda: clock[0])
        shadowed = ShadowedRobot(arm, twin, limits, now_ns=lambda: clock[0])
        opened.append(closing(shadowed))
        shadowed.connect()
        return arm, shadowed

    yield make
    for shadowed in opened:
        with shadowed:
            pass


def drive(arm, shadowed, ticks, start=0):
    """A wave of 20 degrees, as the control loop would command it."""
    for tick in range(start, start + ticks):
        shadowed.read()
        wave = math.radians(20.0) * (1 - math.cos(0.25 * tick)) * np.array([1, -1, 1, 1, 1, 1])
        shadowed.write(np.array(HOME) + 0.5 * wave, 1.0)
        arm.clock[0] += TICK_NS


@pytest.mark.parametrize("options", [{}, {"late_ns": 60_000_000}, {"slow": 0.6}])
def test_an_arm_that_follows_is_left_alone(stage, options):
    arm, shadowed = stage(**options)
    drive(arm, shadowed, 80)
    assert shadowed.largest < math.radians(5.0)
    assert shadowed.health().last_error == ""


def test_a_blocked_joint_ends_the_motion_until_the_next_hold(stage):
    arm, shadowed = stage()
    drive(arm, shadowed, 20)
    arm.blocked = np.arange(6) == 1
    with pytest.raises(RobotError, match=r"joint2 is 1\d\.\d degrees from where its twin"):
        drive(arm, shadowed, 60, start=20)
    assert "joint2" in shadowed.health().last_error
    with pytest.raises(RobotError, match="joint2"):
        shadowed.write(np.array(HOME), None)
    writes = arm.health().writes
    with pytest.raises(RobotError, match="joint2"):
        shadowed.write(np.array(HOME), None)
    assert arm.health().writes == writes  # nothing reached the arm
    shadowed.hold()
    assert shadowed.health().last_error == ""
    arm.blocked = None
    shadowed.write(np.array(HOME), None)


def test_a_push_is_noticed_but_not_a_wrong_reading_or_two(stage):
    arm, shadowed = stage()
    drive(arm, shadowed, 20)
    arm.pushed = np.array([0, 0, 0, 0.5, 0, 0])
    drive(arm, shadowed, 2, start=20)
    arm.pushed = np.zeros(6)
    drive(arm, shadowed, 20, start=22)
    arm.pushed = np.array([0, 0, 0, -0.5, 0, 0])
    with pytest.raises(RobotError, match="joint4"):
        drive(arm, shadowed, 10, start=42)


def test_it_begins_anew_where_the_arm_is(stage):
    """Moved by hand during a hold, or while it was free: no reason to complain afterwards."""
    arm, shadowed = stage()
    drive(arm, shadowed, 10)
    shadowed.hold()
    shadowed.set_free(True)
    arm.push(np.array(HOME) + 0.4)
    arm.clock[0] += 30 * TICK_NS
    shadowed.read()
    shadowed.set_free(False)
    for _ in range(20):
        shadowed.read()
        shadowed.write(np.array(HOME) + 0.4, 1.0)
        arm.clock[0] += TICK_NS
    assert shadowed.largest < math.radians(2.0)


def test_it_is_the_arm_to_the_bridge(stage):
    arm, shadowed = stage()
    assert shadowed.name == arm.name
    assert shadowed.connect()["shadow"] == "mycobot320-twin"
    drive(arm, shadowed, 5)
    assert shadowed.health().writes == 5
    arm.write(np.full(6, 3.1), None)
    arm.clock[0] += TICK_NS
    assert shadowed.read().error
    shadowed.clear_error()
    assert not shadowed.read().error
    shadowed.set_power(False)
    assert not shadowed.read().powered
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        ShadowLimits(tolerance=0.0)


@pytest.mark.slow
def test_an_emulated_arm_and_its_shadow_part_when_it_is_stopped():
    """In real time over the wire, as configured; the emulator's arm has a lag of its own."""
    emulator = Emulator(EmulatorConfig(degrees=HOME_DEGREES))
    with PtyPort(emulator) as port:
        settings = RobotSection(url=f"serial:{port.path}", shadow_rad=math.radians(12.0))
        with closing(make_robot(Config(robot=settings))) as shadowed:
            assert isinstance(shadowed, ShadowedRobot)
            shadowed.connect()
            deadline = time.monotonic() + 30
            while shadowed.read() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            drive_live(shadowed, 40)
            assert shadowed.health().last_error == ""
            assert shadowed.health().writes > 0
            print(f"largest deviation {math.degrees(shadowed.largest):.2f} degrees")
            emulator.set_power(False)
            with pytest.raises(RobotError, match="from where its twin"):
                drive_live(shadowed, 60)


def drive_live(shadowed, ticks):
    for tick in range(ticks):
        shadowed.read()
        wave = math.radians(25.0) * (1 - math.cos(0.2 * tick))
        shadowed.write(np.array(HOME) + wave, 1.0)
        time.sleep(0.1)
