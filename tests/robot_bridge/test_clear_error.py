"""An error that the arm's controller keeps: only a person's reset clears it, and only stopped."""

import threading

import numpy as np
import pytest

from robot_bridge.emulator import AuditLimits, Emulator, Faults, Rule
from robot_bridge.robots import RobotError
from robot_bridge.safety.modes import Mode
from robot_bridge.wire.frames import Command
from tests.robot_bridge.fault_stage import judge, new_stage, opened_port, started
from tests.robot_bridge.fault_storm import CONFIG
from tests.robot_bridge.loop_rig import Rig
from tests.robot_bridge.robot_run import session
from tests.robot_bridge.wired_arm import START, each_way, opened, strike, wait_until, wired_arm

CLEARING = Rule(commands={Command.CLEAR_ERROR})
BEYOND = np.deg2rad([0.0, 0.0, 150.0, 0.0, 0.0, 0.0])
STOPS = {Command.STOP, Command.IS_POWER_ON}  # with the question that vouches for a stop
ASKED = {Command.STOP, Command.CLEAR_ERROR, Command.GET_ERROR}


def latch(run):
    """As after a target beyond joint 3's limit, which pymycobot would not even send."""
    run.arm._firmware.error = 3
    wait_until(lambda: run.reading.error == 3, "the error is told")


@each_way("serial-wire", "tcp-wire", "serial-pymycobot", "tcp-pymycobot")
def test_a_driver_clears_what_the_controller_keeps(kind, driver):
    with wired_arm(kind) as wired, opened(wired, driver) as arm:
        wired.arm._firmware.error = 3
        assert arm.send_angles(START, 20)
        assert arm.get_error() == 3
        assert arm.clear_error()
        assert arm.get_error() == 0


def test_a_target_beyond_a_limit_latches():
    with wired_arm("serial") as wired, opened(wired, "wire") as arm:
        arm.send_angles(BEYOND, 20)
        arm.send_angles(START, 20)
        assert arm.get_error() == 3
        assert arm.clear_error()
        assert arm.get_error() == 0


@each_way("serial-wire", "tcp-wire", "serial-pymycobot", "tcp-pymycobot")
def test_the_arm_is_stopped_told_once_and_asked(kind, driver):
    with session(kind, driver) as run:
        latch(run)
        run.robot.write(START + 0.1, None)
        before = len(run.wired.frames())
        run.robot.clear_error()
        assert run.reading.error == 0
        frames = [frame.command for frame in run.wired.frames()[before:]]
        asked = [command for command in frames if command in ASKED]
        at = asked.index(Command.CLEAR_ERROR)
        assert Command.STOP in asked[:at]
        assert Command.GET_ERROR in asked[at:]
        assert asked.count(Command.CLEAR_ERROR) == 1
        assert not run.arm.state().moving


UNKNOWN = {
    "it stays: press the e-stop": (Faults(error=3), 1),
    "no acknowledgement for clearing": (Faults(error=3, no_ack=CLEARING), 1),
    "asked for its error code": (strike("drop_reply", Rule(commands={Command.GET_ERROR})), 1),
    "the stop that must come before": (strike("drop_reply", Rule(commands=STOPS)), 0),
}


@pytest.mark.parametrize(("message", "fault", "told"), [(m, *u) for m, u in UNKNOWN.items()])
def test_what_is_not_known_to_be_cleared_is_an_error(message, fault, told):
    with session() as run:
        latch(run)
        run.arm.faults = fault
        with pytest.raises(RobotError, match=message):
            run.robot.clear_error()
        assert run.wired.count(Command.CLEAR_ERROR) == told
        run.arm.faults = Faults()
        wait_until(lambda: run.robot.health().connected, "it answers again")
        run.robot.clear_error()
        assert run.reading.error == 0
        assert run.wired.count(Command.CLEAR_ERROR) == told + 1


def test_a_lost_acknowledgement_does_not_hide_that_it_is_cleared():
    with session() as run:
        latch(run)
        run.arm.faults = strike("no_ack", CLEARING)
        run.robot.clear_error()
        assert run.reading.error == 0
        assert run.wired.count(Command.CLEAR_ERROR) == 1


