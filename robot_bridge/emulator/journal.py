"""Everything that reached the emulated arm, in order, with what the arm was doing at that moment.

The emulator writes; tests, the audit and the command line read. What is recorded is what came over
the wire, before any fault of the arm's own side.
"""

import dataclasses
import threading
from collections import deque
from collections.abc import Sequence

from robot_bridge.wire.frames import Command, Frame, encode, unpack_angles

MOTION = frozenset(
    {
        Command.SEND_ANGLE,
        Command.SEND_ANGLES,
        Command.SEND_COORD,
        Command.SEND_COORDS,
        Command.JOG_ANGLE,
        Command.JOG_COORD,
        Command.JOG_INCREMENT,
        Command.JOG_INCREMENT_COORD,
        Command.SET_ENCODER,
        Command.SET_ENCODERS,
    }
)
GRIPPER_MOTION = frozenset(
    {Command.SET_GRIPPER, Command.SET_GRIPPER_STATE, Command.SET_ELECTRIC_GRIPPER}
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing received, or one event.

    Attributes:
        time_ns: when its last byte arrived (the emulator's clock).
        frame: what came; None: no frame.
        junk: bytes before it that belonged to no frame.
        block: what arrived with it, where there was junk.
        event: something that happened to the arm instead: "reboot", "power off", ...
        degrees: [6], where the joints truly were.
        powered: whether the servos were on.
        newest_only: fresh mode 1.
        queued: targets waiting in the arm.
    """

    time_ns: int
    frame: Frame | None
    degrees: tuple[float, ...]
    powered: bool
    newest_only: bool
    queued: int = 0
    junk: int = 0
    block: bytes = b""
    event: str = ""

    @property
    def command(self) -> int:
        """Id of the frame, -1 without one."""
        return -1 if self.frame is None else self.frame.command

    @property
    def target(self) -> tuple[float, ...] | None:
        """Degrees [6] of a well-formed send_angles, else None."""
        if self.command != Command.SEND_ANGLES or self.frame is None or len(self.frame.data) != 13:
            return None
        return tuple(unpack_angles(self.frame.data[:12]))

    def __str__(self) -> str:
        seconds = f"{self.time_ns / 1e9:.4f}"
        if self.frame is None:
            return f"{seconds} {self.event or f'{self.junk} bytes that are no frame'}"
        known = self.command in set(Command)
        name = Command(self.command).name.lower() if known else f"0x{self.command:02X}"
        shown = encode(self.command, self.frame.data).hex(" ").upper()
        target = "" if self.target is None else f" {list(self.target)} {self.frame.data[-1]} %"
        return f"{seconds} {name}{target}  [{shown}]"


class Journal:
    """Entries in order, for several threads.

    Args:
        size: the newest so many are kept.

    Attributes:
        dropped: older ones that are gone.
    """

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._entries: deque[Entry] = deque(maxlen=size)
        self._lock = threading.Lock()

    def append(self, entry: Entry) -> None:
        """Adds one."""
        with self._lock:
            self.dropped += len(self._entries) == self._entries.maxlen
            self._entries.append(entry)

    def entries(self, since_ns: int = 0) -> Sequence[Entry]:
        """Those from that time on, oldest first."""
        with self._lock:
            kept = tuple(self._entries)
        return [entry for entry in kept if entry.time_ns >= since_ns]

    def count(self, command: int) -> int:
        """How many frames with this id came."""
        return sum(entry.command == command for entry in self.entries())
