"""Our own framing against the emulated arm: one transmission, and no answer believed by chance."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from robot_bridge.emulator import Faults, Rule
from robot_bridge.robots import RobotError
from robot_bridge.wire.frames import Command, encode
from robot_bridge.wire.lines import SerialLine
from robot_bridge.wire.ports import arm_driver
from robot_bridge.wire.wire_driver import WireDriver
from tests.robot_bridge.wired_arm import LINES, START, near, opened, strike, wired_arm

ONCE = Rule(times=1)
OTHER = START + 0.1


@pytest.fixture(params=LINES)
def wired(request):
    with wired_arm(request.param) as arm:
        yield arm


def test_a_late_reply_is_not_the_answer_to_the_same_question_asked_at_once():
    # Without sequence numbers only the fence can tell: the reply comes while the next one is due.
    with wired_arm("serial") as wired, opened(wired) as driver:
        wired.arm.faults = Faults(late=Rule(times=1, commands={Command.GET_ANGLES}), late_s=0.35)
        assert driver.get_angles() is None
        assert near(driver.get_angles(), START)
        fences = wired.count(Command.IS_POWER_ON)
        assert fences == 1
        assert driver.counters()["stale"] == 1
        assert wired.count(Command.GET_ANGLES) == 2


def test_a_server_that_lags_one_reply_behind_is_brought_into_step():
    with wired_arm("tcp") as wired, opened(wired) as driver:
        wired.arm.faults = Faults(late=ONCE, late_s=0.2)
        assert driver.get_gripper() is None
        wired.arm.faults = Faults()
        for _ in range(5):
            assert near(driver.get_angles(), START)
            assert driver.is_powered() is True
        counters = driver.counters()
        assert counters["nudges"] == 1  # in step after one; without, every reply is the last one's
        assert counters["stale"] == 1


@pytest.mark.parametrize("fault", ["noise", "fragment", "echo"])
def test_bad_lines_that_cost_nothing(wired, fault):
    with opened(wired) as driver:
        wired.arm.faults = strike(fault)
        for _ in range(10):
            assert near(driver.get_angles(), START)
        assert driver.send_angles(START, 20)
        assert driver.stop()
        if fault == "noise":
            assert driver.counters()["junk_bytes"] > 10
    assert wired.count(Command.SEND_ANGLES) == 1


def test_angles_that_no_arm_has_are_no_reading(monkeypatch):
    with wired_arm("serial") as wired, opened(wired) as driver:
        monkeypatch.setitem(
            wired.arm._firmware._handlers,
            Command.GET_ANGLES,
            lambda data: bytes.fromhex("7fff") + bytes(10),
        )
        assert driver.get_angles() is None
        assert driver.answered


def test_a_wait_gives_way_to_a_stop(wired):
    with opened(wired) as driver:
        wired.arm.faults = Faults(drop_reply=Rule(commands={Command.GET_ANGLES}))
        assert driver.send_angles(OTHER, 50)
        began = time.monotonic()
        interrupter = threading.Timer(0.05, driver.interrupt)
        interrupter.start()
        assert driver.get_angles() is None
        assert not driver.send_angles(START, 50)  # nothing but a stop is transmitted now
        assert driver.stop()
        print(f"stopped {time.monotonic() - began:.3f} s after asking")
        interrupter.join()
        assert driver.counters()["interrupted"] == 1
        wired.arm.faults = Faults()
        assert driver.get_angles() is not None
    assert wired.count(Command.SEND_ANGLES) == 1


def test_two_programs_on_one_port_are_refused():
    with wired_arm("serial") as wired, opened(wired) as driver:
        second = arm_driver(wired.url)
        with pytest.raises(RobotError, match="another program"):
            second.open()
        assert driver.is_powered()


def test_opening_says_what_is_wrong(tmp_path):
    with pytest.raises(RobotError, match="no such port"):
        SerialLine(str(tmp_path / "ttyNone")).open()
    with wired_arm("tcp") as wired:
        wired.port.disconnect()
        with pytest.raises(RobotError, match=r"Server_320\.py"):
            arm_driver(wired.url).open()


def test_a_reply_window_is_a_number():
    with pytest.raises(ValueError, match="reply_s"):
        WireDriver(SerialLine("unused"), reply_s=float("nan"))


def test_frames_on_the_line_are_those_of_the_vendor():
    # mycobot.md b.1, an example from the vendor's client.
    with wired_arm("serial") as wired, opened(wired) as driver:
        assert driver.send_angles(np.deg2rad([10, 0, 0, 0, 0, -5.5]), 20)
        (frame,) = wired.frames()
    expected = "FE FE 0F 22 03 E8 00 00 00 00 00 00 00 00 FD DA 14 FA"
    assert encode(frame.command, frame.data) == bytes.fromhex(expected)


class ForgetfulServer:
    """Between a client and the emulated server: swallows the first message of each connection.

    As the vendor's server does after errors of its own, when it has closed its port to the arm.
    """

    def __init__(self, behind: tuple[str, int]) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                with client, socket.create_connection(self._behind, 5) as arm:
                    arm.settimeout(0.15)
                    client.recv(1024)
                    while block := client.recv(1024):
                        arm.sendall(block)
                        with contextlib.suppress(TimeoutError):
                            client.sendall(arm.recv(1024))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_a_server_that_swallows_the_first_message_is_not_left_at_once():
    with wired_arm("tcp") as wired, contextlib.closing(ForgetfulServer(wired.address)) as server:
        driver = arm_driver("tcp:{}:{}".format(*server.address))
        driver.open()
        assert driver.get_angles() is None
        assert near(driver.get_angles(), START)
        assert driver.is_powered() is True
        assert server.connections == 1
        driver.close()
