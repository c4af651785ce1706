"""Streaming statistics against numpy on the whole array; bounded memory; clear errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.stats import (
    Reservoir,
    RunningStats,
    binary_dims,
    compute_stats,
    listed,
    merge_stats,
    near_constant_dims,
    outside_share,
    results,
    running_stats,
)
from arp_jax.normalize import affine_from_limits
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec


def episodes_of(rows, lengths):
    bounds = np.cumsum(lengths)[:-1]
    return [
        {"observation": {"state": part, "image": np.zeros((len(part), 2, 2, 3), np.uint8)},
         "action": 2 * part}
        for part in np.split(rows, bounds)
    ]  # fmt: skip


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_equal_to_numpy_whatever_the_blocks(lengths, seed):
    # A mean far above the spread breaks the naive sum of squares.
    rows = np.random.default_rng(seed).normal(1e4, 1.0, (sum(lengths), 3)).astype(np.float32)
    stats = compute_stats(episodes_of(rows, lengths))
    assert set(stats) == {"state", "action"}  # images have no statistics
    exact = rows.astype(np.float64)
    got = stats["state"]
    assert got.count == len(rows)
    np.testing.assert_allclose(got.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(got.std, exact.std(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got.min, rows.min(0))
    np.testing.assert_array_equal(got.max, rows.max(0))
    np.testing.assert_allclose(got.q01, np.quantile(exact, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(got.q99, np.quantile(exact, 0.99, axis=0), rtol=1e-6)
    assert got.mean.dtype == got.q01.dtype == np.float32
    np.testing.assert_allclose(stats["action"].std, 2 * got.std, rtol=1e-5)


def test_reservoir_is_bounded_and_uniform():
    reservoir = Reservoir(capacity=2000)
    for block in np.arange(100_000.0).reshape(200, 500, 1):  # sorted: a biased sample would show
        reservoir.add(block)
        assert reservoir._held <= 4000 + 500
    sample = reservoir.sample()[:, 0]
    assert len(np.unique(sample)) == 2000
    # Standard error of a sample quantile in ranks: sqrt(q (1 - q) / n).
    for q in (0.01, 0.5, 0.99):
        tolerance = 4 * np.sqrt(q * (1 - q) / 2000) * 100_000
        assert abs(np.quantile(sample, q) - q * 100_000) < tolerance


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_episode_and_step(bad):
    rows = np.ones((9, 2), np.float32)
    rows[5, 1] = bad
    with pytest.raises(ValueError, match=r"state\[1\] is .* in episode 1, step 2"):
        compute_stats(episodes_of(rows, [3, 4, 2]))


def test_empty():
    with pytest.raises(ValueError, match="no episodes"):
        compute_stats([])


def test_near_constant_dims_are_named():
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    rows[:, 1] = 7
    stats = compute_stats(episodes_of(rows, [20]))
    spec = ObservationSpec(features=(FeatureSpec("state", ("x", "y"), "m", "world"),))
    assert near_constant_dims(stats, spec) == ["state[y]", "action[1]"]


def test_every_element_counts():
    """openpi's old script took one element of each batch: here each one moves the statistics."""
    lengths, size = [3, 1, 4], 2
    for step in range(sum(lengths)):
        for dim in range(size):
            rows = np.zeros((sum(lengths), size), np.float32)
            rows[step, dim] = 8.0
            stats = compute_stats(episodes_of(rows, lengths))["state"]
            other = 1 - dim
            assert (stats.max[dim], stats.mean[dim], stats.max[other]) == (8.0, 1.0, 0.0)
            assert stats.count == 8
            assert stats.std[dim] == np.float32(np.sqrt(8.0 - 1.0))


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_merged_parts_are_the_whole(lengths, seed):
    rows = np.random.default_rng(seed).normal(50.0, 3.0, (sum(lengths), 2)).astype(np.float32)
    episodes = episodes_of(rows, lengths)
    parts = [running_stats([episode], stream=i) for i, episode in enumerate(episodes)]
    merged, whole = results(merge_stats(parts)), compute_stats(episodes)
    again = results(merge_stats(parts))  # the parts are left as they are
    for name, expected in whole.items():
        for field in ("mean", "std", "min", "max", "q01", "q99"):
            found = getattr(merged[name], field)
            np.testing.assert_allclose(found, getattr(expected, field), rtol=2e-6, err_msg=field)
            np.testing.assert_array_equal(found, getattr(again[name], field))
        assert merged[name].count == expected.count


def test_merged_samples_are_uniform():
    # Part 0 has nine times the rows of part 1, which lie above: 10 % of a fair sample are of it.
    parts = []
    for stream, rows in enumerate((np.zeros((90_000, 1)), np.ones((10_000, 1)))):
        part = RunningStats(reservoir_rows=3000, stream=stream)
        for block in np.split(rows, 10):
            part.update(block)
        parts.append({"x": part})
    merged = RunningStats(reservoir_rows=3000)
    for part in parts:
        merged.merge(part["x"])
    sample = merged.sample()
    assert 2500 < len(sample) <= 3000
    assert abs(sample.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(sample))


def test_merging_names_what_does_not_fit():
    one, two = np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32)
    parts = [running_stats(episodes_of(rows, [4])) for rows in (one, two)]
    with pytest.raises(ValueError, match="'state' has 2 dimensions in part 0, 3 in part 1"):
        merge_stats(parts)
    with pytest.raises(ValueError, match="'action' is not in all 2"):
        merge_stats([parts[0], {"state": parts[0]["state"]}])


def test_binary_dims_are_named():
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows[:, 1] = rows[:, 0] > 1.5  # closes rarely
    rows[:, 2] = 4.0
    stats = compute_stats(episodes_of(rows, [200]))
    spec = ObservationSpec(features=(FeatureSpec("state", ("x", "grip", "z"), "m", "world"),))
    action = ActionSpec(("dx", "close", "dz"), "m", "world", (True,) * 3, (0,) * 3, (9,) * 3, 10.0)
    assert binary_dims(stats, spec) == ["state[grip]", "action[1]"]
    assert binary_dims(stats, spec, action) == ["state[grip]", "action[close]"]
    assert near_constant_dims(stats, spec, action) == ["state[z]", "action[dz]"]


def test_outside_share_counts_rows_beyond_the_map():
    rows = np.array([[-2.0, 0.0], [0.0, 1.0], [1.0, 3.0], [1.5, 0.5]])
    affine = affine_from_limits((-1.0, -1.0), (1.0, 1.0))
    assert outside_share(rows, affine).tolist() == [0.5, 0.25]
    assert outside_share(rows, affine, bound=2.0).tolist() == [0.0, 0.25]


def test_long_lists_of_names_are_cut():
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(512)], most=2) == "0, 1 and 510 more"
