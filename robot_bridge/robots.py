"""What the bridge asks of an arm: read, write, hold; and nothing that can block the clock.

An implementation (`mycobot.py` over a wire, `twin_robot.py` in simulation) owns its connection in a
thread of its own. The control loop only exchanges the newest reading against the newest target.
Joint angles are rad in the arm's own order, the gripper's opening is 0 (closed) ... 1 (open). No
limits here: a target that reaches `write` has passed `safety_filter.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class RobotError(Exception):
    """The arm cannot be used; the message names the port or fault and what to do."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the arm said last.

    Attributes:
        time_ns: monotonic time at which the reply was complete.
        angles: float64 [J], rad.
        gripper: opening 0..1; the last command where it was not measured.
        gripper_measured: whether the gripper's own value was believed (mycobot.md R1).
        powered: whether the servos are on.
        error: the controller's error code, 0 for none.
    """

    time_ns: int
    angles: np.ndarray
    gripper: float = 1.0
    gripper_measured: bool = False
    powered: bool = True
    error: int = 0


@dataclasses.dataclass(frozen=True)
class RobotHealth:
    """State of the connection; counts since `connect`.

    Attributes:
        connected: the last exchange was answered.
        reads, failed_reads: complete angle readings, and attempts that gave none.
        writes, superseded: targets sent, and targets replaced by a newer one before they were sent.
        expired: targets dropped unsent because they had become too old.
        unanswered: commands without an acknowledgement.
        reconnects: times the port was opened again.
        last_error: the newest trouble in words, "" for none.
    """

    connected: bool = False
    reads: int = 0
    failed_reads: int = 0
    writes: int = 0
    superseded: int = 0
    expired: int = 0
    unanswered: int = 0
    reconnects: int = 0
    last_error: str = ""


class Robot(Protocol):
    """An arm. Only `connect`, `close`, `set_*` and `clear_error` may block (for seconds)."""

    name: str

    def connect(self) -> Mapping[str, Any]:
        """Opens the connection, prepares the arm for streamed targets, verifies that it is ready.

        Nothing moves. Returns what identifies the arm (port, firmware...), plain JSON values.

        Raises:
            RobotError: no answer, power off, or a mode that cannot be set.
        """
        ...

    def read(self) -> Reading | None:
        """The newest complete reading, however old; None before the first."""
        ...

    def write(self, angles: np.ndarray, gripper: float | None) -> None:
        """Sets the newest target [J] (rad) and opening (None: as it is); drops an unsent one."""
        ...

    def hold(self) -> None:
        """Stops where it is, before anything else; unsent targets are dropped."""
        ...

    def set_power(self, on: bool) -> None:
        """Switches the servos; raises RobotError unless the arm confirms. Off, an arm falls."""
        ...

    def set_free(self, free: bool) -> None:
        """Lets the joints be moved by hand, or grips them where they are; raises RobotError."""
        ...

    def clear_error(self) -> None:
        """Stops the arm and clears the error that its controller keeps; moves nothing.

        Afterwards `read` tells the error that it has. Only because a person asked for it.

        Raises:
            RobotError: not known to be cleared; names the error and what to do.
        """
        ...

    def health(self) -> RobotHealth:
        """State of the connection."""
        ...

    def close(self) -> None:
        """Holds, then closes the connection; twice does no harm."""
        ...
