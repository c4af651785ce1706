"""Statistics of a dataset and the project's only normalise/unnormalise pair.

Flows in: arrays in physical units and `Stats` (or limits of a spec). Flows out: `Affine` maps and
normalised arrays. Works on numpy and jax arrays alike without importing jax. Images are never
normalised here: they stay uint8 until the policy's encoder.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array")

# A dimension whose spread is below this fraction of its magnitude carries no signal: dividing by it
# would turn rounding noise into targets of size one.
NEAR_CONSTANT = 1e-4

# A binary dimension that rarely changes has a tiny deviation; its values stay within this many.
BINARY_DEVIATIONS = 10.0

METHODS = ("standard", "min_max", "quantile", "limits")


@dataclasses.dataclass(frozen=True)
class FeatureStats:
    """Statistics of one feature over a dataset; every array is float32 [D] in physical units."""

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    count: int

    def near_constant(self) -> np.ndarray:
        """Bool [D]: dimensions whose range is negligible beside their magnitude."""
        magnitude = np.maximum(np.maximum(np.abs(self.min), np.abs(self.max)), 1e-6)
        return (self.max - self.min) <= NEAR_CONSTANT * magnitude

    def binary(self) -> np.ndarray:
        """Bool [D]: dimensions that take two values only, however often each.

        The variance of numbers in [min, max] is at most (max - mean) (mean - min), and equal to it
        only when every number is one of the two ends (Bhatia & Davis 2000, "A better bound on the
        variance"). The tolerance is that of float32 statistics.
        """
        mean, std, low, high = (
            np.asarray(x, np.float64) for x in (self.mean, self.std, self.min, self.max)
        )
        most = (high - mean) * (mean - low)
        tolerance = 1e-4 * most + 2e-7 * np.abs(mean) * (high - low)
        return (np.abs(most - std**2) <= tolerance) & ~self.near_constant() & (self.count > 2)


Stats = dict[str, FeatureStats]


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map x_normalised = (x - offset) / scale; float32 [D] each, scale > 0."""

    offset: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        for name in ("offset", "scale"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))
        if self.offset.shape != self.scale.shape or self.offset.ndim != 1:
            raise ValueError(
                f"affine: shapes {self.offset.shape} and {self.scale.shape} must be [D]"
            )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all()):
            raise ValueError("affine: offset and scale must be finite")
        if not (self.scale > 0).all():
            raise ValueError(f"affine: scale must be positive, found {self.scale.min()}")


# Feature name -> map; the action's key is "action".
Normalizer = dict[str, Affine]


def normalize(x: Array, affine: Affine) -> Array:
    """Physical units [..., D] -> normalised [..., D]."""
    return (x - affine.offset) / affine.scale  # type: ignore[operator]


def unnormalize(x: Array, affine: Affine) -> Array:
    """Normalised [..., D] -> physical units [..., D]; the inverse of `normalize`."""
    return x * affine.scale + affine.offset  # type: ignore[operator]


def normalize_observation(
    observation: Mapping[str, Any], normalizer: Mapping[str, Affine]
) -> dict[str, Any]:
    """Normalises each feature [..., D] that has a map; the others (images) pass unchanged."""
    return {
        name: normalize(value, normalizer[name]) if name in normalizer else value
        for name, value in observation.items()
    }


def affine_from_stats(stats: FeatureStats, method: str) -> Affine:
    """The map that a method gives for a feature.

    Args:
        stats: the feature's statistics.
        method: "standard" ((x - mean) / std), "min_max" (min..max -> -1..1) or "quantile"
            (1 % .. 99 % -> -1..1).

    Near-constant dimensions keep unit scale, so that they map to about 0 and never explode. Binary
    dimensions that rarely change (a gripper that closes once) stay bounded: "standard" maps them
    within `BINARY_DEVIATIONS`, "quantile", for which both quantiles are the same value, to 0 and
    +-1.
    """
    if method == "standard":
        offset, scale, spread = stats.mean, stats.std, stats.std
    elif method in ("min_max", "quantile"):
        low, high = (stats.min, stats.max) if method == "min_max" else (stats.q01, stats.q99)
        offset, scale, spread = (high + low) / 2, (high - low) / 2, high - low
    else:
        raise ValueError(f"normalization method {method!r} is unknown; choose one of {METHODS}")
    constant, binary = stats.near_constant(), stats.binary()
    # A dimension can have q01 == q99 although it is not constant: unit scale there too.
    flat = constant | (spread <= NEAR_CONSTANT * np.maximum(np.abs(offset), 1e-6))
    scale = np.where(flat, 1.0, scale)
    between = stats.max - stats.min
    scale = np.where(binary & flat, between, scale)
    if method == "standard":
        scale = np.where(binary, np.maximum(scale, between / BINARY_DEVIATIONS), scale)
    return Affine(offset=offset, scale=scale)


def affine_from_limits(low: Sequence[float], high: Sequence[float]) -> Affine:
    """The map that takes [low, high] to [-1, 1] (ARP on Push-T: (v - 256) / 256)."""
    lo, hi = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return Affine(offset=(lo + hi) / 2, scale=(hi - lo) / 2)


def stats_to_json(stats: Mapping[str, FeatureStats]) -> dict[str, Any]:
    """Stats -> plain JSON values (exact: every float32 survives the round trip)."""
    return {name: _arrays_to_json(dataclasses.asdict(s)) for name, s in stats.items()}


def stats_from_json(data: Mapping[str, Any]) -> Stats:
    """The inverse of `stats_to_json`; raises ValueError naming a feature with an absent key."""
    stats = {}
    for name, entry in data.items():
        try:
            arrays = {k: np.asarray(v, np.float32) for k, v in entry.items() if k != "count"}
            stats[name] = FeatureStats(count=int(entry["count"]), **arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"statistics of {name!r} are incomplete: {error}") from error
    return stats


def normalizer_to_json(normalizer: Mapping[str, Affine]) -> dict[str, Any]:
    """Normalizer -> plain JSON values."""
    return {name: _arrays_to_json(dataclasses.asdict(a)) for name, a in normalizer.items()}


def normalizer_from_json(data: Mapping[str, Any]) -> Normalizer:
    """The inverse of `normalizer_to_json`."""
    return {
        name: Affine(np.asarray(a["offset"]), np.asarray(a["scale"])) for name, a in data.items()
    }


def stats_hash(stats: Mapping[str, FeatureStats]) -> str:
    """SHA-256 (hex) of the statistics, independent of the order of the features."""
    return hashlib.sha256(json.dumps(stats_to_json(stats), sort_keys=True).encode()).hexdigest()


def _arrays_to_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in entry.items()}
