"""The terminal of a running bridge: a question before motion, keys, and one live line.

In: status as `Bridge.status` gives it, keys of a person. Out: text, and commands for the bridge.
Works without a terminal too (a log file, systemd): then a plain line now and then, and no keys.
"""

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import numpy as np

try:
    import termios
    import tty
except ImportError:  # Windows: no keys
    termios = None  # type: ignore[assignment]

# key -> command of the bridge; the two largest keys stop.
KEYS = {
    " ": "estop",
    "\n": "hold",
    "s": "start",
    "h": "hold",
    "r": "resume",
    "e": "estop",
    "x": "reset",
    "y": "success",
    "n": "failure",
}
KEY_HELP = (
    "keys: SPACE or e e-stop · ENTER or h hold · s start · r resume · x reset after a stop · "
    "y success · n failure · q quit"
)
_WIDTH = 118


def confirm(question: str, yes: bool, stdin: TextIO, stdout: TextIO) -> None:
    """Asks before something moves; returns only if it may.

    Raises:
        ValueError: the answer is not yes, or there is nobody to ask and `yes` was not said.
    """
    if yes:
        print(f"{question} yes (--yes)", file=stdout)
        return
    if not stdin.isatty():
        raise ValueError(f"{question} There is no terminal to ask on: say --yes")
    print(f"{question} [y/N] ", end="", flush=True, file=stdout)
    if stdin.readline().strip().lower() not in ("y", "yes"):
        raise ValueError("not confirmed; nothing moved")


def status_line(status: Mapping[str, Any]) -> str:
    """One line about a snapshot of `Bridge.status`, at most `_WIDTH` characters."""
    parts = [f"{status['mode']:<8}"]
    reading = status["reading"]
    if reading is None:
        parts.append("no reading")
    else:
        degrees = " ".join(f"{np.degrees(angle):.1f}" for angle in reading["angles"])
        believed = "" if reading["gripper_measured"] else "?"
        parts.append(f"{degrees} deg, gripper {reading['gripper']:.2f}{believed}")
    source, recorder = status["source"], status["recorder"]
    if recorder["recording"]:
        parts.append(f"{recorder['steps']} steps")
    if count := sum(status["interventions"].values()):
        parts.append(f"interventions {count}")
    # The last error of a part that works again is history.
    troubles = (
        recorder["trouble"],
        "" if status["robot"]["connected"] else status["robot"]["last_error"],
        "" if source["ready"] else source["last_error"],
    )
    parts += [trouble for trouble in troubles if trouble]
    if source["late"]:
        parts.append(f"{source['late']} late")
    parts.append(source["name"])
    if status["mode"] not in ("running", "approach") and status["reason"]:
        parts.insert(1, str(status["reason"]))
    line = " · ".join(parts)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


class LiveLine:
    """Rewrites one line of a terminal; on anything else a new line whenever the mode changes.

    Args:
        out: where to.
        write_every: on something that is not a terminal, a line at least each so many calls.
    """

    def __init__(self, out: TextIO, write_every: int = 50) -> None:
        self._out, self._every = out, write_every
        self._calls, self._mode = 0, ""

    def show(self, status: Mapping[str, Any]) -> None:
        """Shows a snapshot."""
        line = status_line(status)
        if self._out.isatty():
            print(f"\r{line:<{_WIDTH}}", end="", flush=True, file=self._out)
        elif status["mode"] != self._mode or self._calls % self._every == 0:
            print(line, flush=True, file=self._out)
        self._calls, self._mode = self._calls + 1, status["mode"]

    def end(self) -> None:
        """Leaves the line as it stands."""
        if self._out.isatty():
            print(file=self._out)


class Keyboard:
    """Reads single keys in a thread of its own; does nothing where stdin is no terminal.

    Args:
        pressed: called with each key, in this thread.
        stdin: where from.
    """

    def __init__(self, pressed: Callable[[str], None], stdin: TextIO) -> None:
        self._pressed, self._stdin = pressed, stdin
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._wake: tuple[int, int] | None = None

    def __enter__(self) -> "Keyboard":
        if termios is not None and self._stdin.isatty():
            self._wake = os.pipe()
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._wake is not None:
            os.write(self._wake[1], b"x")
            self._thread.join()
            for end in self._wake:
                os.close(end)
            self._wake = None

    def _read(self) -> None:
        assert self._wake is not None
        keys, wake = self._stdin.fileno(), self._wake[0]
        with _single_keys(keys):
            while True:
                ready, _, _ = select.select([keys, wake], [], [])
                if wake in ready:
                    return
                typed = os.read(keys, 1)
                if not typed:  # the terminal is gone
                    return
                self._pressed(typed.decode("latin1"))


@contextmanager
def _single_keys(terminal: int) -> Iterator[None]:
    """Keys arrive at once and unseen; Ctrl-C still interrupts."""
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def standard_streams() -> tuple[TextIO, TextIO]:
    """Where a command asks and tells."""
    return sys.stdin, sys.stdout
