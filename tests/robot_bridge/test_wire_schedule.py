"""Who is next on the arm's wire: importance, gaps, ages, nothing twice; on a clock of our own."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.wire.wire_schedule import READS, Job, JobKind, Pace, WireSchedule

MS = 1_000_000
GAP = 50 * MS


class Wire:
    """A schedule with its clock; every exchange takes `took` and is answered."""

    def __init__(self, pace: Pace | None = None, with_gripper: bool = True) -> None:
        self.now = 10**12
        self.schedule = WireSchedule(pace or Pace(), with_gripper, self.now)
        self.log: list[tuple[JobKind, int, int, Job]] = []

    def want(self, value: float, opening: float | None = None) -> None:
        self.schedule.want(np.full(6, value), opening, self.now)

    def step(self, took: int = 5 * MS, answered: bool = True, may_move: bool = True) -> Job | None:
        job, began = self.schedule.next(self.now, may_move), self.now
        if job is None:
            # Waiting may never miss something that becomes due.
            self.now += max(MS, int(self.schedule.wait_s(self.now, may_move) * 1e9))
            return None
        self.now += took
        self.schedule.done(job, began, self.now, answered)
        self.log.append((job.kind, began, self.now, job))
        return job

    def kind(self) -> JobKind | None:
        job = self.step()
        return None if job is None else job.kind

    def run(self, ms: int, **how: bool) -> list[JobKind]:
        end, first = self.now + ms * MS, len(self.log)
        while self.now < end:
            self.step(**how)
        return [kind for kind, *_ in self.log[first:]]


def test_a_stop_goes_before_everything_and_drops_what_was_not_sent():
    wire = Wire()
    wire.want(1.0, 0.5)
    wire.schedule.want_stop(wire.now)
    assert wire.kind() is JobKind.STOP
    kinds = wire.run(300)
    assert JobKind.TARGET not in kinds
    assert JobKind.GRIPPER not in kinds
    assert wire.schedule.superseded == 1


def test_an_unanswered_stop_is_repeated_and_nothing_else_is_sent():
    wire = Wire()
    wire.schedule.want_stop(wire.now)
    wire.want(1.0)
    assert wire.run(100, answered=False) == [JobKind.STOP] * 20
    assert wire.kind() is JobKind.STOP
    assert wire.run(30).count(JobKind.TARGET) == 1


def test_holding_at_every_tick_does_not_flood_the_wire():
    wire = Wire()
    began = wire.now
    for _ in range(100):
        wire.schedule.want_stop(wire.now)
        wire.run(20)
    stops = [kind for kind, *_ in wire.log].count(JobKind.STOP)
    assert 4 <= stops <= 2 * (wire.now - began) / 1e9 + 1
    wire.want(1.0)
    wire.run(20)
    wire.schedule.want_stop(wire.now)
    assert wire.kind() is JobKind.STOP  # after a motion at once


def test_only_the_newest_target_is_sent_and_once():
    wire = Wire()
    for value in (1.0, 2.0, 3.0):
        wire.want(value)
    kinds = wire.run(200)
    assert kinds.count(JobKind.TARGET) == 1
    sent = next(job for kind, _, _, job in wire.log if kind is JobKind.TARGET)
    np.testing.assert_array_equal(sent.angles, np.full(6, 3.0))
    assert wire.schedule.superseded == 2


def test_a_target_that_was_not_answered_is_not_sent_again():
    wire = Wire()
    wire.want(1.0)
    assert wire.run(400, answered=False).count(JobKind.TARGET) == 1


def test_old_targets_are_dropped():
    wire = Wire()
    wire.want(1.0, 0.0)
    wire.run(600, may_move=False)
    kinds = wire.run(300)
    assert JobKind.TARGET not in kinds
    assert JobKind.GRIPPER not in kinds
    assert wire.schedule.expired == 2


def test_a_gripper_that_is_there_is_not_commanded_again():
    wire = Wire()
    for _ in range(10):
        wire.want(1.0, 0.5)
        wire.run(100)
    kinds = [kind for kind, *_ in wire.log]
    assert kinds.count(JobKind.GRIPPER) == 1
    wire.schedule.forget()  # a restarted arm may have forgotten
    wire.want(1.0, 0.5)
    assert JobKind.GRIPPER in wire.run(100)


def test_an_opening_that_was_not_acknowledged_is_sent_with_the_next_wish_only():
    wire = Wire()
    wire.want(1.0, 0.5)
    assert wire.run(500, answered=False).count(JobKind.GRIPPER) == 1
    wire.want(1.0, 0.5)
    assert wire.run(400).count(JobKind.GRIPPER) == 1


@pytest.mark.parametrize("took_ms", [2, 20])
@pytest.mark.parametrize("rate_hz", [10, 50])
def test_nothing_starves(rate_hz, took_ms):
    wire, value = Wire(), 0.0
    for tick in range(4 * rate_hz):
        value += 0.01
        wire.want(value, (tick % 100) / 100)
        until = wire.now + 1_000_000_000 // rate_hz
        while wire.now < until:
            wire.step(took=took_ms * MS)
    kinds = [kind for kind, *_ in wire.log]
    seconds = (wire.now - wire.log[0][1]) / 1e9
    rates = {kind: kinds.count(kind) / seconds for kind in JobKind}
    assert rates[JobKind.TARGET] >= 6
    assert rates[JobKind.GRIPPER] >= 2
    assert 9 <= rates[JobKind.READ_ANGLES] <= 25.5  # the rate budget
    assert 2 <= rates[JobKind.READ_STATUS] <= 4.3
    assert 2 <= rates[JobKind.READ_GRIPPER] <= 4.3


def test_without_gripper_none_is_read():
    wire = Wire(with_gripper=False)
    assert JobKind.READ_GRIPPER not in wire.run(1000)


@pytest.mark.parametrize(
    ("field", "value"),
    [("gap_s", 0.02), ("angles_hz", 0.0), ("angles_hz", 80.0), ("max_age_s", float("nan"))],
)
def test_a_pace_that_the_arm_cannot_keep_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Pace(**{field: value})


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.floats(-1, 1), st.none() | st.floats(0, 1)),
        st.tuples(st.just("stop"), st.none(), st.none()),
        st.tuples(st.just("step"), st.integers(0, 300), st.booleans()),
        st.tuples(st.just("frozen"), st.integers(1, 300), st.booleans()),
        st.tuples(st.just("forget"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(EVENTS)
def test_rules_hold_for_any_stream_of_wishes(events):
    wire = Wire()
    wishes: dict[float, int] = {}  # target -> when
    stop_pending = False
    for name, first, second in events:
        if name == "want":
            value = first + len(wishes) * 10  # each target is unique
            wishes[value] = wire.now
            wire.want(value, second)
        elif name == "stop":
            wire.schedule.want_stop(wire.now)
            stop_pending = stop_pending or wire.schedule.stop_wanted
        elif name == "forget":
            wire.schedule.forget()
        else:
            job = wire.step(first * MS, answered=second, may_move=name == "step")
            if stop_pending:
                assert job == Job(JobKind.STOP)
                stop_pending = not second
            elif job is not None and name == "frozen":
                assert job.kind in READS
    sent = [(began, job.angles[0]) for _, began, _, job in wire.log if job.angles is not None]
    assert len({value for _, value in sent}) == len(sent), "a target went out twice"
    for began, value in sent:
        assert began - wishes[value] <= 500 * MS, "an old target went out"
    moves = [entry for entry in wire.log if entry[0] in (JobKind.TARGET, JobKind.GRIPPER)]
    for before, after in itertools.pairwise(moves):
        if before[0] is not after[0]:
            assert after[1] - before[2] >= GAP, "arm and gripper commands too close"
