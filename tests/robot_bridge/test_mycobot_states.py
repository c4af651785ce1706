"""The arm is not ready, lost, restarted, without power: what is told, and that nothing moves."""

import logging
import threading
import time

import pytest

from robot_bridge.emulator import Faults, Rule, core
from robot_bridge.robots import RobotError
from robot_bridge.wire.frames import Command
from robot_bridge.wire.mycobot import MyCobot
from robot_bridge.wire.ports import arm_driver
from tests.robot_bridge.robot_run import session
from tests.robot_bridge.wired_arm import (
    START,
    each_way,
    strike,
    wait_until,
)


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
    monkeypatch.setattr("robot_bridge.wire.arm_session.POWER_TRIES", 3)
    with session(connect=False, powered=False) as run:
        run.arm.faults = Faults(power_stuck=True)
        with pytest.raises(RobotError, match="e-stop"):
            run.robot.set_power(True)


def test_power_off_is_told_at_once():
    with session() as run:
        run.robot.set_power(False)
        assert not run.reading.powered
        assert not run.arm.state().powered


def test_without_connect_nothing_moves():
    with session(connect=False, powered=False) as run:
        run.robot.set_power(True)
        run.robot.write(START, 0.5)
        wait_until(lambda: run.robot.health().expired >= 1, "the target becomes too old")
        assert run.motions_since(0) == []


def test_a_request_that_was_given_up_does_not_happen_later(monkeypatch):
    with session() as run:
        busy = threading.Event()
        waiting = threading.Thread(target=run.robot._request, args=(lambda: busy.wait(10),))
        waiting.start()
        wait_until(lambda: not run.robot._requests, "the owner is busy")
        monkeypatch.setattr("robot_bridge.wire.mycobot.REQUEST_S", 0.1)
        with pytest.raises(RobotError, match="no result"):
            run.robot.set_free(True)
        busy.set()
        waiting.join()
        reads = run.robot.health().reads
        wait_until(lambda: run.robot.health().reads > reads, "the owner goes on")
        assert run.wired.count(Command.RELEASE_ALL_SERVOS) == 0


def test_no_port_is_told():
    robot = MyCobot(arm_driver("serial:/dev/ttyNoArm"))
    with pytest.raises(RobotError, match="no such port"):
        robot.connect()
    robot.close()
    with pytest.raises(RobotError, match="closed"):
        robot.connect()


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
