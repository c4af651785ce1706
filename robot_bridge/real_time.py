"""What a thread that keeps a clock asks of the operating system and of the interpreter.

Priority: real-time scheduling where permitted (root, CAP_SYS_NICE, or `LimitRTPRIO=` as in the
systemd unit), else a better nice value, else nothing; which one is reported in words. Interpreter:
other threads hand over the lock sooner, and garbage is collected when there is time for it instead
of in the middle of a tick. All of it is undone at the end.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Well below the kernel's own threads (50): a loop that hangs must not block the machine.
_FIFO_PRIORITY = 10
_NICE = -10
# A waiting thread asks for the interpreter after this long (default 5 ms: a quarter of a 50 Hz
# period). Handing it over costs some 10 us, so it must not be much shorter.
_SWITCH_INTERVAL_S = 0.0005
# Objects made since the last collection at which one is due, and at which it cannot wait.
_YOUNG_DUE, _YOUNG_URGENT = 5_000, 200_000
_FULL_EVERY_NS = 20_000_000_000


def raise_process() -> str:
    """Gives all threads of this process a better nice value; returns what was reached.

    A thread with priority still waits for the interpreter lock of one without: when other programs
    use all cores, the holder of the lock must run too.
    """
    reached = True
    for thread in os.listdir("/proc/self/task"):
        try:
            os.setpriority(os.PRIO_PROCESS, int(thread), _NICE)
        except ProcessLookupError:
            continue  # it ended meanwhile
        except PermissionError:
            reached = False
    return f"nice {_NICE}" if reached else "nice unchanged (not permitted)"


def raise_thread() -> str:
    """Gives the calling thread real-time priority if permitted; returns what was reached."""
    try:
        # Reset on fork: a policy that this thread starts must not inherit it.
        policy = os.SCHED_FIFO | getattr(os, "SCHED_RESET_ON_FORK", 0)
        os.sched_setscheduler(0, policy, os.sched_param(_FIFO_PRIORITY))
    except (PermissionError, OSError):
        name = threading.current_thread().name
        return f"{name}: normal scheduling (real-time not permitted)"
    return f"{threading.current_thread().name}: SCHED_FIFO {_FIFO_PRIORITY}"


@contextmanager
def quiet_interpreter() -> Iterator[None]:
    """While inside, only `SlackCollector` collects garbage, and the lock changes hands sooner.

    For a process that runs one control loop: both settings are the process's.
    """
    interval, enabled = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # what is alive now lives as long as the loop: no need to look at it again
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if enabled:
            gc.enable()


class SlackCollector:
    """Collects garbage between ticks, if there is time for as long as it took last time."""

    def __init__(self) -> None:
        self._young_ns, self._full_ns = 1_000_000, 10_000_000
        self._full_at_ns = time.monotonic_ns()
        self.collections = 0

    def collect(self, slack_ns: int) -> None:
        """Call at the end of a tick, with the time left until the next one."""
        young = gc.get_count()[0]
        full_due = time.monotonic_ns() - self._full_at_ns > _FULL_EVERY_NS
        if full_due and slack_ns > 2 * self._full_ns:
            self._full_ns = self._run(2)
            self._full_at_ns = time.monotonic_ns()
        elif young > _YOUNG_URGENT or (young > _YOUNG_DUE and slack_ns > 2 * self._young_ns):
            self._young_ns = self._run(1)

    def _run(self, generation: int) -> int:
        start = time.monotonic_ns()
        gc.collect(generation)
        self.collections += 1
        return time.monotonic_ns() - start
