"""What both drivers promise, on both lines: one transmission a call, and all oddities are None."""

import numpy as np
import pytest

from robot_bridge.emulator import Faults, Rule
from robot_bridge.robots import RobotError
from robot_bridge.wire.frames import Command
from tests.robot_bridge.wired_arm import (
    START,
    each_way,
    near,
    opened,
    strike,
    wait_until,
    wired_arm,
)

OTHER = START + 0.1


@pytest.fixture
def wired(kind):
    with wired_arm(kind) as arm:
        yield arm


@each_way("serial-wire", "tcp-wire", "serial-pymycobot", "tcp-pymycobot")
def test_everything_that_can_be_asked_and_told(wired, driver):
    with opened(wired, driver) as arm:
        assert near(arm.get_angles(), START)
        assert arm.get_gripper() == 1.0
        assert arm.is_powered() is True
        assert arm.get_error() == 0
        assert arm.clear_error()
        assert arm.versions() == {
            "robot_version": 3.2,
            "basic_version": 2.4,
            "atom_version": 6.6,
        }
        assert arm.set_fresh_mode(0)
        assert arm.get_fresh_mode() == 0
        # Its acknowledgement looks like an echo, which the server takes away.
        assert arm.set_fresh_mode(1) is (wired.kind == "serial")
        assert arm.get_fresh_mode() == 1
        assert arm.send_angles(OTHER, 50)
        assert arm.send_gripper(0.25, 40)
        assert arm.stop()
        assert arm.release()
        assert arm.focus()
        assert arm.set_power(False)
        assert arm.is_powered() is False
        assert arm.set_power(True)
        counters = arm.counters()
    assert counters["missed"] == (wired.kind == "tcp")
    assert counters.get("stale", 0) == counters.get("junk_bytes", 0) == 0
    frames = {frame.command: frame.data for frame in wired.frames()}
    assert frames[Command.SEND_ANGLES][12] == 50
    assert frames[Command.SET_GRIPPER] == bytes((25, 40, 1))
    np.testing.assert_allclose(wired.targets()[0], OTHER, atol=np.deg2rad(0.00501))


@pytest.mark.parametrize("bad", [[np.nan] * 6, [0.0] * 5, [4.0] + [0.0] * 5, [np.inf] + [0.0] * 5])
@each_way("serial-wire", "tcp-pymycobot")
def test_what_is_no_pose_never_becomes_a_frame(wired, driver, bad):
    with opened(wired, driver) as arm:
        with pytest.raises(ValueError, match="target"):
            arm.send_angles(np.array(bad), 30)
        with pytest.raises(ValueError, match="opening"):
            arm.send_gripper(bad[0] if np.isnan(bad[0]) else 1.5, 30)
        with pytest.raises(ValueError, match="speed"):
            arm.send_angles(START, 0)
        assert wired.count(Command.SEND_ANGLES) == wired.count(Command.SET_GRIPPER) == 0


@pytest.mark.parametrize("fault", ["drop_reply", "no_ack", "truncate"])
@each_way("serial-wire", "tcp-wire", "serial-pymycobot", "tcp-pymycobot")
def test_an_unanswered_motion_is_transmitted_once(wired, driver, fault):
    with opened(wired, driver) as arm:
        wired.arm.faults = strike(fault)
        assert not arm.send_angles(OTHER, 50)
        assert not arm.answered
        assert "SEND_ANGLES" in arm.trouble
        wired.arm.faults = Faults()
        assert arm.is_powered() is True
    assert wired.count(Command.SEND_ANGLES) == 1


@each_way("serial-wire")
def test_a_late_reply_is_not_the_answer_to_the_next_question(wired, driver):
    with opened(wired, driver) as arm:
        wired.arm.faults = Faults(late=Rule(times=1, commands={Command.GET_ANGLES}), late_s=0.4)
        assert arm.get_angles() is None
        wired.arm.faults = Faults()
        arm.send_angles(OTHER, 100)  # its acknowledgement waits behind the late reply
        wait_until(lambda: wired.at(OTHER), "the arm is there")
        for _ in range(4):  # the answer from before the motion is still under way, or was
            angles = arm.get_angles()
            assert angles is None or near(angles, OTHER)
        assert near(arm.get_angles(), OTHER)
        assert arm.get_error() == 0


@pytest.mark.parametrize("fault", ["truncate", "oversize", "drop_reply"])
@each_way("serial-wire", "tcp-wire")
def test_bad_replies_are_no_reading(wired, driver, fault):
    with opened(wired, driver) as arm:
        wired.arm.faults = strike(fault, Rule(times=1))
        assert arm.get_angles() is None
        assert near(arm.get_angles(), START)


@each_way("serial-wire", "serial-pymycobot")
def test_an_unreadable_gripper_is_no_reading(wired, driver):
    with opened(wired, driver) as arm:
        wired.arm.faults = Faults(gripper_unreadable=True)
        assert arm.get_gripper() is None
        assert arm.answered


@each_way("serial-wire", "tcp-wire")
def test_a_broken_line_is_told_and_opened_again(wired, driver):
    with opened(wired, driver) as arm:
        assert arm.is_powered()
        wired.port.disconnect()
        wait_until(lambda: arm.get_angles() is None and not arm.is_open, "it is noticed")
        assert arm.trouble.startswith(wired.url)
        with pytest.raises(RobotError, match=wired.url.split(":")[0]):
            arm.open()
        assert not arm.send_angles(OTHER, 50)
        wired.port.connect()
        arm.open()
        assert near(arm.get_angles(), START)
    assert wired.count(Command.SEND_ANGLES) == 0
