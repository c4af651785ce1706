"""The 320's protocol spoken directly: one transmission, one answer, nothing believed by chance.

In: calls of `ArmDriver`. Out: frames on a serial port or TCP connection. Nothing is transmitted
twice: a missing answer is a miss, told to the caller. Before each transmission the line is drained;
what may still be owed is fenced off (`reply_ledger.py`); after a miss a TCP connection is opened
anew; and a server that lags one reply behind is nudged. Which command when: `mycobot.py`.
"""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping

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
from robot_bridge.wire.frames import Command, FrameReader, encode, pack_angles, unpack_angles
from robot_bridge.wire.lines import Line, LineError
from robot_bridge.wire.reply_ledger import ReplyLedger

ALL_JOINTS = 0
ACKNOWLEDGED = b"\x01"
NUDGE_AFTER_NS = 30_000_000
MISSES_OF_NEW = 3


@dataclasses.dataclass
class _Counters:
    exchanges: int = 0
    missed: int = 0
    interrupted: int = 0
    stale: int = 0  # frames that were no answer to the running question
    nudges: int = 0
    reopened: int = 0


class WireDriver:
    """`ArmDriver` over a line.

    Args:
        line: not yet open.
        reply_s: how long an answer may take; later it is a miss.
        clock_ns: monotonic nanoseconds.
    """

    def __init__(
        self,
        line: Line,
        reply_s: float = 0.25,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not (math.isfinite(reply_s) and 0.02 <= reply_s <= 5):
            raise ValueError(f"reply_s: {reply_s} s is not in 0.02 ... 5 s")
        self.port = line.name
        self.answered = self.is_open = False
        self.trouble = ""
        self._line = line
        self._reply_ns = int(reply_s * 1e9)
        self._clock_ns = clock_ns
        self._reader = FrameReader()
        self._ledger = ReplyLedger()
        self._interrupt = threading.Event()
        self._proven = False  # the present connection has given an answer
        self._misses = 0  # exchanges in a row without one
        self._count = _Counters()

    def open(self) -> None:
        self.is_open, self._proven, self._misses = False, False, 0
        self._line.open()
        self._reader.reset()
        self.is_open = True

    def close(self) -> None:
        self.is_open = False
        self._line.close()

    def interrupt(self) -> None:
        self._interrupt.set()

    def get_angles(self) -> np.ndarray | None:
        data = self._ask(Command.GET_ANGLES, size=12)
        return None if data is None else angles_of(unpack_angles(data))

    def get_gripper(self) -> float | None:
        return opening_of(self._ask_byte(Command.GET_GRIPPER))

    def send_angles(self, angles: np.ndarray, speed: int) -> bool:
        return self._tell(
            Command.SEND_ANGLES, pack_angles(degrees_of(angles)) + bytes((percent(speed),))
        )

    def send_gripper(self, opening: float, speed: int) -> bool:
        data = bytes((gripper_count(opening), percent(speed), ADAPTIVE_GRIPPER))
        return self._tell(Command.SET_GRIPPER, data)

    def stop(self) -> bool:
        self._interrupt.clear()
        # No fence: a stop waits for nothing.
        return self._exchange(Command.STOP, b"", 1) == ACKNOWLEDGED

    def is_powered(self) -> bool | None:
        value = self._ask_byte(Command.IS_POWER_ON)
        return bool(value) if value in (0, 1) else None

    def set_power(self, on: bool) -> bool:
        return self._tell(Command.POWER_ON if on else Command.POWER_OFF)

    def get_error(self) -> int | None:
        value = self._ask_byte(Command.GET_ERROR)
        return None if value == 0xFF else value

    def clear_error(self) -> bool:
        return self._tell(Command.CLEAR_ERROR)

    def get_fresh_mode(self) -> int | None:
        value = self._ask_byte(Command.GET_FRESH_MODE)
        return value if value in (0, 1) else None

    def set_fresh_mode(self, mode: int) -> bool:
        return self._tell(Command.SET_FRESH_MODE, bytes((mode,)))

    def release(self) -> bool:
        return self._tell(Command.RELEASE_ALL_SERVOS)

    def focus(self) -> bool:
        return self._tell(Command.FOCUS_SERVO, bytes((ALL_JOINTS,)))

    def versions(self) -> Mapping[str, float | None]:
        commands = {
            "robot_version": Command.ROBOT_VERSION,
            "basic_version": Command.BASIC_VERSION,
            "atom_version": Command.ATOM_VERSION,
        }
        replies = {name: self._ask_byte(command) for name, command in commands.items()}
        return {name: None if value is None else value / 10 for name, value in replies.items()}

    def counters(self) -> Mapping[str, int]:
        return {**dataclasses.asdict(self._count), "junk_bytes": self._reader.junk}

    def _tell(self, command: Command, data: bytes = b"") -> bool:
        return self._ask(command, data, size=1) == ACKNOWLEDGED

    def _ask_byte(self, command: Command) -> int | None:
        data = self._ask(command, size=1)
        return None if data is None else data[0]

    def _ask(self, command: Command, data: bytes = b"", *, size: int) -> bytes | None:
        """Answer of `size` bytes, None for a miss; behind a fence where an old one is owed."""
        now_ns = self._clock_ns()
        if self._ledger.owes(command, now_ns):
            fence = self._ledger.fence(now_ns)
            if fence is None or self._exchange(fence, b"", 1) is None:
                return None
        return self._exchange(command, data, size)

    def _exchange(self, command: Command, data: bytes, size: int) -> bytes | None:
        """Transmits once and waits for the answer; None for a miss."""
        self.answered = False
        if not self.is_open or self._gives_way(command):
            return None
        self._count.exchanges += 1
        try:
            if self._line.relayed and self._is_worn():
                self.open()
                self._count.reopened += 1
            self._reader.junk += self._line.drain()
            self._reader.reset()
            self._line.write(encode(command, data))
            reply = self._await(command, size)
        except (LineError, RobotError) as error:
            reply, self.trouble = None, str(error)
            self.is_open = False
        now_ns = self._clock_ns()
        if reply is None:
            self._count.missed += 1
            self._misses += 1
            self._ledger.missed(command, now_ns)
            return None
        self.answered, self._proven, self._misses = True, True, 0
        self._ledger.answered(command, now_ns)
        return reply

    def _is_worn(self) -> bool:
        """Whether a connection to a server must be opened anew after a miss.

        Not after the first miss of a new one: the vendor's server swallows the first message after
        some of its own errors, and would go on to do so.
        """
        return self._misses >= (1 if self._proven else MISSES_OF_NEW)

    def _gives_way(self, command: Command) -> bool:
        """Whether a stop is waiting, which only a stop clears."""
        return command is not Command.STOP and self._interrupt.is_set()

    def _await(self, command: Command, size: int) -> bytes | None:
        """The first frame with this command and as many bytes; an echo has other lengths."""
        began_ns = heard_ns = self._clock_ns()
        behind = False
        while (now_ns := self._clock_ns()) - began_ns < self._reply_ns:
            if self._gives_way(command):
                self._count.interrupted += 1
                return None
            data = self._line.read()
            if data:
                heard_ns = now_ns
            for frame in self._reader.feed(data):
                if frame.command == command and len(frame.data) == size:
                    return frame.data
                self._count.stale += 1
                behind = True
            if behind and self._line.relayed and now_ns - heard_ns > NUDGE_AFTER_NS:
                self._line.write(NUDGE)
                self._count.nudges += 1
                behind = False
        self.trouble = f"{self.port}: no answer to {command.name} in {self._reply_ns / 1e9:g} s"
        return None
