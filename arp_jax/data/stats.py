"""Statistics of a dataset in one streaming pass.

Flows in: rows of vector features, episode by episode, in physical units. Flows out: `Stats` of
`arp_jax.normalize`. Every row counts: nothing is estimated from one element of a batch. Images have
no statistics. What is done with the statistics is in `arp_jax/normalize.py`, not here.

Mean and variance are merged block by block (Chan, Golub & LeVeque 1979, "Updating formulae and a
pairwise algorithm for computing sample variances"), in float64. Quantiles are exact up to
`RESERVOIR_ROWS` rows; beyond, they are those of a uniform sample of that many rows (the rows with
the smallest of independent random keys), reproducible for a given order of the rows. The parts of a
dataset, or several datasets, are merged the same way (`merge_stats`).

    python -m arp_jax.data.stats DATA/push_t/1.0.0          a table, made by `stats_report.py`
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.normalize import Affine, FeatureStats, Stats, normalize
from arp_jax.specs import ActionSpec, ObservationSpec

RESERVOIR_ROWS = 262_144


class Reservoir:
    """Uniform sample without replacement of a stream of rows; exact while it fits."""

    def __init__(self, capacity: int, stream: int = 0) -> None:
        """Takes the sample's size, and a number that parts to be merged must not share."""
        self._capacity = capacity
        self._rng = np.random.Generator(np.random.Philox(key=stream))
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

    def merge(self, other: "Reservoir") -> None:
        """Takes in another sample; this one is then a sample of the rows offered to either."""
        self._keep_smallest()
        other._keep_smallest()
        # Below the smaller threshold both samples are complete.
        self._threshold = min(self._threshold, other._threshold)
        for keys, rows in zip(other._keys, other._rows, strict=True):
            self._keys.append(keys)
            self._rows.append(rows)
        keep = [keys <= self._threshold for keys in self._keys]
        self._keys = [keys[k] for keys, k in zip(self._keys, keep, strict=True)]
        self._rows = [rows[k] for rows, k in zip(self._rows, keep, strict=True)]
        self._keep_smallest()

    def sample(self) -> np.ndarray:
        """The sample, [min(n, capacity), D]."""
        self._keep_smallest()
        return self._rows[0]

    def _keep_smallest(self) -> None:
        if not self._keys:
            return
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        if len(keys) > self._capacity:
            keep = np.argpartition(keys, self._capacity)[: self._capacity]
            keys, rows = keys[keep], rows[keep]
            self._threshold = float(keys.max())
        self._keys, self._rows, self._held = [keys], [rows], len(keys)


