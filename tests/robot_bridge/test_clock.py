"""The clock on simulated time: the grid, lateness, skipped ticks, no bursts; a short real run."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.loop.clock import Clock, Histogram

PERIOD_NS = 20_000_000  # 50 Hz


class Time:
    """Simulated monotonic time: sleeping takes `oversleep_ns` longer, looking takes 1 us."""

    def __init__(self, start_ns=123_456_789):
        self.now, self.oversleep_ns = start_ns, 0

    def now_ns(self):
        self.now += 1000
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += round(seconds * 1e9) + self.oversleep_ns


def make_clock(rate_hz=50.0):
    simulated = Time()
    return Clock(rate_hz, now_ns=simulated.now_ns, sleep=simulated.sleep), simulated


def test_ticks_lie_on_the_grid():
    clock, _ = make_clock()
    first = clock.wait()
    for number in range(1, 200):
        tick = clock.wait()
        assert tick.number == number
        assert tick.due_ns == first.due_ns + number * PERIOD_NS  # no drift at all
        assert 0 <= tick.woke_ns - tick.due_ns < 5000
    timing = clock.timing.to_json()
    assert timing["skipped"] == timing["overruns"] == timing["very_late"] == 0
    assert timing["late_max_ms"] < 0.005


@pytest.mark.parametrize(
    ("busy_periods", "skipped"), [(0.9, 0), (1.1, 1), (1.9, 1), (2.5, 2), (7.2, 7)]
)
def test_too_much_work_costs_ticks_and_the_next_is_on_the_grid(busy_periods, skipped):
    clock, simulated = make_clock()
    first = clock.wait()
    simulated.now += round(busy_periods * PERIOD_NS)
    tick = clock.wait()
    assert tick.skipped == skipped
    assert tick.due_ns == first.due_ns + (skipped + 1) * PERIOD_NS
    assert tick.woke_ns - tick.due_ns < 5000
    assert clock.timing.skipped == skipped
    assert clock.timing.overruns == (skipped > 0)
    assert clock.wait().number == tick.number + 1


def test_waking_late_is_measured_and_not_made_up_for():
    clock, simulated = make_clock()
    clock.wait()
    simulated.oversleep_ns = int(1.7 * PERIOD_NS)
    late = clock.wait()
    assert late.number == 1
    assert late.woke_ns - late.due_ns > 1.4 * PERIOD_NS
    simulated.oversleep_ns = 0
    following = clock.wait()
    # Point 2 passed, point 3 is only 0.3 periods after the late tick: a burst.
    assert following.number == 4 or following.woke_ns - late.woke_ns >= PERIOD_NS / 2
    assert following.skipped == following.number - 2
    assert clock.timing.very_late == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 10 * PERIOD_NS), st.integers(0, 5 * PERIOD_NS)),
        min_size=1,
        max_size=40,
    )
)
def test_never_a_burst_and_every_point_is_accounted_for(disturbances):
    clock, simulated = make_clock()
    last = clock.wait()
    for busy_ns, oversleep_ns in disturbances:
        simulated.now += busy_ns
        simulated.oversleep_ns = oversleep_ns
        tick = clock.wait()
        assert tick.number == last.number + 1 + tick.skipped
        assert tick.due_ns - last.due_ns == (tick.number - last.number) * PERIOD_NS
        assert tick.woke_ns >= tick.due_ns
        assert tick.woke_ns - last.woke_ns >= PERIOD_NS / 2
        last = tick
    timing = clock.timing.to_json()
    assert timing["ticks"] + timing["skipped"] == last.number + 1


def test_slack_is_what_is_left_of_the_period():
    clock, simulated = make_clock()
    assert clock.slack_ns() == 0
    clock.wait()
    simulated.now += PERIOD_NS // 4
    assert clock.slack_ns() == pytest.approx(0.75 * PERIOD_NS, abs=10_000)
    simulated.now += PERIOD_NS
    assert clock.slack_ns() < 0


@given(st.lists(st.integers(1_000, 10_000_000_000), min_size=1, max_size=300))
def test_quantiles_are_good_to_a_bucket(durations):
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    ordered = sorted(durations)
    for fraction in (0.5, 0.99):
        true = ordered[max(0, -int(-fraction * len(ordered) // 1) - 1)]
        found = histogram.quantile_ns(fraction)
        assert true * 0.999 <= found <= true * 1.1
    assert histogram.max_ns == ordered[-1]
    assert sum(count for _, count in histogram.buckets()) == len(durations)


def test_histogram_of_nothing_and_of_extremes():
    histogram = Histogram()
    assert histogram.quantile_ns(0.99) == 0
    histogram.add(-5)
    histogram.add(10**12)  # longer than the last bucket
    assert histogram.quantile_ns(0.5) <= 1000
    assert histogram.quantile_ns(1.0) == histogram.max_ns == 10**12


def test_real_time():
    """On any machine: the number of ticks fits the time that passed, none comes early."""
    clock = Clock(100.0)
    start = time.monotonic_ns()
    ticks = [clock.wait() for _ in range(30)]
    passed = time.monotonic_ns() - start
    assert all(tick.woke_ns >= tick.due_ns for tick in ticks)
    assert passed >= 29 * 10_000_000
    assert ticks[-1].number == 29 + clock.timing.skipped
