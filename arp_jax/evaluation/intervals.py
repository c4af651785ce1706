"""Uncertainty of evaluation results: every rate and mean leaves here with n and an interval.

Flows in: per-episode outcomes (bool or float, [N]). Flows out: `Interval`s and `PairedDifference`s
for tables and JSON. Wraps `scipy.stats`; knows nothing of environments or policies.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

# The bootstrap's resampling noise must not change a printed digit between two runs.
_BOOTSTRAP_SEED = 0
_BOOTSTRAP_RESAMPLES = 9_999


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval.

    Attributes:
        value: point estimate.
        low, high: bounds of the interval.
        n: number of episodes behind it.
        confidence: nominal coverage, e.g. 0.95.
        method: how it was computed.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    method: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    def describe(self, percent: bool = False, digits: int = 3) -> str:
        """E.g. "0.612 [0.583, 0.641]", or "61.2 % [58.3, 64.1]" when `percent`."""
        if percent:
            return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Second minus first over the same episodes, with an interval and a test of "no difference".

    Attributes:
        difference: mean of second - first, with its interval.
        p_value: two-sided; exact McNemar for outcomes, Wilcoxon signed rank for numbers.
        first_only, second_only: discordant episodes (outcomes: successes of only one of the two;
            numbers: episodes in which that one is larger).
        test: name of the test.
    """

    difference: Interval
    p_value: float
    first_only: int
    second_only: int
    test: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def wilson(successes: np.ndarray, confidence: float = 0.95) -> Interval:
    """Wilson score interval (Wilson 1927) of a success rate.

    Args:
        successes: bool [N], one entry an episode.
        confidence: nominal coverage.

    Raises:
        ValueError: no episodes, or entries that are not 0 or 1.
    """
    outcomes = _outcomes(successes)
    test = stats.binomtest(int(outcomes.sum()), outcomes.size)
    interval = test.proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(
        float(outcomes.mean()),
        float(interval.low),
        float(interval.high),
        outcomes.size,
        confidence,
        "wilson",
    )


def mean_t(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Mean of float [N] with Student's t interval; a single episode has an infinite interval."""
    x = _values(values)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, -np.inf, np.inf, 1, confidence, "t")
    half = float(stats.t.ppf(0.5 + confidence / 2, x.size - 1) * stats.sem(x))
    return Interval(mean, mean - half, mean + half, x.size, confidence, "t")


def mean_bootstrap(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Mean of float [N] with a bias-corrected accelerated bootstrap interval.

    Suits the skewed, bounded scores of manipulation better than t; equal values (no spread to
    resample) give an interval of zero width; too few episodes fall back to `mean_t`.
    """
    x = _values(values)
    if x.size == 1:
        return mean_t(x, confidence)
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), float(x[0]), x.size, confidence, "bootstrap_bca")
    result = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_BOOTSTRAP_RESAMPLES,
        batch=max(1, 2_000_000 // x.size),
        method="BCa",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    ).confidence_interval
    if not np.isfinite([result.low, result.high]).all():
        # Too few distinct values for the bias correction to be defined.
        return mean_t(x, confidence)
    return Interval(
        float(x.mean()), float(result.low), float(result.high), x.size, confidence, "bootstrap_bca"
    )


def paired_outcomes(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> PairedDifference:
    """Difference of two success rates on the same episodes: exact McNemar test, paired bootstrap.

    Args:
        first, second: bool [N], entry i of both from the same initial state.
        confidence: nominal coverage of the interval of the difference.
    """
    a, b = _outcomes(first), _outcomes(second)
    _check_paired(a, b)
    first_only, second_only = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = first_only + second_only
    p_value = stats.binomtest(first_only, discordant).pvalue if discordant else 1.0
    difference = mean_bootstrap(b.astype(np.float64) - a.astype(np.float64), confidence)
    return PairedDifference(difference, float(p_value), first_only, second_only, "mcnemar_exact")


def paired_means(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> PairedDifference:
    """Difference of two means over the same episodes: paired bootstrap, Wilcoxon signed rank.

    Args:
        first, second: float [N], entry i of both from the same initial state.
        confidence: nominal coverage of the interval of the difference.
    """
    a, b = _values(first), _values(second)
    _check_paired(a, b)
    delta = b - a
    p_value = float(stats.wilcoxon(delta).pvalue) if np.any(delta != 0) else 1.0
    return PairedDifference(
        mean_bootstrap(delta, confidence),
        p_value,
        int((delta < 0).sum()),
        int((delta > 0).sum()),
        "wilcoxon_signed_rank",
    )


def _outcomes(values: np.ndarray) -> np.ndarray:
    x = np.asarray(values).reshape(-1)
    if x.size == 0:
        raise ValueError("a success rate needs at least one episode")
    if not np.isin(x, (0, 1)).all():
        raise ValueError(f"successes must be 0 or 1, found {x[~np.isin(x, (0, 1))][0]}")
    return x.astype(bool)


def _values(values: np.ndarray) -> np.ndarray:
    x = np.asarray(values, np.float64).reshape(-1)
    if x.size == 0:
        raise ValueError("a mean needs at least one episode")
    if not np.isfinite(x).all():
        raise ValueError(f"episode {int(np.flatnonzero(~np.isfinite(x))[0])} has no finite value")
    return x


def _check_paired(a: np.ndarray, b: np.ndarray) -> None:
    if a.size != b.size:
        raise ValueError(f"a paired comparison needs the same episodes: {a.size} and {b.size}")