class RunningStats:
    """Statistics of one feature, fed block by block; memory is bounded by the reservoir."""

    def __init__(self, reservoir_rows: int = RESERVOIR_ROWS, stream: int = 0) -> None:
        """Starts empty; parts that are to be merged need streams of their own (see `Reservoir`)."""
        self.count = 0
        self._mean = self._squares = np.zeros(())
        self._min, self._max = np.asarray(np.inf), np.asarray(-np.inf)
        self._reservoir = Reservoir(reservoir_rows, stream)

    def update(self, rows: np.ndarray) -> None:
        """Adds rows [n, D] of finite numbers (see `check_finite`)."""
        if rows.ndim != 2:
            raise ValueError(f"statistics need rows [n, D], found shape {rows.shape}")
        n = len(rows)
        if n == 0:
            return
        block = rows.astype(np.float64)
        mean = block.mean(axis=0)
        squares = np.square(block - mean).sum(axis=0)
        self._join(n, mean, squares, rows.min(axis=0), rows.max(axis=0))
        self._reservoir.add(rows)

    def merge(self, other: "RunningStats") -> None:
        """Takes in the rows of another part, which keeps its own."""
        if other.count:
            self._join(other.count, other._mean, other._squares, other._min, other._max)
            self._reservoir.merge(other._reservoir)

    def _join(
        self, n: int, mean: np.ndarray, squares: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Merges count, mean, sum of squared deviations and ends of n further rows, exactly."""
        total = self.count + n
        delta = mean - self._mean
        self._mean = self._mean + delta * (n / total)
        self._squares = self._squares + squares + np.square(delta) * (self.count * n / total)
        self._min, self._max = np.minimum(self._min, low), np.maximum(self._max, high)
        self.count = total

    def sample(self) -> np.ndarray:
        """The rows that the quantiles are taken of, [n, D]: all, or a uniform sample."""
        return self._reservoir.sample()

    def result(self) -> FeatureStats:
        """Statistics of all rows so far, float32 [D]; std is the population's (divided by n)."""
        if self.count == 0:
            raise ValueError("no rows: statistics of an empty dataset do not exist")
        q01, q99 = np.quantile(self.sample().astype(np.float64), [0.01, 0.99], axis=0)
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
    """Statistics of every vector feature and of the action; see `running_stats`."""
    return results(running_stats(episodes, reservoir_rows))


def results(running: Mapping[str, RunningStats]) -> Stats:
    """Name -> statistics of all rows so far."""
    return {name: stats.result() for name, stats in running.items()}


def running_stats(
    episodes: Iterable[Mapping[str, Any]], reservoir_rows: int = RESERVOIR_ROWS, stream: int = 0
) -> dict[str, RunningStats]:
    """One pass over the episodes.

    Args:
        episodes: dicts {"observation": {name: [T, ...]}, "action": [T, A], ...} (see `source.py`);
            consumed once. Observations that are not numbers [T, D] (images, text) are left out.
        reservoir_rows: rows kept for the quantiles.
        stream: number of this part where several are to be merged.

    Raises:
        ValueError: a value is NaN or infinite (names feature, episode and step), or no episodes.
    """
    running: dict[str, RunningStats] = {}
    for index, episode in enumerate(episodes):
        for name, rows in vector_features(episode).items():
            check_finite(rows, name, index)
            running.setdefault(name, RunningStats(reservoir_rows, stream)).update(rows)
    if not running:
        raise ValueError("no episodes: statistics of an empty dataset do not exist")
    return running


def merge_stats(parts: Sequence[Mapping[str, RunningStats]]) -> dict[str, RunningStats]:
    """Statistics of several parts as if they had been one.

    Count, mean, deviation and ends are exact; quantiles are exact while all rows together fit the
    reservoir, otherwise those of a uniform sample of all of them. Every row has the same weight, so
    a long part counts for more. The parts are left as they are.

    Args:
        parts: `running_stats` of each, made with different streams.

    Raises:
        ValueError: a feature is absent from a part or has another size there.
    """
    merged: dict[str, RunningStats] = {}
    for index, part in enumerate(parts):
        if part.keys() != parts[0].keys():
            name = sorted(part.keys() ^ parts[0].keys())[0]
            raise ValueError(f"statistics cannot be merged: {name!r} is not in all {len(parts)}")
        for name, running in part.items():
            sizes = (parts[0][name].sample().shape[1], running.sample().shape[1])
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"statistics cannot be merged: {name!r} has {sizes[0]} dimensions in part 0, "
                    f"{sizes[1]} in part {index}"
                )
            merged.setdefault(name, RunningStats()).merge(running)
    return merged


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
    stats: Mapping[str, FeatureStats],
    spec: ObservationSpec | None = None,
    action: ActionSpec | None = None,
) -> list[str]:
    """Names of dimensions that hardly vary, e.g. "keypoints[x0]"; their scale is kept at one.

    Args:
        stats: statistics of a dataset.
        spec, action: names of the dimensions; for features that they lack, indices are used.
    """
    return _flagged({n: f.near_constant() for n, f in stats.items()}, spec, action)


def binary_dims(
    stats: Mapping[str, FeatureStats],
    spec: ObservationSpec | None = None,
    action: ActionSpec | None = None,
) -> list[str]:
    """Names of dimensions that take two values only, as of `near_constant_dims`."""
    return _flagged({n: f.binary() for n, f in stats.items()}, spec, action)


def dim_names(
    spec: ObservationSpec | None, action: ActionSpec | None
) -> dict[str, tuple[str, ...]]:
    """Feature -> names of its dimensions, as far as the specs tell."""
    dims = {feature.name: feature.dims for feature in (spec.features if spec else ())}
    return dims | ({"action": action.dims} if action else {})


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in one line: "a, b, c", "a, b and 510 more", or "none"."""
    if len(names) <= most:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def outside_share(rows: np.ndarray, affine: Affine, bound: float = 1.0) -> np.ndarray:
    """Share [D] of rows [n, D] whose normalised value lies outside [-bound, bound]."""
    # A little slack: the ends themselves may be rounded across.
    return (np.abs(normalize(rows, affine)) > bound * (1 + 1e-5)).mean(axis=0)


def _flagged(
    flags: Mapping[str, np.ndarray], spec: ObservationSpec | None, action: ActionSpec | None
) -> list[str]:
    dims = dim_names(spec, action)
    return [
        f"{name}[{dims[name][i] if name in dims else i}]"
        for name, found in flags.items()
        for i in np.flatnonzero(found)
    ]


if __name__ == "__main__":
    # Imported here: the report reads packs, and writing a pack needs this module.
    from arp_jax.data.stats_report import main

    sys.exit(main())