@each_way("serial-wire", "tcp-pymycobot")
def test_the_bridge_goes_on_after_a_latched_error(kind, driver, tmp_path):
    if driver == "pymycobot":
        pytest.importorskip("pymycobot")
    arm = Emulator(CONFIG)
    with opened_port(kind, arm) as wired:
        stage = new_stage(wired, driver, tmp_path)
        with started(stage):
            arm._firmware.error = 3
            stage.until(lambda status: status["mode"] == "fault", "a fault", 15.0)
            assert "joint3" in stage.look()["reason"]
            stage.watch(0.5)
            assert wired.count(Command.CLEAR_ERROR) == 0  # nobody asked for it
            stage.command("reset")
            stage.command("start")
            assert stage.steps_follow(), stage.look()["reason"]
            assert stage.look()["interventions"]["error_cleared"] == 1
        assert wired.count(Command.CLEAR_ERROR) == 1
        judge(stage, tmp_path, AuditLimits())


# The control loop, with the twin as the arm.


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.close()


def break_limit(rig):
    rig.twin.write(BEYOND, None)
    rig.tick(2)


def clearings(rig):
    return rig.robot.calls.get("clear_error", 0)


def test_a_reset_clears_the_error_and_it_runs_again(rig):
    rig.start()
    break_limit(rig)
    assert rig.mode is Mode.FAULT
    assert rig.loop.reason == "controller error 3: joint3 is beyond its limit; reset clears it"
    rig.tick(100)
    assert clearings(rig) == 0  # never by itself
    writes = rig.writes
    rig.ask("reset")
    rig.wait(lambda: rig.mode is Mode.IDLE)
    assert rig.loop.reason.endswith("joint3 is beyond its limit was cleared")
    assert (clearings(rig), rig.loop.counts["error_cleared"]) == (1, 1)
    rig.tick(20)
    assert rig.writes == writes
    rig.start()
    rig.ask("hold")
    rig.ask("estop")
    rig.ask("reset")  # without an error it is a reset, no more
    assert rig.mode is Mode.IDLE
    assert clearings(rig) == 1


def test_an_error_that_stays_is_named_and_can_be_reset_again(rig):
    rig.start()
    break_limit(rig)
    rig.robot.broken["clear_error"] = RobotError("controller error 3 stays: move it by hand")
    rig.ask("reset")
    rig.wait(lambda: "stays" in rig.loop.reason)
    assert rig.mode is Mode.FAULT
    assert "could not be cleared: controller error 3 stays: move it by hand" in rig.loop.reason
    assert rig.loop.counts["error_cleared"] == 0
    rig.tick(100)
    assert clearings(rig) == 1
    rig.robot.broken.clear()
    rig.ask("reset")
    rig.wait(lambda: rig.mode is Mode.IDLE)
    rig.start()


def test_an_arm_found_with_an_error_is_reset_in_idle(rig):
    break_limit(rig)
    assert rig.mode is Mode.IDLE
    rig.ask("start")
    assert rig.loop.reason.startswith("not started: controller error 3")
    rig.ask("reset")
    rig.wait(lambda: not rig.loop.clearing)
    assert rig.mode is Mode.IDLE
    rig.start()


@pytest.mark.parametrize("newer", ["estop", "fault"])
def test_what_happens_meanwhile_makes_the_reset_void(rig, newer):
    rig.start()
    break_limit(rig)
    go_on, clear = threading.Event(), rig.twin.clear_error

    def slow():
        go_on.wait(20.0)
        clear()

    rig.twin.clear_error = slow
    rig.ask("reset")
    rig.wait(lambda: clearings(rig) == 1)
    rig.ask("reset")  # pressed twice
    rig.ask("start")
    assert rig.mode is Mode.FAULT
    if newer == "estop":
        rig.ask("estop")
    else:
        rig.loop.fail("something newer")
    go_on.set()
    rig.wait(lambda: rig.release.gripped)
    rig.tick(20)
    assert rig.mode is (Mode.ESTOP if newer == "estop" else Mode.FAULT)
    assert newer in rig.loop.reason or rig.loop.reason == "something newer"
    assert clearings(rig) == 1
    rig.ask("reset")
    assert rig.mode is Mode.IDLE
