"""A fixed rate: when each tick of the control loop begins, and how well that was met.

`Clock.wait` sleeps until just before the next point of a grid and spins over the rest. Work that
takes too long, or a machine that wakes us late, costs ticks: they are counted and left out, and the
next one is on the grid again, never two in quick succession. `Timing` keeps histograms of constant
size. What is done in a tick, and with which priority (`real_time.py`), is not decided here.
"""

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass

# Sleeping is good to about the kernel's timer slack (50 us) plus waking; the rest is spun.
SPIN_NS = 200_000
# Buckets an eighth of an octave wide from 1 us to 16 s: quantiles are good to 9 percent.
_EDGES_NS = [round(1000 * 2 ** (step / 8)) for step in range(8 * 24 + 1)]
# A control loop that is this late has missed its deadline for good at any rate that we run.
_VERY_LATE_NS = 20_000_000


class Histogram:
    """Counts of durations; constant memory, quantiles to 9 percent, the maximum exact."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_EDGES_NS) + 1)
        self.count, self.max_ns = 0, 0

    def add(self, duration_ns: int) -> None:
        """Counts one duration; negative ones count as 0."""
        self._counts[bisect.bisect_left(_EDGES_NS, duration_ns)] += 1
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)

    def quantile_ns(self, fraction: float) -> int:
        """Smallest bucket edge that at least this fraction does not exceed; 0 when empty."""
        wanted, seen = fraction * self.count, 0
        for edge, count in zip(_EDGES_NS, self._counts, strict=False):
            seen += count
            if seen >= wanted:
                return min(edge, self.max_ns)
        return self.max_ns

    def to_json(self, prefix: str) -> dict[str, float]:
        """p50, p99 and max in ms."""
        values = {"p50": self.quantile_ns(0.5), "p99": self.quantile_ns(0.99), "max": self.max_ns}
        return {f"{prefix}_{name}_ms": round(value / 1e6, 4) for name, value in values.items()}

    def buckets(self) -> list[tuple[float, int]]:
        """(upper edge in ms, count) of every bucket that is not empty."""
        edges = [*_EDGES_NS, max(self.max_ns, _EDGES_NS[-1])]
        return [(edge / 1e6, n) for edge, n in zip(edges, self._counts, strict=True) if n]


class Timing:
    """How well a clock's ticks were met; written by the loop's thread only.

    Attributes:
        late: wake lateness against the grid; busy: time from waking to the next wait.
        overruns: ticks whose work was not done when the next one was due.
        skipped: grid points without a tick.
        very_late: ticks that began more than 20 ms late.
    """

    def __init__(self) -> None:
        self.late, self.busy = Histogram(), Histogram()
        self.overruns = self.skipped = self.very_late = 0

    def to_json(self) -> dict[str, float]:
        """Keys: ticks, overruns, skipped, very_late, and late_... and busy_{p50,p99,max}_ms."""
        counts = {
            "ticks": self.late.count,
            "overruns": self.overruns,
            "skipped": self.skipped,
            "very_late": self.very_late,
        }
        return counts | self.late.to_json("late") | self.busy.to_json("busy")


@dataclass(frozen=True)
class Tick:
    """The beginning of one tick.

    Attributes:
        number: of the grid point, counted from 0 at the first.
        due_ns: monotonic time of the grid point; woke_ns: when the tick began.
        skipped: grid points between the tick before and this one.
    """

    number: int
    due_ns: int
    woke_ns: int
    skipped: int = 0


class Clock:
    """Ticks on a fixed grid; for one thread.

    Args:
        rate_hz: ticks per second.
        now_ns: monotonic time; sleep: of seconds. Parameters, so that tests need not wait.
        spin_ns: this much before a grid point sleeping ends and spinning begins.
    """

    def __init__(
        self,
        rate_hz: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        spin_ns: int = SPIN_NS,
    ) -> None:
        self.period_ns = round(1e9 / rate_hz)
        self.timing = Timing()
        self._now_ns, self._sleep, self._spin_ns = now_ns, sleep, spin_ns
        self._start_ns: int | None = None
        self._last: Tick | None = None

    def slack_ns(self) -> int:
        """Time left until the next grid point; negative when it has passed."""
        if self._last is None:
            return 0
        return self._last.due_ns + self.period_ns - self._now_ns()

    def wait(self) -> Tick:
        """Returns when the next tick begins; the first one begins at once."""
        if self._start_ns is None or self._last is None:
            self._start_ns = self._now_ns()
            tick = Tick(0, self._start_ns, self._start_ns)
        else:
            number = self._next_number(self._start_ns, self._last)
            due_ns = self._start_ns + number * self.period_ns
            skipped = number - self._last.number - 1
            tick = Tick(number, due_ns, self._sleep_until(due_ns), skipped)
        self._count(tick)
        self._last = tick
        return tick

    def _next_number(self, start_ns: int, last: Tick) -> int:
        """The first grid point that lies ahead, and at least half a period after the last waking.

        After a very late waking the next point may be close: taking it would be a burst.
        """
        now = self._now_ns()
        self.timing.busy.add(now - last.woke_ns)
        self.timing.overruns += now > last.due_ns + self.period_ns
        earliest = max(now, last.woke_ns + self.period_ns // 2)
        return max(last.number + 1, -((start_ns - earliest) // self.period_ns))

    def _sleep_until(self, due_ns: int) -> int:
        """Returns the time at which waiting ended."""
        while (left := due_ns - self._now_ns()) > self._spin_ns:
            self._sleep((left - self._spin_ns) / 1e9)
        while (now := self._now_ns()) < due_ns:
            pass
        return now

    def _count(self, tick: Tick) -> None:
        late = tick.woke_ns - tick.due_ns
        self.timing.late.add(late)
        self.timing.skipped += tick.skipped
        self.timing.very_late += late > _VERY_LATE_NS
