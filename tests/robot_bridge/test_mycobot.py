"""The owner of the wire against the emulated arm: what reaches the arm, and what is told of it."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from robot_bridge.emulator import AuditLimits, Faults, Rule, audit, core
from robot_bridge.frames import Command
from robot_bridge.mycobot import MyCobot
from robot_bridge.mycobot_config import MyCobotConfig
from robot_bridge.ports import arm_driver
from robot_bridge.robots import Reading, RobotError
from robot_bridge.wire_schedule import Pace
from tests.robot_bridge.wired_arm import (
    START,
    WiredArm,
    each_way,
    strike,
    wait_until,
    wired_arm,
)

MOTION = {Command.SEND_ANGLES, Command.SET_GRIPPER}


class Session:
    """A wired arm and its robot."""

    def __init__(self, wired: WiredArm, robot: MyCobot) -> None:
        self.wired, self.arm, self.robot = wired, wired.arm, robot
        self.wished = 0

    @property
    def reading(self) -> Reading:
        reading = self.robot.read()
        assert reading is not None
        return reading

    def stream(self, seconds: float, joint: int = 0, opening: float | None = None) -> None:
        """Targets at 10 Hz, each its own, 1 degree a step away from the start."""
        for _ in range(int(10 * seconds)):
            self.wished += 1
            target = START.copy()
            target[joint] += np.deg2rad(1.0) * min(self.wished, 9)
            target[5] += np.deg2rad(0.02) * self.wished  # makes it unique
            self.robot.write(target, opening)
            time.sleep(0.1)

    def assert_safe(self) -> None:
        """Nothing unsafe, and nothing twice."""
        assert audit(self.arm.journal.entries(), AuditLimits()) == []
        targets = [tuple(target) for target in self.wired.targets()]
        assert len(set(targets)) == len(targets)

    def motions_since(self, time_ns: int) -> list[int]:
        entries = self.arm.journal.entries(time_ns)
        return [entry.command for entry in entries if entry.command in MOTION]

    def last(self, event: str) -> int:
        """When the event happened last."""
        return [e for e in self.arm.journal.entries() if e.event == event][-1].time_ns


@contextlib.contextmanager
def session(
    kind: str = "serial",
    driver: str = "wire",
    config: MyCobotConfig | None = None,
    connect: bool = True,
    powered: bool = True,
) -> Iterator[Session]:
    if driver == "pymycobot":
        pytest.importorskip("pymycobot")
    threads = threading.active_count()
    with wired_arm(kind, powered=powered, newest_only=False) as wired:
        robot = MyCobot(arm_driver(wired.url, driver), config)
        try:
            if connect:
                robot.connect()
            yield Session(wired, robot)
        finally:
            robot.close()
    assert threading.active_count() == threads


@each_way("serial-wire", "tcp-pymycobot")
def test_a_run(kind, driver):
    with session(kind, driver, connect=False) as run:
        identity = run.robot.connect()
        assert identity["port"] == run.wired.url
        assert (identity["fresh_mode"], identity["atom_version"]) == (1, 6.6)
        assert run.arm.state().newest_only  # it was not before
        assert run.motions_since(0) == []
        np.testing.assert_allclose(run.reading.angles, START, atol=1e-3)
        run.stream(0.8, opening=0.3)
        goal = run.wired.targets()[-1]
        wait_until(lambda: np.allclose(run.reading.angles, goal, atol=0.005), "arm at its target")
        wait_until(lambda: run.reading.gripper == 0.3, "gripper at its target")
        assert run.reading.gripper_measured
        assert run.reading.powered
        health = run.robot.health()
        assert health.writes + health.superseded + health.expired == 8
        assert health.writes >= 4
        assert health.reads > 10
        run.robot.close()
        last = run.arm.journal.entries()[-1]
        assert last.command == Command.STOP
        run.assert_safe()


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


@each_way("serial-wire")
def test_what_was_wished_before_a_loss_is_never_sent(kind, driver):
    with session(kind, driver) as run:
        run.stream(0.5)
        run.wired.port.disconnect()
        wait_until(lambda: not run.robot.health().connected, "the loss is noticed")
        assert run.robot.health().last_error
        run.robot.write(START + 0.1, 0.0)
        run.wired.port.connect()
        back = run.last("connected")
        wait_until(lambda: run.robot.health().connected, "it is found again")
        assert run.robot.health().reconnects == 1
        time.sleep(0.6)
        assert run.motions_since(back) == []
        commands = [e.command for e in run.arm.journal.entries(back) if e.frame is not None]
        assert commands[0] == Command.STOP
        assert {Command.SET_FRESH_MODE, Command.GET_FRESH_MODE} <= set(commands)
        run.robot.write(START, None)
        wait_until(lambda: run.motions_since(back), "new targets go out")
        run.assert_safe()


def test_an_old_target_is_dropped_and_counted():
    with session() as run:
        run.arm.set_power(False)
        wait_until(lambda: not run.reading.powered, "power loss is noticed")
        run.robot.write(START, None)
        wait_until(lambda: run.robot.health().expired == 1, "the target becomes too old")
        assert run.motions_since(0) == []


@each_way("serial-wire")
def test_a_restarted_arm_is_told_not_moved(kind, driver, monkeypatch):
    if (kind, driver) == ("serial", "wire"):
        monkeypatch.setattr(core, "REBOOT_S", 1.2)  # 3 s in the slow tests
    with session(kind, driver) as run:
        run.stream(0.3)
        run.arm.reboot()
        restarted = run.last("reboot")
        for _ in range(200):  # the loop goes on wishing
            run.robot.write(START, None)
            if not run.reading.powered:
                break
            time.sleep(0.1)
        assert not run.reading.powered
        assert "power" in run.robot.health().last_error
        run.robot.write(START, None)
        time.sleep(0.7)
        # Written before the loss could be noticed, and heard by nobody.
        deaf = restarted + int(core.REBOOT_S * 1e9)
        assert run.motions_since(deaf) == []
        run.robot.set_power(True)
        assert run.arm.state().newest_only
        wait_until(lambda: run.reading.powered, "power is told")
        run.robot.write(run.reading.angles, None)
        wait_until(lambda: run.motions_since(deaf), "it moves again")


@pytest.mark.slow
def test_power_that_comes_back_by_itself_does_not_let_old_motion_go_on():
    with session() as run:
        run.stream(0.3)
        run.arm.set_power(False)
        wait_until(lambda: not run.reading.powered, "power loss is noticed")
        run.arm.set_power(True)
        back = run.last("power on")
        wait_until(lambda: run.reading.powered, "power is noticed")
        commands = [e.command for e in run.arm.journal.entries(back)]
        assert Command.STOP in commands
        assert Command.SET_FRESH_MODE in commands
        assert run.robot.health().reconnects == 1


def test_a_forgotten_mode_is_noticed_and_set_again():
    with session() as run:
        run.arm._joints.newest_only = False
        wait_until(lambda: run.arm.state().newest_only, "the mode is set again")
        wait_until(lambda: run.robot.health().reconnects == 1, "it counts as a loss")


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


@pytest.mark.parametrize(
    ("faults", "powered", "message"),
    [
        pytest.param(Faults(silent=True), True, "no answer", marks=pytest.mark.slow),
        (Faults(fresh_mode_stuck=True), True, "fresh mode 1"),
        (Faults(), False, "no power"),
        (strike("drop_reply", Rule(commands={Command.GET_ANGLES})), True, "angles"),
    ],
)
@pytest.mark.parametrize("driver", ["wire", pytest.param("pymycobot", marks=pytest.mark.slow)])
def test_an_arm_that_is_not_ready_is_refused(faults, powered, message, driver):
    with session(driver=driver, connect=False, powered=powered) as run:
        run.arm.faults = faults
        with pytest.raises(RobotError, match=message):
            run.robot.connect()
        run.arm.faults = Faults()
        if not powered:
            run.robot.set_power(True)
            assert run.arm.state().powered
        run.robot.connect()
        assert run.reading.powered
        assert run.motions_since(0) == []


def test_power_that_does_not_come_is_told(monkeypatch):
    monkeypatch.setattr("robot_bridge.arm_session.POWER_TRIES", 3)
    with session(connect=False, powered=False) as run:
        run.arm.faults = Faults(power_stuck=True)
        with pytest.raises(RobotError, match="e-stop"):
            run.robot.set_power(True)


def test_power_off_is_told_at_once():
    with session() as run:
        run.robot.set_power(False)
        assert not run.reading.powered
        assert not run.arm.state().powered


def test_no_port_is_told():
    robot = MyCobot(arm_driver("serial:/dev/ttyNoArm"))
    with pytest.raises(RobotError, match="no such port"):
        robot.connect()
    robot.close()
    with pytest.raises(RobotError, match="closed"):
        robot.connect()


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


def test_the_owner_survives_a_fault_of_the_driver(monkeypatch, caplog):
    with session() as run, caplog.at_level(logging.ERROR):
        driver, asked = run.robot._driver, []

        def broken():
            asked.append(1)
            raise ZeroDivisionError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(driver, "get_angles", broken)
            wait_until(lambda: asked, "the defect strikes")
        wait_until(lambda: run.robot.health().reconnects >= 1, "the arm is found again")
        reads = run.robot.health().reads
        wait_until(lambda: run.robot.health().reads > reads, "it is read again")
        assert "unexpected error" in caplog.text


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


@pytest.mark.slow
def test_a_silent_arm_is_lost_and_close_does_not_wait_long():
    with session() as run:
        run.arm.faults = Faults(silent=True)
        wait_until(lambda: not run.robot.health().connected, "the loss is noticed")
        assert "no answer" in run.robot.health().last_error
        age = time.monotonic_ns() - run.reading.time_ns
        assert age > 0
        began = time.monotonic()
        run.robot.close()
        run.robot.close()
        assert time.monotonic() - began < 5
