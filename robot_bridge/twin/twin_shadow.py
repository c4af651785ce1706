"""A real arm with its twin beside it: the same commands to both; where they part, motion ends (R6).

In: what the control loop commands and the arm's readings. Out: the arm's readings unchanged; and an
error from `write`, which makes the loop hold, once the arm has stayed away from where the twin says
it can be. That is an arm that is blocked, pushed, or not the arm it is taken for, noticed long
before it is a jump away from its target. Needs MuJoCo; no limits of its own on commands.
"""

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robot_bridge.arm import JOINTS
from robot_bridge.robots import Reading, Robot, RobotError, RobotHealth
from robot_bridge.twin.twin_robot import TwinRobot

_SLICE_NS = 20_000_000


@dataclasses.dataclass(frozen=True)
class ShadowLimits:
    """When the arm and its twin have parted.

    Attributes:
        tolerance: rad; of a joint, beyond all places between where the twin was lately and the
            target: an arm may be faster or slower than its twin.
        lately_s: how far back that is.
        for_s: how long it must last; a reading or two may be wrong.
    """

    tolerance: float = math.radians(10.0)
    lately_s: float = 0.3
    for_s: float = 0.3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"shadow {field.name} must be above 0 and finite")


class ShadowedRobot:
    """See `robots.Robot`; owns both arms.

    The twin is put where the arm is whenever motion begins after a hold.

    Args:
        robot: the real arm.
        twin: not in real time, on the same clock; carries what the arm carries.
        limits: when they have parted.
        now_ns: monotonic clock.

    Attributes:
        largest: rad, how far a joint was outside of where it could be, since `connect`.
    """

    def __init__(
        self,
        robot: Robot,
        twin: TwinRobot,
        limits: ShadowLimits | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name, self.largest = robot.name, 0.0
        self._robot, self._twin, self._now_ns = robot, twin, now_ns
        self._limits = limits or ShadowLimits()
        self._lock = threading.Lock()
        self._past: deque[tuple[int, np.ndarray]] = deque()
        self._target: np.ndarray | None = None  # None: the twin does not follow
        self._compared_ns = 0
        self._parted_ns: int | None = None
        self._trouble = ""

    def connect(self) -> Mapping[str, Any]:
        """See `Robot`."""
        identity = self._robot.connect()
        self._twin.connect()
        self.largest = 0.0
        return {**identity, "shadow": self._twin.name}

    def read(self) -> Reading | None:
        """See `Robot`; a new reading is compared with the twin."""
        reading = self._robot.read()
        with self._lock:
            if reading is not None and self._target is not None:
                self._advance(self._now_ns())
                self._compare(reading, self._target)
        return reading

    def write(self, angles: np.ndarray, gripper: float | None) -> None:
        """See `Robot`; raises RobotError when arm and twin have parted, until the next hold."""
        with self._lock:
            if self._trouble:
                raise RobotError(self._trouble)
            now, reading = self._now_ns(), self._robot.read()
            if self._target is None and reading is not None:
                self._twin.place(reading.angles, reading.gripper)
                self._past.clear()
                self._past.append((now, np.array(reading.angles)))
                self._compared_ns, self._parted_ns = now, None
            if reading is not None:
                self._advance(now)
                self._target = np.array(angles, np.float64)
                self._twin.write(angles, gripper)
        self._robot.write(angles, gripper)

    def hold(self) -> None:
        """See `Robot`."""
        self._robot.hold()
        self._leave()

    def set_power(self, on: bool) -> None:
        """See `Robot`; the twin's servos stay on."""
        self._leave()
        self._robot.set_power(on)

    def set_free(self, free: bool) -> None:
        """See `Robot`; nobody pushes the twin."""
        self._leave()
        self._robot.set_free(free)

    def clear_error(self) -> None:
        """See `Robot`."""
        self._leave()
        self._robot.clear_error()

    def health(self) -> RobotHealth:
        """Of the real arm's connection; the parting is the newest trouble while it lasts."""
        health, trouble = self._robot.health(), self._trouble
        return dataclasses.replace(health, last_error=trouble) if trouble else health

    def close(self) -> None:
        """See `Robot`."""
        self._robot.close()
        self._twin.close()

    def _leave(self) -> None:
        """The twin no longer follows."""
        with self._lock:
            self._target, self._parted_ns, self._trouble = None, None, ""

    def _advance(self, now_ns: int) -> None:
        """The twin catches up in slices, each remembered."""
        time_ns = self._past[-1][0]
        oldest = now_ns - 1_000_000_000 - round(1e9 * self._limits.lately_s)
        time_ns = max(time_ns, oldest)
        while time_ns < now_ns:
            time_ns = min(time_ns + _SLICE_NS, now_ns)
            self._twin.advance(time_ns)
            state = self._twin.read()
            if state is not None:
                self._past.append((time_ns, state.angles))
        while self._past[0][0] < oldest:
            self._past.popleft()

    def _compare(self, reading: Reading, target: np.ndarray) -> None:
        """Notes how far the arm is outside of where it can be, and since when."""
        if reading.time_ns <= self._compared_ns:
            return
        self._compared_ns = reading.time_ns
        since = reading.time_ns - round(1e9 * self._limits.lately_s)
        places = [angles for time_ns, angles in self._past if since <= time_ns <= reading.time_ns]
        if not places:
            return
        low = np.minimum(np.min(places, axis=0), target)
        high = np.maximum(np.max(places, axis=0), target)
        away = np.maximum(low - reading.angles, reading.angles - high)
        joint = int(away.argmax())
        self.largest = max(self.largest, float(away[joint]))
        if away[joint] <= self._limits.tolerance:
            self._parted_ns = None
            return
        if self._parted_ns is None:
            self._parted_ns = reading.time_ns
        lasted_s = (reading.time_ns - self._parted_ns) / 1e9
        if lasted_s >= self._limits.for_s:
            self._trouble = (
                f"{JOINTS[joint]} is {math.degrees(away[joint]):.1f} degrees from where its twin "
                f"is, for {lasted_s:.1f} s; is the arm blocked or pushed?"
            )
