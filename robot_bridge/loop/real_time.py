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
_CLOCK_PRIORITY, _OTHERS_PRIORITY = 10, 1
_NICE = -10
# A waiting thread asks for the interpreter after this long (default 5 ms: a quarter of a 50 Hz
# period). Handing it over costs some 10 us, so it must not be much shorter.
_SWITCH_INTERVAL_S = 0.0005
# Objects made since the last collection at which one is due, and at which it cannot wait.
_YOUNG_DUE, _YOUNG_URGENT = 5_000, 200_000
_FULL_EVERY_NS, _FULL_URGENT_NS = 20_000_000_000, 300_000_000_000
# Looking for new threads takes some 100 us.
_REFRESH_NS, _REFRESH_EVERY_NS = 2_000_000, 1_000_000_000


class Priorities:
    """Scheduling of this process's threads; for the thread that keeps the clock.

    All threads are raised, not this one alone: it waits for the interpreter lock, and when other
    programs use all cores, the holder of the lock must run, too. The clock's is above the others.

    Attributes:
        reached: what was permitted, in words.
    """

    def __init__(self) -> None:
        self._real_time = sys.platform.startswith("linux") and _try_real_time(0, _CLOCK_PRIORITY)
        self._raised = {threading.get_native_id()}
        self._permitted = True
        self.refresh()
        clock = f"clock: SCHED_FIFO {_CLOCK_PRIORITY}" if self._real_time else "clock: as others"
        others = f"SCHED_RR {_OTHERS_PRIORITY}" if self._real_time else f"nice {_NICE}"
        self.reached = f"{clock}; others: {others if self._permitted else 'not raised'}"

    def refresh(self) -> None:
        """Raises threads that began since; call now and then."""
        if not sys.platform.startswith("linux"):
            self._permitted = False  # other systems have other ways
            return
        threads = {int(name) for name in os.listdir("/proc/self/task")}
        for thread in threads - self._raised:
            if self._real_time:
                self._permitted &= _try_real_time(thread, _OTHERS_PRIORITY)
            else:
                self._permitted &= _try_nice(thread)
        self._raised = threads


def _try_real_time(thread: int, priority: int) -> bool:
    """0: the calling thread. A thread that ended meanwhile is no failure."""
    # Reset on fork: a policy that is started here must not inherit it.
    policy = (os.SCHED_FIFO if thread == 0 else os.SCHED_RR) | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(priority))
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


def _try_nice(thread: int) -> bool:
    try:
        os.setpriority(os.PRIO_PROCESS, thread, _NICE)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


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
        self._young_ns, self._full_ns = 1_000_000, 4_000_000
        self._full_at_ns = time.monotonic_ns()
        self.collections = 0

    def collect(self, slack_ns: int) -> None:
        """Call at the end of a tick, with the time left until the next one."""
        young = gc.get_count()[0]
        waited_ns = time.monotonic_ns() - self._full_at_ns
        # Memory that is never given back would be worse than one late tick in minutes.
        has_time = slack_ns > 2 * self._full_ns or waited_ns > _FULL_URGENT_NS
        if waited_ns > _FULL_EVERY_NS and has_time:
            self._full_ns = self._run(2)
            self._full_at_ns = time.monotonic_ns()
        elif young > _YOUNG_URGENT or (young > _YOUNG_DUE and slack_ns > 2 * self._young_ns):
            self._young_ns = self._run(1)

    def _run(self, generation: int) -> int:
        start = time.monotonic_ns()
        gc.collect(generation)
        self.collections += 1
        return time.monotonic_ns() - start


class Upkeep:
    """What is done between ticks; nothing where both arguments are None.

    Attributes:
        scheduling: in words.
    """

    def __init__(self, priorities: Priorities | None, collector: SlackCollector | None) -> None:
        self._priorities, self._collector = priorities, collector
        self._refresh_ns = 0
        self.scheduling = "normal" if priorities is None else priorities.reached

    def between_ticks(self, slack_ns: int) -> None:
        """Call at the end of a tick, with the time left until the next one."""
        if self._collector is not None:
            self._collector.collect(slack_ns)
        now = time.monotonic_ns()
        if self._priorities is not None and now > self._refresh_ns and slack_ns > _REFRESH_NS:
            self._priorities.refresh()
            self._refresh_ns = now + _REFRESH_EVERY_NS
