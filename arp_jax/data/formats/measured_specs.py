"""Specs of a dataset that comes without any: names and units as told, limits as measured.

In: what flags or a reader's knowledge say about each feature, and the range of the recorded
actions. Out: `DatasetSpecs`. Or, where the user gives the specs of a dataset that this one shall
join, those, after a check that they fit.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from arp_jax.data.formats.array_episodes import Naming, join_columns
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


@dataclasses.dataclass(frozen=True)
class FoundEpisode:
    """What a reader found in one episode, without its pictures.

    Attributes:
        where: names file and episode in messages.
        arrays: source array -> [T, ...].
        pictures: source array -> (height, width).
    """

    where: str
    arrays: Mapping[str, np.ndarray]
    pictures: Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What all episodes have in common.

    Attributes:
        sizes: vector feature -> dimensions.
        cameras: with their sizes.
        low, high: [A], range of the stored actions.
        digest: SHA-256 over all vectors and actions; pictures would take too long to read.
    """

    sizes: dict[str, int]
    cameras: tuple[CameraSpec, ...]
    low: np.ndarray
    high: np.ndarray
    digest: str


def measure(naming: Naming, episodes: Iterable[FoundEpisode]) -> Measured:
    """Sizes and ranges; the first episode says what all others must have.

    Raises:
        ValueError: no episode; an array is missing, of another size than in the first episode, no
            numbers, or not finite. The message names episode and field.
    """
    first: FoundEpisode | None = None
    sizes: dict[str, int] = {}
    lows, highs, digest = [], [], hashlib.sha256()
    for episode in episodes:
        columns = _columns(naming, episode)
        if first is None:
            first = episode
            sizes = {name: values.shape[1] for name, values in columns.items()}
        _check_alike(naming, episode, columns, first, sizes)
        lows.append(columns["action"].min(axis=0))
        highs.append(columns["action"].max(axis=0))
        for values in columns.values():
            digest.update(values.tobytes())
    if first is None:
        raise ValueError("no episodes to convert")
    return Measured(
        sizes={name: sizes[name] for name in naming.vectors},
        cameras=tuple(CameraSpec(n, *first.pictures[s]) for n, s in naming.cameras.items()),
        low=np.min(lows, axis=0),
        high=np.max(highs, axis=0),
        digest=digest.hexdigest(),
    )


def _columns(naming: Naming, episode: FoundEpisode) -> dict[str, np.ndarray]:
    """The features and "action" of an episode, name -> float32 [T, D]."""
    sources = {**naming.vectors, "action": naming.action}
    found = {n: join_columns(episode.arrays, keys, episode.where) for n, keys in sources.items()}
    if len(found["action"]) == 0:
        raise ValueError(f"{episode.where}: {naming.action[0]!r} has no steps")
    return found


def _check_alike(
    naming: Naming,
    episode: FoundEpisode,
    columns: Mapping[str, np.ndarray],
    first: FoundEpisode,
    sizes: Mapping[str, int],
) -> None:
    """Raises ValueError unless the episode's arrays have the sizes of the first one's."""
    sources = {**naming.vectors, "action": naming.action}
    pairs = [
        (",".join(keys), f"{columns[name].shape[1]} columns", f"{sizes[name]} columns")
        for name, keys in sources.items()
    ]
    for source in naming.cameras.values():
        for one in (first, episode):
            if source not in one.pictures:
                there = sorted(one.pictures) or "no pictures"
                raise ValueError(f"{one.where}: no camera {source!r}; there are {there}")
        found, wanted = (
            "pictures of {} x {}".format(*one.pictures[source]) for one in (episode, first)
        )
        pairs.append((source, found, wanted))
    for source, found, wanted in pairs:
        if found != wanted:
            raise ValueError(
                f"{episode.where}: {source!r} has {found}, in the first episode {wanted}; "
                "convert such episodes apart or choose with --camera and --vector"
            )


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


def given_specs(path: Path, measured: Measured) -> DatasetSpecs:
    """The specs in a file or folder, cut down to what was recorded.

    Args:
        path: specs.json, or a dataset's folder with one.
        measured: what was found.

    Raises:
        ValueError: no such file, or it disagrees with what was recorded.
    """
    sizes, cameras = measured.sizes, measured.cameras
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
    _check_size(path, "action", specs.action.size, len(measured.low))
    found = {camera.name: camera for camera in cameras}
    for camera in observation.cameras:
        other = found[camera.name]
        if (camera.height, camera.width) != (other.height, other.width):
            raise ValueError(
                f"--specs {path}: camera {camera.name!r} is {camera.height} x {camera.width}, "
                f"recorded were {other.height} x {other.width}"
            )
    return DatasetSpecs(observation, specs.action)


def recorded_observation(measured: Measured, meanings: Mapping[str, Meaning]) -> ObservationSpec:
    """Specs of all vector features and cameras of a recording."""
    sizes = measured.sizes
    return ObservationSpec(
        tuple(feature_spec(name, size, meanings[name]) for name, size in sizes.items()),
        measured.cameras,
    )


def _check_size(path: Path, name: str, declared: int, recorded: int) -> None:
    if declared != recorded:
        raise ValueError(
            f"--specs {path}: {name!r} has {declared} dimensions, recorded were {recorded}"
        )
