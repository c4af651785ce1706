"""The same arm through the vendor's own classes, pymycobot 4.0.7, with their surprises caught.

In: calls of `ArmDriver`. Out: calls of `MyCobot320` (serial) or `MyCobot320Socket` (TCP). Left
alone, these transmit an unanswered command three times and answer with -1, None, lists of 28
numbers or exceptions: here each call transmits once, and all of that is "no reading". A reply that
comes late is fenced off as in `wire_driver.py`. The wait for a reply cannot be interrupted.
"""

import functools
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from robot_bridge.robots import RobotError
from robot_bridge.wire.arm_driver import (
    ADAPTIVE_GRIPPER,
    NUDGE,
    angles_of,
    degrees_of,
    gripper_count,
    opening_of,
    percent,
)
from robot_bridge.wire.frames import Command
from robot_bridge.wire.lines import BAUD, CONNECT_S, serial_advice, tcp_advice
from robot_bridge.wire.reply_ledger import ReplyLedger

try:
    import termios

    # What pyserial lets through when the device is gone.
    PORT_ERRORS: tuple[type[Exception], ...] = (OSError, termios.error)
except ImportError:  # Windows
    PORT_ERRORS = (OSError,)

T = TypeVar("T")
REPLY_S = 0.25  # its own 0.5 s would make a stop wait as long
SETTLE_S = 0.05
# The server waits 0.1 s for the arm: after that long nothing more of the past comes.
SERVER_S = 0.15
# Harmless questions, as in `reply_ledger.FENCES`.
FENCES = {
    Command.IS_POWER_ON: "is_power_on",
    Command.IS_CONTROLLER_CONNECTED: "is_controller_connected",
    Command.GET_FRESH_MODE: "get_fresh_mode",
    Command.IS_MOVING: "is_moving",
}


class _Repetition(Exception):
    """pymycobot wants to transmit the same call again."""


class _OneWrite:
    """Stands in for a client's `_write`: lets one transmission of each call through."""

    def __init__(self, write: Callable[..., Any]) -> None:
        self._write = write
        self.allowed = False

    def __call__(self, *arguments: Any) -> Any:
        if not self.allowed:
            raise _Repetition
        self.allowed = False
        return self._write(*arguments)


