"""Statistics of a dataset in one streaming pass.

Flows in: rows of vector features, episode by episode, in physical units. Flows out: `Stats` of
`arp_jax.normalize`. Every row counts: nothing is estimated from one element of a batch. Images have
no statistics. What is done with the statistics is in `arp_jax/normalize.py`, not here.

Mean and variance are merged block by block (Chan, Golub & LeVeque 1979, "Updating formulae and a
pairwise algorithm for computing sample variances"), in float64. Quantiles are exact up to
`RESERVOIR_ROWS` rows; beyond, they are those of a uniform sample of that many rows (the rows with
the smallest of independent random keys), reproducible for a given order of the rows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from arp_jax.normalize import FeatureStats, Stats
from arp_jax.specs import ObservationSpec

RESERVOIR_ROWS = 262_144


class Reservoir:
    """Uniform sample without replacement of a stream of rows; exact while it fits."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rng = np.random.Generator(np.random.Philox(key=0))
        self._keys: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._held = 0
        self._threshold = 1.0  # only rows with a smaller key can still be in the sample

    def add(self, rows: np.ndarray) -> None:
        """Offers rows [n, D] to the sample."""
        keys = self._rng.random(len(rows))
        candidate = keys < self._threshold
        self._keys.append(keys[candidate])
        self._rows.append(rows[candidate])
        self._held += int(candidate.sum())
        if self._held > 2 * self._capacity:
            self._keep_smallest()

    def sample(self) -> np.ndarray:
        """The sample, [min(n, capacity), D]."""
        self._keep_smallest()
        return self._rows[0]

    def _keep_smallest(self) -> None:
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        if len(keys) > self._capacity:
            keep = np.argpartition(keys, self._capacity)[: self._capacity]
            keys, rows = keys[keep], rows[keep]
            self._threshold = float(keys.max())
        self._keys, self._rows, self._held = [keys], [rows], len(keys)


class RunningStats:
    """Statistics of one feature, fed block by block; memory is bounded by the reservoir."""

    def __init__(self, reservoir_rows: int = RESERVOIR_ROWS) -> None:
        self.count = 0
        self._mean = self._squares = np.zeros(())
        self._min, self._max = np.asarray(np.inf), np.asarray(-np.inf)
        self._reservoir = Reservoir(reservoir_rows)

    def update(self, rows: np.ndarray) -> None:
        """Adds rows [n, D] of finite numbers (see `check_finite`)."""
        if rows.ndim != 2:
            raise ValueError(f"statistics need rows [n, D], found shape {rows.shape}")
        n = len(rows)
        if n == 0:
            return
        block = rows.astype(np.float64)
        mean = block.mean(axis=0)
        total = self.count + n
        delta = mean - self._mean
        self._mean = self._mean + delta * (n / total)
        self._squares = (
            self._squares
            + np.square(block - mean).sum(axis=0)
            + np.square(delta) * (self.count * n / total)
        )
        self._min = np.minimum(self._min, rows.min(axis=0))
        self._max = np.maximum(self._max, rows.max(axis=0))
        self.count = total
        self._reservoir.add(rows)

    def result(self) -> FeatureStats:
        """Statistics of all rows so far, float32 [D]; std is the population's (divided by n)."""
        if self.count == 0:
            raise ValueError("no rows: statistics of an empty dataset do not exist")
        q01, q99 = np.quantile(self._reservoir.sample().astype(np.float64), [0.01, 0.99], axis=0)
        arrays = {
            "mean": self._mean,
            "std": np.sqrt(self._squares / self.count),
            "min": self._min,
            "max": self._max,
            "q01": q01,
            "q99": q99,
        }
        return FeatureStats(
            count=self.count, **{k: np.asarray(v, np.float32) for k, v in arrays.items()}
        )


def compute_stats(
    episodes: Iterable[Mapping[str, Any]], reservoir_rows: int = RESERVOIR_ROWS
) -> Stats:
    """Statistics of every vector feature and of the action.

    Args:
        episodes: dicts {"observation": {name: [T, ...]}, "action": [T, A], ...} (see `rlds.py`);
            consumed once. Observations that are not numbers [T, D] (images, text) are left out.
        reservoir_rows: rows kept for the quantiles.

    Raises:
        ValueError: a value is NaN or infinite (names feature, episode and step), or no episodes.
    """
    running: dict[str, RunningStats] = {}
    for index, episode in enumerate(episodes):
        for name, rows in vector_features(episode).items():
            check_finite(rows, name, index)
            running.setdefault(name, RunningStats(reservoir_rows)).update(rows)
    if not running:
        raise ValueError("no episodes: statistics of an empty dataset do not exist")
    return {name: stats.result() for name, stats in running.items()}


def vector_features(episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The numeric arrays [T, D] of an episode, the action under the key "action"."""
    arrays = {name: np.asarray(value) for name, value in episode["observation"].items()}
    arrays["action"] = np.asarray(episode["action"])
    return {n: a for n, a in arrays.items() if a.ndim == 2 and a.dtype.kind in "fiu"}


def check_finite(rows: np.ndarray, name: str, episode: int) -> None:
    """Raises ValueError naming feature, episode and step of the first NaN or infinity in [T, D]."""
    finite = np.isfinite(rows)
    if not finite.all():
        step, dim = np.argwhere(~finite)[0]
        raise ValueError(
            f"{name}[{dim}] is {rows[step, dim]} in episode {episode}, step {step}: "
            "repair or leave out that episode"
        )


def near_constant_dims(
    stats: Mapping[str, FeatureStats], spec: ObservationSpec | None = None
) -> list[str]:
    """Names of dimensions that hardly vary, e.g. "keypoints[x0]"; their scale is kept at one.

    Args:
        stats: statistics of a dataset.
        spec: names of the dimensions; without it, or for features that it lacks, indices are used.
    """
    dims = {f.name: f.dims for f in spec.features} if spec is not None else {}
    return [
        f"{name}[{dims[name][i] if name in dims else i}]"
        for name, feature in stats.items()
        for i in np.flatnonzero(feature.near_constant())
    ]
