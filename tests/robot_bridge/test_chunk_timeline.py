"""Chunks become actions at the right time, as in simulation; seams are smooth; late ones go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.control.ensembling import ensembled_action, start_ensemble
from arp_jax.control.latency import arrived_actions, start_latency
from robot_bridge.actions.chunk_timeline import ChunkTimeline, ObservationWindow
from robot_bridge.observations import Frame, Observation

PERIOD = 100_000_000
MS = 1_000_000


def ramp(rows, start=0.0):
    """[rows, 2]: row j is (start + j, -start - j)."""
    column = start + np.arange(rows, dtype=np.float32)
    return np.stack([column, -column], axis=-1)


def test_row_j_is_for_j_periods_after_the_observation():
    timeline = ChunkTimeline(PERIOD)
    assert timeline.action(0) is None
    assert timeline.merge(ramp(5), observed_ns=1000, now_ns=1000 + 30 * MS)
    for row in range(5):
        planned = timeline.action(1000 + row * PERIOD)
        np.testing.assert_array_equal(planned.action, [row, -row])
        assert planned.action.dtype == np.float32
        assert planned.observed_ns == 1000


def test_between_two_rows_and_at_the_end():
    timeline = ChunkTimeline(PERIOD)
    timeline.merge(ramp(3), 0, 0)
    np.testing.assert_allclose(timeline.action(25 * MS).action, [0.25, -0.25])
    np.testing.assert_allclose(timeline.action(180 * MS).action, [1.8, -1.8], rtol=1e-6)
    # The last row lasts for its own period, and then there is nothing left to do.
    np.testing.assert_array_equal(timeline.action(299 * MS).action, [2, -2])
    assert timeline.action(300 * MS) is None
    assert timeline.plan(300 * MS) is None


def test_late_and_old_chunks_are_refused():
    timeline = ChunkTimeline(PERIOD)
    assert timeline.merge(ramp(4), 0, 3 * PERIOD)
    assert not timeline.merge(ramp(4), 1, 3 * PERIOD + 2), "no row of it lies ahead"
    assert not timeline.merge(ramp(9), 0, PERIOD), "from the same observation"
    assert not timeline.merge(ramp(9), -5, PERIOD), "from an earlier observation"
    np.testing.assert_array_equal(timeline.action(3 * PERIOD).action, [3, -3])


def test_a_newer_chunk_takes_over_at_once_without_blend():
    timeline = ChunkTimeline(PERIOD)
    timeline.merge(ramp(9), 0, 0)
    timeline.action(PERIOD)
    timeline.merge(ramp(9, 100), PERIOD, 2 * PERIOD)
    planned = timeline.action(2 * PERIOD)
    np.testing.assert_array_equal(planned.action, [101, -101])
    assert planned.observed_ns == PERIOD


def test_no_fade_out_of_a_chunk_that_had_ended():
    timeline = ChunkTimeline(PERIOD, blend=3)
    timeline.merge(ramp(3), 0, 0)
    timeline.action(0)
    assert timeline.action(5 * PERIOD) is None
    timeline.merge(ramp(9, 100), 5 * PERIOD, 6 * PERIOD)
    np.testing.assert_array_equal(timeline.action(6 * PERIOD).action, [101, -101])


def test_the_plan_is_what_lies_ahead_of_the_newest_chunk():
    timeline = ChunkTimeline(PERIOD)
    timeline.merge(ramp(5), 7, 7)
    plan = timeline.plan(7 + 2 * PERIOD + 5)
    np.testing.assert_array_equal(plan.times_ns, 7 + np.arange(2, 5) * PERIOD)
    np.testing.assert_array_equal(plan.actions, ramp(5)[2:])
    timeline.clear()
    assert timeline.plan(0) is None


@pytest.mark.parametrize(
    ("execute", "latency", "blend"), [(4, 0, 0), (4, 2, 0), (4, 2, 3), (3, 3, 2), (1, 0, 0)]
)
def test_same_actions_as_in_simulation(execute, latency, blend):
    """`control.latency` says what an evaluation executes: the timeline does the same."""
    rng = np.random.default_rng(0)
    rows, queries = 12, 5
    chunks = rng.normal(size=(queries, rows, 2)).astype(np.float32)
    past = start_latency(np.zeros(2, np.float32), rows, execute, latency, blend)
    expected = []
    for number, chunk in enumerate(chunks):
        actions, past = arrived_actions(past, chunk, execute, latency, blend, number)
        expected.extend(actions)
    timeline = ChunkTimeline(PERIOD, blend)
    for step, wanted in enumerate(expected):
        number, row = divmod(step - latency, execute)
        if row == 0 and number >= 0:
            observed = number * execute * PERIOD
            assert timeline.merge(chunks[number], observed, step * PERIOD)
        planned = timeline.action(step * PERIOD)
        if step < latency:
            assert planned is None
        else:
            np.testing.assert_allclose(planned.action, wanted, atol=1e-6)


def test_same_averages_as_in_simulation():
    rng = np.random.default_rng(1)
    chunks = rng.normal(size=(10, 4, 2)).astype(np.float32)
    ensemble = start_ensemble(chunks[0])
    timeline = ChunkTimeline(PERIOD, ensemble=0.3)
    for step, chunk in enumerate(chunks):
        expected, ensemble = ensembled_action(ensemble, chunk, 0.3)
        timeline.merge(chunk, step * PERIOD, step * PERIOD)
        np.testing.assert_allclose(timeline.action(step * PERIOD).action, expected, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 600), st.integers(0, 900), st.integers(1, 8)), max_size=12
    ),
    blend=st.integers(0, 4),
    ticks=st.lists(st.integers(1, 250), min_size=1, max_size=20),
    ensemble=st.booleans(),
)
def test_any_arrivals_give_actions_within_what_was_said(arrivals, blend, ticks, ensemble):
    """Between the least and the largest that any chunk ever said, and never from dead chunks."""
    timeline = ChunkTimeline(PERIOD, 0 if ensemble else blend, 0.1 if ensemble else None)
    waiting = sorted((seen * MS + delay * MS, seen * MS, rows) for seen, delay, rows in arrivals)
    rng = np.random.default_rng(0)
    now, end, said = 0, -1, []
    for tick in ticks:
        now += tick * MS
        while waiting and waiting[0][0] <= now:
            arrived, seen, rows = waiting.pop(0)
            chunk = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
            if timeline.merge(chunk, seen, arrived):
                said.append(chunk)
                end = max(end, seen + rows * PERIOD)
        planned = timeline.action(now)
        if planned is not None:
            assert now < end
            assert planned.observed_ns <= now
            every = np.concatenate(said)
            assert (planned.action >= every.min(0) - 1e-5).all()
            assert (planned.action <= every.max(0) + 1e-5).all()


def observation(time_ns, value):
    image = np.full((2, 2, 3), value, np.uint8)
    return Observation(time_ns, {"state": np.float64([value])}, {"image": Frame(time_ns, image)})


def values(window):
    newest, history = window.history()
    assert newest > 0
    assert [image.max() for image in history["image"]] == [row[0] for row in history["state"]]
    assert all(row.dtype == np.float32 for row in history["state"])
    return [row[0] for row in history["state"]]


def test_a_window_begins_with_the_first_observation():
    window = ObservationWindow(PERIOD, 3)
    with pytest.raises(LookupError, match="no observation"):
        window.history()
    window.push(observation(5, 1))
    assert values(window) == [1, 1, 1]
    window.push(observation(5 + PERIOD, 2))
    assert values(window) == [1, 1, 2]
    window.clear()
    window.push(observation(9 * PERIOD, 7))
    assert values(window) == [7, 7, 7]
    window.push(observation(PERIOD, 8))  # from another clock
    assert values(window) == [8, 8, 8]
    assert window.history()[0] == PERIOD


@pytest.mark.parametrize("faster", [1, 5])
def test_a_window_is_at_the_policys_rate_whatever_the_loops_rate(faster):
    window = ObservationWindow(PERIOD, 3)
    rng = np.random.default_rng(0)
    for tick in range(20 * faster):
        jitter = int(rng.integers(-3, 4)) * MS
        window.push(observation(1000 * MS + tick * PERIOD // faster + jitter, tick))
    newest = 20 * faster - 1
    assert values(window) == [newest - 2 * faster, newest - faster, newest]
