"""What a person may ask of the running bridge, from any thread: validated, queued, told apart.

In: a name with arguments from the web page, the command line or a signal. Out: checked requests
that the control loop takes at its next tick, and a `Gate` between loop and arm that a hold or an
e-stop shuts at once, whatever the loop is doing. What a request leads to is `modes.py`'s and the
loop's business.
"""

import dataclasses
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_bridge.robots import Robot

MAX_TEXT = 2000
# A slip of the finger must not become a long way; holding the button repeats.
MAX_JOG_RAD = 0.27
# Nobody presses more buttons than this within one tick; a flood must not grow the memory.
MAX_PENDING = 256


@dataclasses.dataclass(frozen=True)
class Request:
    """One command of a person, arguments checked."""

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# command -> its arguments' types; `Bridge.command` lists what each does.
COMMANDS: dict[str, dict[str, type]] = {
    "start": {},
    "stop": {},
    "hold": {},
    "resume": {},
    "estop": {},
    "reset": {},
    "power_on": {},
    "success": {},
    "failure": {},
    "note": {"text": str},
    "instruction": {"text": str},
    "takeover": {"how": str},
    "give_back": {},
    "jog": {"joint": str, "change": float},
    "gripper": {"opening": float},
}
# These shut the gate before they are even queued for the loop.
SHUTTING = ("hold", "estop")
# What a stop does not make void: they move nothing.
_KEPT = ("success", "failure", "note", "instruction")
TAKEOVERS = ("jog", "free")


class Gate:
    """The only way from the loop to the arm's motion; anybody may shut it, only the loop opens it.

    Without it a target computed before an e-stop could be written after it.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot, self._lock = robot, threading.Lock()
        self._shuttings, self._open = 0, False

    @property
    def shuttings(self) -> int:
        """How often it was shut; read it before the requests, hand it to `open`."""
        return self._shuttings

    @property
    def is_open(self) -> bool:
        """Whether a target would be written now."""
        return self._open

    def shut(self) -> None:
        """Holds the arm; nothing is written any more until the loop opens it again."""
        with self._lock:
            self._shuttings += 1
            self._open = False
            self._robot.hold()

    def open(self, seen: int) -> bool:
        """Lets targets through, unless it was shut after `shuttings` was `seen`."""
        with self._lock:
            self._open = self._shuttings == seen
            return self._open

    def write(self, angles: np.ndarray, gripper: float | None) -> bool:
        """Hands a target to the arm; False when the gate is shut and nothing was written."""
        with self._lock:
            if self._open:
                self._robot.write(angles, gripper)
            return self._open


class Operator:
    """Takes commands from any thread; the loop takes them all at once, an e-stop first.

    Args:
        gate: shut at once by hold and e-stop.
        joints: names of the arm's joints, without the gripper.
    """

    def __init__(self, gate: Gate, joints: tuple[str, ...]) -> None:
        self._gate, self._joints = gate, joints
        self._pending: deque[Request] = deque()
        self._lock = threading.Lock()

    def command(self, name: str, **arguments: Any) -> None:
        """Queues a command.

        Raises:
            ValueError: unknown name or argument, a value out of range, or too many pending.
        """
        request = self._checked(name, arguments)
        with self._lock:
            # Those that make it safer are always taken.
            if len(self._pending) >= MAX_PENDING and name not in SHUTTING:
                raise ValueError(f"{name}: {MAX_PENDING} commands are waiting; is the loop alive?")
            if name in SHUTTING:
                # Whatever was asked before a stop is no longer meant, earlier stops included.
                estop = any(other.name == "estop" for other in self._pending)
                kept = [other for other in self._pending if other.name in _KEPT]
                self._pending.clear()
                self._pending.extend(kept)
                request = Request("estop") if estop else request
            self._pending.append(request)
        if name in SHUTTING:
            self._gate.shut()

    def take(self) -> list[Request]:
        """What was asked since the last call, in order; an e-stop comes first."""
        with self._lock:
            taken = list(self._pending)
            self._pending.clear()
        return sorted(taken, key=lambda request: request.name != "estop")

    def _checked(self, name: str, arguments: Mapping[str, Any]) -> Request:
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
        expected = COMMANDS[name]
        if set(arguments) != set(expected):
            raise ValueError(f"{name}: arguments {sorted(arguments)}, expected {sorted(expected)}")
        checked = {
            key: _converted(f"{name}: {key}", arguments[key], kind)
            for key, kind in expected.items()
        }
        self._check_ranges(name, checked)
        return Request(name, checked)

    def _check_ranges(self, name: str, arguments: Mapping[str, Any]) -> None:
        if name == "takeover" and arguments["how"] not in TAKEOVERS:
            raise ValueError(f"takeover: how must be one of {TAKEOVERS}, not {arguments['how']!r}")
        if name == "jog":
            if arguments["joint"] not in self._joints:
                raise ValueError(f"jog: no joint {arguments['joint']!r}; use one of {self._joints}")
            if abs(arguments["change"]) > MAX_JOG_RAD:
                raise ValueError(
                    f"jog: {arguments['change']:.3f} rad at once; at most {MAX_JOG_RAD} rad"
                )
        if name == "gripper" and not 0 <= arguments["opening"] <= 1:
            raise ValueError(f"gripper: opening {arguments['opening']} is not in 0 ... 1")


def _converted(where: str, value: Any, kind: type) -> Any:
    if kind is str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise ValueError(f"{where} must be a text of at most {MAX_TEXT} characters")
        return value
    # Not `isfinite` of any int: one of thousands of digits does not fit a float.
    number = isinstance(value, float) or (type(value) is int and abs(value) < 1e9)
    if not number or not np.isfinite(value):
        raise ValueError(f"{where} must be a finite number, not {str(value)[:40]!r}")
    return float(value)
