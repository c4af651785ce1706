"""Specs of a dataset that comes without any: names and units as told, limits as measured.

In: what flags or a reader's knowledge say about each feature, and the range of the recorded
actions. Out: `DatasetSpecs`. Or, where the user gives the specs of a dataset that this one shall
join, those, after a check that they fit.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from arp_jax.data.rlds import SPECS_FILE, DatasetSpecs
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

# Width given to a dimension that never changes: limits must differ.
_LEAST_WIDTH = 1e-3


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What the numbers of a feature or of the action are.

    Attributes:
        unit: physical unit.
        frame: what they are relative to.
        dims: names, or () for numbered ones.
    """

    unit: str = "unknown"
    frame: str = "unknown"
    dims: tuple[str, ...] = ()

    def named(self, name: str, size: int) -> tuple[str, ...]:
        """Names of `size` dimensions; raises ValueError when another number was given."""
        if self.dims and len(self.dims) != size:
            raise ValueError(f"{name!r} has {size} dimensions, {len(self.dims)} names were given")
        return self.dims or tuple(f"{name}_{i}" for i in range(size))


def value_range(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value [A] of arrays [T, A] of several episodes."""
    lows, highs = zip(*((p.min(axis=0), p.max(axis=0)) for p in parts), strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def feature_spec(name: str, size: int, meaning: Meaning) -> FeatureSpec:
    """Spec of a vector observation, without limits: a recording does not know them."""
    return FeatureSpec(name, meaning.named(name, size), meaning.unit, meaning.frame)


def action_spec(
    low: np.ndarray,
    high: np.ndarray,
    meaning: Meaning,
    *,
    rate_hz: float,
    absolute: Sequence[bool] | bool = True,
    gripper: str | None = None,
) -> ActionSpec:
    """Spec of the action; its limits are the recorded range [A], which the robot can certainly do.

    Raises:
        ValueError: wrong number of names, or a rate that is not positive.
    """
    dims = meaning.named("action", len(low))
    if isinstance(absolute, bool):
        absolute = [absolute] * len(dims)
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    constant = high - low < _LEAST_WIDTH
    return ActionSpec(
        dims=dims,
        unit=meaning.unit,
        frame=meaning.frame,
        absolute=tuple(absolute),
        low=tuple(np.where(constant, low - _LEAST_WIDTH, low).tolist()),
        high=tuple(np.where(constant, high + _LEAST_WIDTH, high).tolist()),
        rate_hz=rate_hz,
        gripper=gripper,
    )


def given_specs(
    path: Path, sizes: Mapping[str, int], cameras: Sequence[CameraSpec], action_size: int
) -> DatasetSpecs:
    """The specs in a file or folder, cut down to what was recorded.

    Args:
        path: specs.json, or a dataset's folder with one.
        sizes: vector features found -> dimensions.
        cameras: cameras found.
        action_size: A.

    Raises:
        ValueError: no such file, or it disagrees with what was recorded.
    """
    folder = path.parent if path.name == SPECS_FILE else path
    specs = DatasetSpecs.read(folder)
    if specs is None:
        raise ValueError(f"--specs {path}: no {SPECS_FILE} there")
    try:
        observation = specs.observation.select([*sizes, *(c.name for c in cameras)])
    except ValueError as error:
        raise ValueError(
            f"--specs {path}: {error}; rename with --vector or --camera, or leave it out"
        ) from error
    for feature in observation.features:
        _check_size(path, feature.name, feature.size, sizes[feature.name])
    _check_size(path, "action", specs.action.size, action_size)
    found = {camera.name: camera for camera in cameras}
    for camera in observation.cameras:
        other = found[camera.name]
        if (camera.height, camera.width) != (other.height, other.width):
            raise ValueError(
                f"--specs {path}: camera {camera.name!r} is {camera.height} x {camera.width}, "
                f"recorded were {other.height} x {other.width}"
            )
    return DatasetSpecs(observation, specs.action)


def recorded_observation(
    sizes: Mapping[str, int], meanings: Mapping[str, Meaning], cameras: Sequence[CameraSpec]
) -> ObservationSpec:
    """Specs of all vector features and cameras of a recording."""
    features = [feature_spec(n, size, meanings.get(n, Meaning())) for n, size in sizes.items()]
    return ObservationSpec(tuple(features), tuple(cameras))


def _check_size(path: Path, name: str, declared: int, recorded: int) -> None:
    if declared != recorded:
        raise ValueError(
            f"--specs {path}: {name!r} has {declared} dimensions, recorded were {recorded}"
        )