class PymycobotDriver:
    """`ArmDriver` over pymycobot.

    Args:
        port: for people.
        connect: makes a connected client of pymycobot; raises OSError.
        advice: what to do about such an error.
        relayed: over the vendor's TCP server.
        clock_ns: monotonic nanoseconds.
    """

    def __init__(
        self,
        port: str,
        connect: Callable[[], Any],
        advice: Callable[[Exception], str],
        relayed: bool,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.port = port
        self.is_open = self.answered = False
        self.trouble = ""
        self._connect = connect
        self._advice = advice
        self._relayed = relayed
        self._clock_ns = clock_ns
        self._client: Any = None
        self._once = _OneWrite(lambda *_: None)
        self._ledger = ReplyLedger(fences=tuple(FENCES))
        self._interrupt = threading.Event()
        self._renew = False
        self._count = {"exchanges": 0, "missed": 0, "reopened": 0}

    def open(self) -> None:
        """Raises RobotError saying what to do."""
        self.close()
        self._renew = False
        try:
            self._client = self._connect()
        except (OSError, ValueError) as error:
            raise RobotError(f"{self.port}: {self._advice(error)}") from None
        self._once = _OneWrite(self._client._write)
        self._client._write = self._once
        self._client._read = functools.partial(self._client._read, timeout=REPLY_S)
        self.is_open = True

    def close(self) -> None:
        """Twice does no harm."""
        client, self._client, self.is_open = self._client, None, False
        if client is not None:
            try:
                client.close()
            except Exception as error:  # unplugged: nothing is left to close
                self.trouble = f"{self.port}: {error}"

    def interrupt(self) -> None:
        """Nothing is transmitted until `stop`; a running wait (`REPLY_S` at most) goes on."""
        self._interrupt.set()

    def get_angles(self) -> np.ndarray | None:
        """float64 [6], rad; None: no reading."""
        return self._ask(Command.GET_ANGLES, lambda arm: arm.get_angles(), _angles)

    def get_gripper(self) -> float | None:
        """Opening; None: no reading."""

        # 4.0.7 has no call for it; 255 is an answer, if an unusable one.
        def ask(arm: Any) -> Any:
            return arm._mesg(int(Command.GET_GRIPPER), has_reply=True)

        return opening_of(self._ask(Command.GET_GRIPPER, ask, _byte))

    def send_angles(self, angles: np.ndarray, speed: int) -> bool:
        """Whether it was acknowledged."""
        # pymycobot truncates to hundredths: half a hundredth more gives the nearest one.
        hundredths = [round(100 * angle) for angle in degrees_of(angles)]
        degrees = [math.copysign(abs(value) + 0.5, value) / 100 for value in hundredths]
        speed = percent(speed)
        return self._tell(Command.SEND_ANGLES, lambda arm: arm.send_angles(degrees, speed))

    def send_gripper(self, opening: float, speed: int) -> bool:
        """Whether it was acknowledged."""
        count, speed = gripper_count(opening), percent(speed)
        return self._tell(
            Command.SET_GRIPPER,
            lambda arm: arm.set_gripper_value(count, speed, ADAPTIVE_GRIPPER),
        )

    def stop(self) -> bool:
        """Whether it was acknowledged."""
        self._interrupt.clear()
        return self._exchange(Command.STOP, lambda arm: arm.stop(), _byte) == 1

    def is_powered(self) -> bool | None:
        """None: no reading."""
        value = self._ask(Command.IS_POWER_ON, lambda arm: arm.is_power_on(), _byte)
        return bool(value) if value in (0, 1) else None

    def set_power(self, on: bool) -> bool:
        """Whether it was acknowledged."""
        if on:
            return self._tell(Command.POWER_ON, lambda arm: arm.power_on())
        return self._tell(Command.POWER_OFF, lambda arm: arm.power_off())

    def get_error(self) -> int | None:
        """None: no reading."""
        value = self._ask(Command.GET_ERROR, lambda arm: arm.get_error_information(), _byte)
        return None if value == 0xFF else value

    def clear_error(self) -> bool:
        """Whether it was acknowledged."""
        return self._tell(Command.CLEAR_ERROR, lambda arm: arm.clear_error_information())

    def get_fresh_mode(self) -> int | None:
        """None: no reading."""
        value = self._ask(Command.GET_FRESH_MODE, lambda arm: arm.get_fresh_mode(), _byte)
        return value if value in (0, 1) else None

    def set_fresh_mode(self, mode: int) -> bool:
        """Whether it was acknowledged."""
        return self._tell(Command.SET_FRESH_MODE, lambda arm: arm.set_fresh_mode(mode))

    def release(self) -> bool:
        """Whether it was acknowledged."""
        return self._tell(Command.RELEASE_ALL_SERVOS, lambda arm: arm.release_all_servos())

    def focus(self) -> bool:
        """Whether it was acknowledged."""
        return self._tell(Command.FOCUS_SERVO, lambda arm: arm.focus_all_servos())

    def versions(self) -> Mapping[str, float | None]:
        """None: no reading."""
        system = self._ask(Command.ROBOT_VERSION, lambda arm: arm.get_system_version(), _version)
        basic = self._ask(Command.BASIC_VERSION, lambda arm: arm.get_basic_version(), _version)
        atom = self._ask(Command.ATOM_VERSION, lambda arm: arm.get_atom_version(), _version)
        return {"robot_version": system, "basic_version": basic, "atom_version": atom}

    def counters(self) -> Mapping[str, int]:
        """exchanges, missed, reopened."""
        return dict(self._count)

    def _tell(self, command: Command, call: Callable[[Any], Any]) -> bool:
        return self._ask(command, call, _byte) == 1

    def _ask(
        self, command: Command, call: Callable[[Any], Any], accept: Callable[[Any], T | None]
    ) -> T | None:
        """What `accept` makes of the answer; behind a fence where an old answer is owed."""
        now_ns = self._clock_ns()
        if self._ledger.owes(command, now_ns):
            fence = self._ledger.fence(now_ns)
            if fence is None:
                self.answered = False
                return None
            name = FENCES[fence]
            if self._exchange(fence, lambda arm: getattr(arm, name)(), _byte) is None:
                return None
        return self._exchange(command, call, accept)

    def _exchange(
        self, command: Command, call: Callable[[Any], Any], accept: Callable[[Any], T | None]
    ) -> T | None:
        """Transmits once; None for everything that is not the answer."""
        self.answered = False
        if not self.is_open or (command is not Command.STOP and self._interrupt.is_set()):
            return None
        self._count["exchanges"] += 1
        reply = None
        self.trouble = f"{self.port}: no usable answer to {command.name}"
        try:
            if self._renew:
                self._reopen()
            self._once.allowed = True
            reply = accept(call(self._client))
        except _Repetition:
            pass  # there was no answer
        except RobotError as error:
            self.is_open, self.trouble = False, str(error)
        except PORT_ERRORS as error:
            self.is_open, self.trouble = False, f"{self.port}: {error}"
        except Exception as error:
            # struct.error, TypeError, its own complaints: no reading, all of them.
            self.trouble = f"{self.port}: {command.name}: {type(error).__name__}: {error}"
        now_ns = self._clock_ns()
        if reply is None:
            self._count["missed"] += 1
            self._ledger.missed(command, now_ns)
            self._renew = self._relayed
            if self.is_open and self._relayed and self._is_cut():
                self.is_open, self.trouble = False, f"{self.port}: the server closed the connection"
            if command is not Command.STOP:
                # It takes the first frame for the answer: an old one would make the next call
                # miss its own answer, and so on, unless that has come (and is flushed) before.
                self._interrupt.wait(SETTLE_S)
            return None
        self.answered, self.trouble = True, ""
        self._ledger.answered(command, now_ns)
        return reply

    def _is_cut(self) -> bool:
        """Whether the server closed the connection, which pymycobot takes for silence."""
        connection = self._client.sock
        try:
            connection.setblocking(False)
            return connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _reopen(self) -> None:
        """A new connection; what the server still holds back is fetched and thrown away."""
        self.open()
        self._count["reopened"] += 1
        connection = self._client.sock
        for _ in range(3):
            connection.settimeout(SERVER_S)
            connection.sendall(NUDGE)
            try:
                if not connection.recv(4096):
                    raise OSError("the server closed the connection")
            except TimeoutError:
                return


def serial_driver(path: str) -> PymycobotDriver:
    """pymycobot over a serial port; raises ValueError if it is not installed."""
    arm_class = _pymycobot().MyCobot320

    def connect() -> Any:
        arm = arm_class(path, str(BAUD))
        arm._serial_port.exclusive = True  # no second program on the same port
        return arm

    return PymycobotDriver(f"serial:{path}", connect, serial_advice, relayed=False)


def tcp_driver(host: str, port: int) -> PymycobotDriver:
    """pymycobot over the vendor's TCP server; raises ValueError if it is not installed."""
    base = _pymycobot().MyCobot320Socket

    # The same name: pymycobot looks up its limits by the name of the class.
    class MyCobot320Socket(base):  # type: ignore[misc, valid-type]
        def connect_socket(self) -> socket.socket:
            return socket.create_connection((self.SERVER_IP, self.SERVER_PORT), CONNECT_S)

    return PymycobotDriver(
        f"tcp:{host}:{port}", lambda: MyCobot320Socket(host, port), tcp_advice, relayed=True
    )


def _pymycobot() -> Any:
    try:
        import pymycobot
    except ImportError:
        raise ValueError("driver 'pymycobot': not installed; pip install pymycobot") from None
    return pymycobot


def _angles(reply: Any) -> np.ndarray | None:
    if not isinstance(reply, list) or not all(isinstance(a, (int, float)) for a in reply):
        return None
    return angles_of(reply)


def _byte(reply: Any) -> int | None:
    """-1 is pymycobot's "nothing"."""
    return reply if type(reply) is int and 0 <= reply <= 0xFF else None


def _version(reply: Any) -> float | None:
    return float(reply) if type(reply) in (int, float) and reply >= 0 else None
