"""The owner of the wire against the emulated arm: what reaches the arm, and how soon."""

import time

import numpy as np
import pytest

from robot_bridge.emulator import Faults, Rule, audit
from robot_bridge.robots import RobotError
from robot_bridge.wire.frames import Command
from robot_bridge.wire.mycobot_config import MyCobotConfig
from robot_bridge.wire.wire_schedule import Pace
from tests.robot_bridge.robot_run import MOTION, session
from tests.robot_bridge.wired_arm import START, each_way, strike, wait_until


def test_angles_are_not_read_more_often_than_allowed():
    with session(config=MyCobotConfig(pace=Pace(angles_hz=20))) as run:
        began, before = time.monotonic(), run.wired.count(Command.GET_ANGLES)
        time.sleep(1.0)
        reads = run.wired.count(Command.GET_ANGLES) - before
        assert 5 <= reads <= 20 * (time.monotonic() - began) + 1


@each_way("serial-wire")
def test_an_unacknowledged_stream_is_never_repeated(kind, driver):
    with session(kind, driver) as run:
        run.arm.faults = strike("no_ack", Rule(commands=MOTION))
        run.stream(1.0, opening=0.5)
        health = run.robot.health()
        assert health.unanswered >= 2
        assert len(run.wired.targets()) - health.writes in (0, 1)  # one may be waiting
        run.arm.faults = Faults()
        run.assert_safe()


@each_way("serial-wire")
def test_hold_goes_before_what_waits(kind, driver):
    with session(kind, driver) as run:
        run.stream(0.3)
        far = START + 0.15
        run.robot.write(far, None)
        wait_until(lambda: run.arm.state().moving, "the arm moves")
        run.arm.faults = strike("drop_reply", Rule(commands={Command.GET_ANGLES}))
        time.sleep(0.1)  # the owner waits for a reply that will not come
        run.robot.write(START, 0.0)
        began = time.monotonic()
        run.robot.hold()
        assert time.monotonic() - began < 0.5  # it does not wait itself
        wait_until(lambda: run.wired.count(Command.STOP) >= 2, "the stop arrives")
        print(f"{kind} {driver}: stop on the wire after {time.monotonic() - began:.3f} s")
        stopped = [e for e in run.arm.journal.entries() if e.command == Command.STOP][-1].time_ns
        run.arm.faults = Faults()
        time.sleep(0.7)
        assert run.motions_since(stopped) == []
        assert not run.arm.state().moving
        run.robot.write(run.reading.angles, None)
        wait_until(lambda: run.motions_since(stopped), "targets after the hold go out")


@pytest.mark.slow
def test_an_arm_that_never_acknowledges_a_stop_can_be_used_again():
    # Older servers of the vendor hand on no acknowledgement at all.
    with session() as run:
        run.stream(0.2)
        run.arm.faults = strike("no_ack", Rule(commands={Command.STOP}))
        run.robot.hold()
        wait_until(lambda: run.wired.count(Command.STOP) >= 4, "stops are repeated")
        time.sleep(0.5)
        before = run.wired.count(Command.SEND_ANGLES)
        run.robot.write(START, None)
        wait_until(lambda: run.wired.count(Command.SEND_ANGLES) > before, "it goes on")
        assert run.wired.count(Command.STOP) <= 8


@pytest.mark.parametrize(
    "fault",
    [
        Faults(gripper_unreadable=True),
        pytest.param(Faults(gripper_stale=True), marks=pytest.mark.slow),
    ],
)
def test_a_gripper_that_does_not_tell_is_reported_as_commanded(fault):
    with session() as run:
        run.arm.faults = fault
        time.sleep(0.3)
        run.stream(0.5, opening=0.2)
        wait_until(lambda: not run.reading.gripper_measured, "it is not believed", 5)
        assert run.reading.gripper == 0.2
        run.arm.faults = Faults()
        wait_until(lambda: run.reading.gripper_measured, "it is believed again", 5)


@each_way("tcp-wire")
def test_no_gripper_command_is_lost_beside_arm_commands(kind, driver):
    with session(kind, driver) as run:
        run.arm.faults = Faults(gripper_deaf_s=0.05)
        for tick in range(40):  # 50 Hz
            run.robot.write(START, 1.0 - tick / 100)
            time.sleep(0.02)
        # The commands that were heard are those that count; the last one among them.
        wait_until(lambda: run.arm.state().gripper == 61.0, "the gripper arrives")
        run.arm.faults = Faults()
        assert [v for v in audit(run.arm.journal.entries()) if v.rule == "gap"] == []


@each_way("serial-wire")
def test_free_joints_take_no_targets(kind, driver):
    with session(kind, driver) as run:
        run.robot.set_free(True)
        with pytest.raises(RobotError, match="free"):
            run.robot.write(START, None)
        moved = START + 0.2
        run.arm.push(np.rad2deg(moved).tolist())
        wait_until(lambda: np.allclose(run.reading.angles, moved, atol=1e-3), "it is seen")
        run.robot.set_free(False)
        assert run.wired.at(moved)
        run.robot.write(moved, None)
        wait_until(lambda: run.wired.targets(), "targets go out again")
        run.assert_safe()


def test_joints_whose_grip_is_not_sure_take_no_targets():
    with session() as run:
        run.robot.set_free(True)
        run.arm.faults = strike("no_ack", Rule(commands={Command.FOCUS_SERVO}))
        with pytest.raises(RobotError, match="gripped"):
            run.robot.set_free(False)
        with pytest.raises(RobotError, match="free"):
            run.robot.write(START, None)


def test_what_is_no_target_is_refused():
    with session(config=MyCobotConfig(with_gripper=False)) as run:
        for bad in ([np.nan] * 6, [0.0] * 5, [3.5] + [0.0] * 5):
            with pytest.raises(ValueError, match="target"):
                run.robot.write(np.array(bad), None)
        with pytest.raises(ValueError, match="gripper"):
            run.robot.write(START, 0.5)
        assert not run.reading.gripper_measured
    with session() as run:
        with pytest.raises(ValueError, match="opening"):
            run.robot.write(START, float("nan"))
        run.robot.close()
        with pytest.raises(RobotError, match="not connected"):
            run.robot.write(START, None)
        run.robot.hold()  # harmless
        assert run.motions_since(0) == []


@each_way()
def test_any_fault_of_the_line_ends_in_readings_again(kind, driver):
    faults = ("drop_reply", "late", "truncate", "oversize", "fragment", "noise")
    with session(kind, driver) as run:
        for fault in faults:
            run.arm.faults = strike(fault, Rule(share=0.3))
            run.stream(0.4)
        run.arm.faults = Faults()
        reads = run.robot.health().reads
        wait_until(lambda: run.robot.health().reads > reads + 3, "readings come again")
        run.assert_safe()
