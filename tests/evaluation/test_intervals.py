"""Intervals against published tables, closed forms and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from arp_jax.evaluation.intervals import (
    mean_bootstrap,
    mean_t,
    paired_means,
    paired_outcomes,
    wilson,
)


# Newcombe (1998), Statistics in Medicine 17:857, table I, method 3 (score, no correction).
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
     (1, 29, 0.0061, 0.1718)],
)  # fmt: skip
def test_wilson_reproduces_the_published_table(successes, n, low, high):
    interval = wilson(np.arange(n) < successes)
    assert interval.n == n
    assert interval.value == pytest.approx(successes / n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_t_interval_is_the_textbook_one():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * np.std(x, ddof=1) / 2  # t(0.975, 3 degrees of freedom)
    interval = mean_t(x)
    assert (interval.low, interval.high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-5)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    """Skewed scores in [0, 1] as in Push-T; 100 data sets of 60 episodes, nominal 95 %."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        interval = mean_bootstrap(rng.beta(2.0, 0.7, 60))
        hits += interval.low <= 2.0 / 2.7 <= interval.high
    # Binomial(100, 0.95): fewer than 87 has probability 1e-3.
    assert hits >= 87


def test_bootstrap_is_deterministic_and_survives_degenerate_data():
    x = np.random.default_rng(0).random(30)
    assert mean_bootstrap(x) == mean_bootstrap(x)
    constant = mean_bootstrap(np.full(5, 0.25))
    assert (constant.low, constant.value, constant.high) == (0.25, 0.25, 0.25)
    assert mean_bootstrap(np.array([0.5])).high == np.inf
    two = mean_bootstrap(np.array([0.0, 1.0]))
    assert two.low <= 0.5 <= two.high


def test_exact_mcnemar():
    """8 episodes solved only by the second, 2 only by the first: p = 2 P(Bin(10, .5) <= 2)."""
    first = np.array([1] * 20 + [0] * 8 + [1] * 2 + [0] * 10, bool)
    second = np.array([1] * 20 + [1] * 8 + [0] * 2 + [0] * 10, bool)
    paired = paired_outcomes(first, second)
    assert (paired.first_only, paired.second_only) == (2, 8)
    assert paired.p_value == pytest.approx(2 * stats.binom.cdf(2, 10, 0.5))
    assert paired.difference.value == pytest.approx(6 / 40)
    assert paired.difference.low < 6 / 40 < paired.difference.high
    same = paired_outcomes(first, first)
    assert (same.p_value, same.difference.value, same.difference.high) == (1.0, 0.0, 0.0)


def test_pairing_is_sharper_than_two_separate_intervals():
    rng = np.random.default_rng(0)
    first = rng.random(200)
    second = first + 0.02 + 0.02 * rng.standard_normal(200)
    paired = paired_means(first, second)
    assert paired.difference.low > 0
    assert paired.p_value < 1e-6
    assert mean_bootstrap(first).high > mean_bootstrap(second).low


def test_bad_outcomes_are_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        wilson(np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="at least one episode"):
        wilson(np.array([]))
    with pytest.raises(ValueError, match="episode 1 has no finite value"):
        mean_bootstrap(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="same episodes: 2 and 3"):
        paired_means(np.zeros(2), np.zeros(3))
