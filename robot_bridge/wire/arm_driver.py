"""What `mycobot.py` asks of whoever speaks to the arm: one blocking exchange a call.

Two implementations: `wire_driver.py` (own framing) and `pymycobot_driver.py` (the vendor's
classes). Both keep the same promises: a command is transmitted once, whatever becomes of it; a
reply is believed only as the answer to its own request; anything odd is "no reading" (None) or "not
acknowledged" (False), never an exception and never a number. Not thread safe, `interrupt` aside:
one owner.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

JOINTS = 6
# No joint of this arm turns farther; an angle beyond is a damaged frame.
BELIEVABLE_DEG = 200.0
ADAPTIVE_GRIPPER = 1  # type of gripper in its commands
# The vendor's server hands on one frame per message it gets, and never clears its own input: a
# reply that came late to it stays one message behind for good. This message makes it hand on the
# next frame, and the arm, which looks for a header, ignores it.
NUDGE = b"\x00\x00\x00\x00"
LATEST = 1  # fresh mode in which the newest target replaces older ones; 0 queues them


class ArmDriver(Protocol):
    """One arm behind a port. Angles are rad, openings 0 (closed) ... 1 (open), speeds 1 ... 100 %.

    Attributes:
        port: for people, e.g. "serial:/dev/ttyACM0".
        is_open: False after `open` failed or the port broke: `open` it again. A connection that a
            driver renews by itself after a miss stays open in this sense.
        answered: the last exchange got its reply.
        trouble: the newest trouble in words, "" for none.
    """

    port: str
    is_open: bool
    answered: bool
    trouble: str

    def open(self) -> None:
        """Opens the port, or opens it again; raises RobotError saying what to do."""
        ...

    def close(self) -> None:
        """Closes the port; twice does no harm."""
        ...

    def interrupt(self) -> None:
        """From any thread: makes way for `stop`, which must follow.

        The running wait for a reply is given up, where possible; its transmission stands. Until
        `stop` is called, nothing else is transmitted.
        """
        ...

    def get_angles(self) -> np.ndarray | None:
        """float64 [6], rad; None: no reading."""
        ...

    def get_gripper(self) -> float | None:
        """Opening; None: no reading (255, out of range, nothing)."""
        ...

    def send_angles(self, angles: np.ndarray, speed: int) -> bool:
        """Target [6]; whether it was acknowledged. Raises ValueError for what is no pose."""
        ...

    def send_gripper(self, opening: float, speed: int) -> bool:
        """Target opening; whether it was acknowledged."""
        ...

    def stop(self) -> bool:
        """Ends all motion where it is; goes out whatever is owed; whether it was acknowledged."""
        ...

    def is_powered(self) -> bool | None:
        """Whether the servos are on; None: no reading."""
        ...

    def set_power(self, on: bool) -> bool:
        """Whether it was acknowledged, which says little: ask `is_powered`."""
        ...

    def get_error(self) -> int | None:
        """The controller's error code, 0 for none; None: no reading."""
        ...

    def clear_error(self) -> bool:
        """Whether it was acknowledged; ask `get_error`."""
        ...

    def get_fresh_mode(self) -> int | None:
        """0 queue, 1 latest; None: no reading."""
        ...

    def set_fresh_mode(self, mode: int) -> bool:
        """Whether it was acknowledged; ask `get_fresh_mode`."""
        ...

    def release(self) -> bool:
        """Lets all joints loose (the arm may fall); whether it was acknowledged."""
        ...

    def focus(self) -> bool:
        """Grips all joints where they are; whether it was acknowledged."""
        ...

    def versions(self) -> Mapping[str, float | None]:
        """Versions of the robot, the basic controller and the ATOM; None: no reading."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Of the exchange with the arm, for people: exchanges, missed, stale, reopened..."""
        ...


def angles_of(degrees: list[float]) -> np.ndarray | None:
    """float64 [6] rad of a reply in degrees; None for what no arm can say."""
    angles = np.asarray(degrees, np.float64)
    if angles.shape != (JOINTS,) or not np.all(np.abs(angles) <= BELIEVABLE_DEG):
        return None
    return np.deg2rad(angles)


def degrees_of(angles: np.ndarray) -> list[float]:
    """Degrees [6] of a target in rad.

    The last guard before the wire: `safety_filter.py` has checked targets against limits, this one
    keeps programming errors out of the frame.

    Raises:
        ValueError: not six finite angles of less than half a turn.
    """
    angles = np.asarray(angles, np.float64)
    if angles.shape != (JOINTS,) or not np.all(np.abs(angles) <= np.pi):
        raise ValueError(f"target {angles}: expected {JOINTS} finite angles within half a turn")
    return [float(angle) for angle in np.rad2deg(angles)]


def gripper_count(opening: float) -> int:
    """Opening 0 ... 1 as the wire's 0 ... 100; raises ValueError outside."""
    if not 0.0 <= opening <= 1.0:
        raise ValueError(f"opening {opening}: expected 0 (closed) ... 1 (open)")
    return round(100 * opening)


def opening_of(count: object) -> float | None:
    """Opening of a gripper's reply; None for 255, -1 and all else that is not 0 ... 100."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 100:
        return None
    return count / 100


def percent(speed: int) -> int:
    """A speed that the wire can hold; raises ValueError for all but whole numbers 1 ... 100."""
    if isinstance(speed, bool) or not isinstance(speed, int) or not 1 <= speed <= 100:
        raise ValueError(f"speed {speed}: expected a whole number 1 ... 100")
    return speed
