"""Normalisation: the inverse is a property, near-constant dimensions never explode."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arp_jax.normalize import (
    Affine,
    FeatureStats,
    affine_from_limits,
    affine_from_stats,
    normalize,
    normalize_observation,
    normalizer_from_json,
    normalizer_to_json,
    stats_from_json,
    stats_hash,
    stats_to_json,
    unnormalize,
)

FINITE = st.floats(-1e3, 1e3, width=32)
DATA = hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=FINITE)


def stats_of(data: np.ndarray) -> FeatureStats:
    q01, q99 = np.quantile(data, [0.01, 0.99], axis=0).astype(np.float32)
    return FeatureStats(
        mean=data.mean(0),
        std=data.std(0),
        min=data.min(0),
        max=data.max(0),
        q01=q01,
        q99=q99,
        count=len(data),
    )


@pytest.mark.parametrize("method", ["standard", "min_max", "quantile"])
@given(data=DATA)
def test_unnormalize_inverts_normalize(method, data):
    affine = affine_from_stats(stats_of(data), method)
    there = normalize(data, affine)
    assert np.isfinite(there).all()
    np.testing.assert_allclose(unnormalize(there, affine), data, rtol=1e-4, atol=2e-3)


@given(data=DATA)
def test_min_max_is_bounded(data):
    affine = affine_from_stats(stats_of(data), "min_max")
    assert np.abs(normalize(data, affine)).max() <= 1.0 + 1e-3


@pytest.mark.parametrize("method", ["standard", "min_max", "quantile"])
def test_near_constant_dimension_keeps_unit_scale(method):
    data = np.stack([np.full(100, 7.0), np.linspace(-1, 1, 100)], 1).astype(np.float32)
    data[3, 0] += 1e-5
    stats = stats_of(data)
    assert stats.near_constant().tolist() == [True, False]
    assert affine_from_stats(stats, method).scale[0] == 1.0
    assert np.abs(normalize(data, affine_from_stats(stats, method))).max() < 3


def test_rare_binary_dimension_keeps_unit_scale_under_quantiles():
    data = np.zeros((1000, 1), np.float32)
    data[:5] = 1.0
    affine = affine_from_stats(stats_of(data), "quantile")
    assert np.abs(normalize(data, affine)).max() == 1.0


@pytest.mark.parametrize("method", ["standard", "min_max", "quantile"])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-1, 1), (0, 255), (0.02, 0.058), (1e4, 1e4 + 5)]
)
@pytest.mark.parametrize("share", [1 / 50_000, 0.003, 0.3, 0.999])
def test_binary_dimensions_stay_finite_and_bounded(method, low, high, share):
    rows = np.full((50_000, 2), low, np.float32)
    rows[: round(50_000 * share), 0] = high
    rows[:, 1] = np.random.default_rng(0).uniform(low, high, 50_000)
    stats = stats_of(rows.astype(np.float64))
    stats = stats_from_json(json.loads(json.dumps(stats_to_json({"gripper": stats}))))["gripper"]
    assert stats.binary().tolist() == [True, False]
    there = normalize(rows, affine_from_stats(stats, method))
    assert np.isfinite(there).all()
    assert np.abs(there[:, 0]).max() <= 10.001
    back = unnormalize(there, affine_from_stats(stats, method))
    np.testing.assert_allclose(back, rows, rtol=1e-5, atol=1e-3 * (high - low))


def test_a_balanced_binary_dimension_is_standardised_as_any_other():
    rows = np.repeat(np.float32([[0], [1]]), 50, axis=0)
    affine = affine_from_stats(stats_of(rows), "standard")
    assert (affine.offset[0], affine.scale[0]) == (0.5, 0.5)


def test_two_values_and_one_between_are_not_binary():
    rows = np.repeat(np.float32([[0], [1]]), 50, axis=0)
    rows[7] = 0.5
    constant = np.full_like(rows, 3.0)
    assert stats_of(np.concatenate([rows, constant], 1)).binary().tolist() == [False, False]


def test_limits_are_the_reference_rule_of_push_t():
    affine = affine_from_limits((0.0, 0.0), (512.0, 512.0))
    v = np.array([[0.0, 512.0], [100.0, 256.0]], np.float32)
    np.testing.assert_array_equal(normalize(v, affine), (v - 256) / 256)


def test_numpy_and_jax_agree():
    affine = Affine(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    x = np.array([[5.0, 6.0]], np.float32)
    np.testing.assert_allclose(normalize(jnp.asarray(x), affine), normalize(x, affine), rtol=1e-6)


def test_images_pass_unchanged():
    image = np.zeros((2, 4, 4, 3), np.uint8)
    observation = {"image": image, "x": np.ones((2, 1), np.float32)}
    result = normalize_observation(observation, {"x": Affine(np.zeros(1), np.full(1, 2.0))})
    assert result["image"] is image
    assert result["x"].tolist() == [[0.5], [0.5]]


def test_json_round_trip_is_exact():
    stats = {"a": stats_of(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))}
    back = stats_from_json(json.loads(json.dumps(stats_to_json(stats))))
    assert stats_hash(back) == stats_hash(stats)
    normalizer = {"a": affine_from_stats(stats["a"], "standard")}
    again = normalizer_from_json(json.loads(json.dumps(normalizer_to_json(normalizer))))
    np.testing.assert_array_equal(again["a"].scale, normalizer["a"].scale)
    with pytest.raises(ValueError, match="'a' are incomplete"):
        stats_from_json({"a": {"mean": [0.0]}})


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        Affine(np.zeros(1), np.full(1, scale))


def test_unknown_method_names_the_choices():
    with pytest.raises(ValueError, match="min_max"):
        affine_from_stats(stats_of(np.eye(2, dtype=np.float32)), "zscore")
