"""A dead man's switch: the arm moves only while a page that somebody can see was heard lately.

In: beats of the page, whenever they come. Out: a hold of the bridge, counted and written into its
log. A thread of its own does it, so that a server that is stuck or gone ends in a hold, too.
"""

import logging
import threading
from collections.abc import Callable

from robot_bridge.safety.modes import MOVING
from robot_bridge.web.web_bridge import Bridge

LOG = logging.getLogger(__name__)
_LOOK_S = 0.05


class DeadMan:
    """Watches over one bridge; `beat` from any thread.

    Args:
        bridge: is held.
        limit_s: longest silence, 0.5 ... 60; 0: nothing is watched.
        clock_ns: monotonic time.

    Attributes:
        holds: how often it had to hold the arm.

    Raises:
        ValueError: another limit.
    """

    def __init__(self, bridge: Bridge, limit_s: float, clock_ns: Callable[[], int]) -> None:
        if limit_s != 0 and not 0.5 <= limit_s <= 60:
            raise ValueError(f"web dead man's time {limit_s} s: 0 (off), or 0.5 ... 60")
        self._bridge, self._limit_s, self._clock_ns = bridge, limit_s, clock_ns
        self._beat_ns: int | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="web dead man", daemon=True)
        self.holds = 0

    def start(self) -> None:
        """Begins to watch, if there is a limit."""
        if self._limit_s > 0:
            self._thread.start()

    def beat(self) -> None:
        """A page is there, and seen."""
        self._beat_ns = self._clock_ns()

    def close(self) -> None:
        """Ends the watch; twice does no harm."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        held = False
        while not self._closing.wait(_LOOK_S):
            if not self._silent() or not self._may_move():
                held = False
                continue
            try:
                self._bridge.command("hold")
            except ValueError as error:
                LOG.error("no page was heard, and hold was refused: %s", error)
            if not held:
                held = True
                self._tell()

    def _silent(self) -> bool:
        beat = self._beat_ns
        return beat is None or self._clock_ns() - beat > self._limit_s * 1e9

    def _may_move(self) -> bool:
        """Whether the arm moves, or nobody knows."""
        try:
            return self._bridge.status()["mode"] in MOVING
        except Exception:
            LOG.exception("the bridge's status cannot be read")
            return True

    def _tell(self) -> None:
        """The mode's reason says only that somebody asked for a hold: the log says who."""
        self.holds += 1
        text = f"no page was heard for {self._limit_s:g} s: hold"
        LOG.warning("%s", text)
        try:
            self._bridge.command("note", text=text)
        except ValueError as error:
            LOG.error("the episode log does not say so: %s", error)
