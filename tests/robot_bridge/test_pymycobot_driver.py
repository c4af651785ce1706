"""What is special about pymycobot: its repetitions, its numbers, its exceptions."""

import sys
from typing import Any

import numpy as np
import pytest

from robot_bridge.emulator import Faults, Rule
from robot_bridge.wire.arm_driver import ArmDriver
from robot_bridge.wire.frames import Command
from robot_bridge.wire.ports import arm_driver
from robot_bridge.wire.pymycobot_driver import FENCES, PymycobotDriver
from tests.robot_bridge.wired_arm import LINES, START, near, opened, strike, wired_arm

pytest.importorskip("pymycobot")


@pytest.fixture(params=LINES)
def wired(request):
    with wired_arm(request.param) as arm:
        yield arm


def client(driver: ArmDriver) -> Any:
    """pymycobot's own object."""
    assert isinstance(driver, PymycobotDriver)
    return driver._client


def left_alone(driver: ArmDriver) -> Any:
    """pymycobot's own object, free to transmit as often as it likes."""
    arm = client(driver)
    arm._write = arm._write._write
    return arm


def test_left_alone_it_transmits_three_times():
    # Why this driver exists; fails if pymycobot mends it.
    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        wired.arm.faults = strike("drop_reply")
        arm = left_alone(driver)
        assert arm.send_angles([0.0] * 6, 20) == -1
        assert wired.count(Command.SEND_ANGLES) == 3


@pytest.mark.parametrize(
    "reply",
    [-1, None, [], [0.0] * 28, [0.0] * 5, [0.0] * 5 + [float("nan")], ["0"] * 6, [999.0] * 6, 1],
)
def test_what_is_no_list_of_six_angles_is_no_reading(monkeypatch, reply):
    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        monkeypatch.setattr(client(driver), "get_angles", lambda: reply)
        assert driver.get_angles() is None
        assert not driver.answered


@pytest.mark.parametrize("error", [TypeError("no list"), ValueError("odd"), KeyError("x")])
def test_any_exception_is_no_reading(monkeypatch, error):
    def fail():
        raise error

    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        monkeypatch.setattr(client(driver), "get_angles", fail)
        assert driver.get_angles() is None
        assert type(error).__name__ in driver.trouble
        assert driver.is_open
        monkeypatch.undo()
        assert near(driver.get_angles(), START)


def test_the_long_list_that_its_socket_class_believes_is_no_reading():
    with wired_arm("tcp") as wired, opened(wired, "pymycobot") as driver:
        wired.arm.faults = strike("oversize", Rule(commands={Command.GET_ANGLES}))
        assert driver.get_angles() is None
        wired.arm.faults = Faults()
        assert near(driver.get_angles(), START)


def test_a_header_alone_that_makes_it_raise_is_no_reading():
    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        wired.arm.faults = strike("truncate", Rule(times=1))
        assert driver.get_angles() is None
        assert "error" in driver.trouble  # struct.error
        assert near(driver.get_angles(), START)


def test_an_echo_is_no_reading():
    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        wired.arm.faults = strike("echo")
        assert driver.get_angles() is None
        assert driver.is_powered() is None


def test_a_server_that_lags_one_reply_behind_is_brought_into_step():
    with wired_arm("tcp") as wired, opened(wired, "pymycobot") as driver:
        wired.arm.faults = strike("late", Rule(times=1))
        assert driver.get_gripper() is None
        wired.arm.faults = Faults()
        answers = [driver.get_angles() for _ in range(5)]
        assert all(angles is None or near(angles, START) for angles in answers)
        assert near(answers[-1], START)


def test_angles_are_rounded_not_truncated(wired):
    # pymycobot alone makes .28 of .29 degrees.
    target = np.deg2rad([0.29, -0.29, 1.999, -1.999, 28.57, 177.99])
    with opened(wired, "pymycobot") as driver:
        assert driver.send_angles(target, 20)
    sent = np.rad2deg(wired.targets()[0])
    np.testing.assert_allclose(sent, [0.29, -0.29, 2.0, -2.0, 28.57, 177.99], atol=1e-9)


def test_an_interruption_lets_only_a_stop_through():
    with wired_arm("serial") as wired, opened(wired, "pymycobot") as driver:
        driver.interrupt()
        assert driver.get_angles() is None
        assert not driver.send_angles(START, 20)
        assert driver.stop()
        assert near(driver.get_angles(), START)
        assert wired.count(Command.SEND_ANGLES) == 0


def test_it_has_to_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymycobot", None)
    with pytest.raises(ValueError, match="pip install pymycobot"):
        arm_driver("serial:/dev/ttyACM0", "pymycobot")


def test_the_fences_are_calls_that_it_has(wired):
    with opened(wired, "pymycobot") as driver:
        for name in FENCES.values():
            assert getattr(left_alone(driver), name)() in (0, 1)
            driver.open()
