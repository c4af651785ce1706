"""A polite end: SIGTERM or SIGINT asks the loop to save and leave.

Flows in: signals. Flows out: a flag that the loop reads between two steps. The script then saves a
checkpoint and exits with `EXIT_CODE`, which schedulers read as "start me again with --resume". A
second signal ends the process at once. Not here: saving.
"""

import signal
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: the run is incomplete and healthy; start it again with --resume.
EXIT_CODE = 75


class Preemption:
    """Context manager that turns SIGTERM and SIGINT into a request to stop."""

    def __init__(self) -> None:
        self.signal_name = ""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        # With several processes jax's coordination service watches SIGTERM itself; a handler here
        # would hide the signal from it, and one process must not stop alone.
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def requested(self, step: int) -> bool:
        """Whether to save and stop after `step`; all processes get the same answer."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.signal_name = "SIGTERM"
        return bool(self.signal_name)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
