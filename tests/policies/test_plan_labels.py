"""Plan labels: chunk lists, resampling, pixels and heat-maps against hand-computed cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.policies.plan_labels import (
    chunk_blocks,
    gaussian_heatmaps,
    plan_from_actions,
    plan_to_pixels,
    resample_path,
)


def test_chunk_blocks_are_trimmed_to_the_number_of_tokens():
    assert chunk_blocks(2, 4, 4) == (2, 2, 2, 2)
    assert chunk_blocks(2, 4, 3) == (2, 2, 2, 3)
    assert chunk_blocks(2, 4, 1) == (2, 3, 4, 5)
    assert chunk_blocks(3, 4, 99) == (3, 3, 3, 3)
    assert chunk_blocks(3, 0, 4) == ()
    with pytest.raises(ValueError, match="at least 1, found 0"):
        chunk_blocks(0, 4, 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 20))
def test_chunk_blocks_have_the_length_and_rise_by_at_most_one(first, tokens, size):
    ids = np.asarray(chunk_blocks(first, tokens, size))
    assert len(ids) == tokens
    assert ids[0] == first
    assert set(np.diff(ids)) <= {0, 1}
    assert np.bincount(ids).max() <= size


def test_plan_keeps_both_ends_and_runs_backwards():
    actions = jnp.arange(16.0).reshape(1, 16, 1) * jnp.asarray([1.0, -1.0])  # a straight path
    np.testing.assert_allclose(resample_path(actions, 4)[0, :, 0], [0, 5, 10, 15], atol=1e-5)
    np.testing.assert_allclose(
        plan_from_actions(actions, 4)[0], [[15, -15], [10, -10], [5, -5], [0, 0]], atol=1e-5
    )


def test_short_plans_sit_in_the_middle_of_equal_stretches():
    actions = jnp.arange(16.0).reshape(1, 16, 1)
    np.testing.assert_allclose(resample_path(actions, 2)[0, :, 0], [3.5, 11.5])
    np.testing.assert_allclose(resample_path(actions, 1)[0, :, 0], [7.5])


def test_pixels_are_whole_and_inside_the_map():
    plan = jnp.asarray([[-1.2, -1.0], [0.0, 0.9999], [1.0, 3.0]])
    np.testing.assert_array_equal(plan_to_pixels(plan, 96), [[0, 0], [48, 95], [95, 95]])


def test_heatmaps_sum_to_one_peak_at_the_point_and_vanish_far_away():
    points = jnp.asarray([[10.0, 3.0], [0.0, 0.0], [500.0, 500.0]])
    maps = np.asarray(jax.jit(lambda p: gaussian_heatmaps(p, 12, 20, 1.5))(points))
    assert maps.shape == (3, 12, 20)
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (3, 10)
    np.testing.assert_allclose(maps.sum((1, 2)), [1.0, 1.0, 0.0], atol=1e-5)
    ratio = maps[0, 3, 12] / maps[0, 3, 10]  # two pixels away
    np.testing.assert_allclose(ratio, np.exp(-4 / (2 * 1.5**2)), rtol=1e-5)
    assert maps[0, 3, 15] == 0.0  # beyond three sigma
