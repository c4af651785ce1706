"""Streaming statistics against numpy on the whole array; bounded memory; clear errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.stats import Reservoir, compute_stats, near_constant_dims
from arp_jax.specs import FeatureSpec, ObservationSpec


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
