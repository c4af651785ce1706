"""A bridge at work in a terminal: question, page, keys, one live line, and what came of it.

In: `Parts` and what to do with them. Out: a moved arm, a log, a summary, an exit status. Shared by
run, record, replay and teach; the bridge itself is `daemon.py`'s.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from robot_bridge.commands.assembly import make_page
from robot_bridge.commands.terminal import KEY_HELP, KEYS, Keyboard, LiveLine, confirm
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.parts import Parts
from robot_bridge.settings.config import Config

# Cameras and readings may need a moment before the first start.
_READY_S = 15.0
_LINE_S = 0.2
_OBEYED_TICKS = 3  # after these a command was looked at
_EPISODE = ("running", "hold")
# A hold is no end where somebody can let it go on.
_ACKNOWLEDGED = ("fault", "estop")
_STOPPED = ("hold", *_ACKNOWLEDGED)
STOPPED_STATUS = 3


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a session does.

    Attributes:
        question: asked before the first motion.
        yes: it is not asked.
        start: begin at once; else a person starts on the page or by key.
        episodes: so many, one after the other, then the end; None: as many as a person starts.
        seconds: end after so long; None: never.
        at_start: a command of the bridge, with arguments, for the beginning of each episode.
    """

    question: str
    yes: bool = False
    start: bool = True
    episodes: int | None = None
    seconds: float | None = None
    at_start: tuple[str, Mapping[str, Any]] | None = None


class Session:
    """Watches one bridge from the main thread; `step` is asked a few times a second.

    Args:
        bridge: open.
        plan: what to do.
        attended: a person can acknowledge a fault (by key or page); without, a fault is the end.
        line: shows what happens.
    """

    def __init__(self, bridge: Bridge, plan: Plan, attended: bool, line: LiveLine) -> None:
        self._bridge, self._plan, self._attended, self._line = bridge, plan, attended, line
        self._shown_s, self._quit = 0.0, False
        self._greeted = 0  # number of the last episode that `at_start` was called for
        self._started_tick: int | None = None
        self._restarts = 0

    def press(self, key: str) -> None:
        """A key: a command of the bridge, or the end."""
        if key == "q":
            self._quit = True
        elif key in KEYS:
            self._command(KEYS[key])

    def start(self) -> None:
        """Begins as soon as all parts are ready; raises ValueError with what is missing."""
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                self._bridge.command("start")
                break
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._started_tick = self._bridge.status()["tick"]

    def step(self) -> bool:
        """Looks and shows; True when the session is over."""
        status = self._bridge.status()
        mode, number = status["mode"], status["episode"]["number"]
        if time.monotonic() - self._shown_s > _LINE_S:
            self._line.show(status)
            self._shown_s = time.monotonic()
        if mode == "running" and number > self._greeted:
            self._greeted = number
            if self._plan.at_start is not None:
                name, arguments = self._plan.at_start
                self._command(name, **arguments)
        if mode in _STOPPED:
            # Nobody is there who could acknowledge or resume it.
            return self._quit or not self._attended
        finished = number - (mode in _EPISODE)
        if self._plan.episodes is not None and finished >= self._plan.episodes:
            return True
        return self._quit or (mode == "idle" and self._stays_idle(status, finished))

    def _stays_idle(self, status: Mapping[str, Any], finished: int) -> bool:
        """Starts the next episode where one is planned; True when nobody will start another."""
        if self._started_tick is None or status["tick"] < self._started_tick + _OBEYED_TICKS:
            return False
        if self._plan.episodes is not None and finished > self._restarts:
            self._restarts = finished
            self.start()
            return False
        # Whoever interrupts an approach does not want it to begin again by itself.
        return not self._attended

    def _command(self, name: str, **arguments: Any) -> None:
        try:
            self._bridge.command(name, **arguments)
        except ValueError as error:
            print(f"\n{error}", file=sys.stderr)


def run_session(parts: Parts, config: Config, plan: Plan) -> int:
    """Runs a bridge until it is over; returns the exit status: 3 when it ended stopped.

    Raises:
        ValueError: not confirmed, or the parts never were ready.
        RobotError: the arm is not ready.
    """
    stdin, stdout = sys.stdin, sys.stdout
    confirm(plan.question, plan.yes, stdin, stdout)
    line = LiveLine(stdout)
    with ExitStack() as stack:
        bridge = stack.enter_context(Bridge(parts))
        if config.web.enabled:
            page = stack.enter_context(make_page(config, bridge))
            print(f"page: {page.url}", flush=True)
        attended = config.web.enabled or stdin.isatty()
        session = Session(bridge, plan, attended, line)
        stack.enter_context(Keyboard(session.press, stdin))
        if stdin.isatty():
            print(KEY_HELP)
        if plan.start:
            session.start()
        reason = bridge.run(plan.seconds, session.step)
        line.end()
        last = bridge.status()
        stopped = last["mode"] in (_ACKNOWLEDGED if attended else _STOPPED)
        if stopped:
            print(f"stopped ({last['mode']}): {last['reason']}")
    summarize(last, reason, stdout)
    return STOPPED_STATUS if stopped else 0


def summarize(status: Mapping[str, Any], reason: str, out: TextIO) -> None:
    """What came of it: why it ended, interventions, timing, the log."""
    timing, recorder = status["timing"], status["recorder"]
    print(f"ended: {reason}", file=out)
    for name, count in sorted(status["interventions"].items()):
        print(f"  {name}: {count} times", file=out)
    shown = ", ".join(f"{name} {value}" for name, value in timing.items() if _is_number(value))
    print(f"  clock at {status['rate_hz']:g} Hz: {shown}", file=out)
    if recorder["path"]:
        print(f"  log: {recorder['path']} ({recorder['steps']} steps)", file=out)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
