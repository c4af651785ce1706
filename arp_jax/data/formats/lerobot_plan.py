"""What a LeRobot v3.0 dataset will hold, decided before the first episode is written.

In: a source and a few choices. Out: `ExportPlan`: LeRobot's features with their keys, how pictures
are stored, and where each feature's values lie in a canonical episode. Also the names of the files
of one episode's part, which `lerobot_write.py` writes and `lerobot_join.py` puts together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.formats.lerobot_layout import (
    CAMERA_PREFIX,
    PREFIX,
    LeRobotFeature,
    default_names,
    import_parquet,
)
from arp_jax.data.formats.video import CODECS, DEFAULT_QUALITY, import_av
from arp_jax.data.rlds import DatasetSpecs, Episode
from arp_jax.data.source import Source, open_source
from arp_jax.specs import ObservationSpec

PART_FILE = "part.json"
PART_ROWS = "rows.parquet"
VIDEO, IMAGE = "video", "image"
_ACTION = "action"
# Step fields of ours -> LeRobot's names and types of them.
_STEP_FIELDS = {
    "reward": ("next.reward", "float32"),
    "is_last": ("next.done", "bool"),
    "is_terminal": ("next.success", "bool"),
}


@dataclasses.dataclass(frozen=True)
class ExportPlan:
    """See the top of the file.

    Attributes:
        source, card, split: what `open_source` opens, and the split that is written.
        episodes: how many, from the first.
        specs: of the canonical episodes, without what is left out.
        features: LeRobot's key -> its description, in the order of info.json.
        paths: LeRobot's key -> where the values lie in a canonical episode.
        codec, quality: of videos, see `video.encode_video`.
        task: of episodes without an instruction.
        robot: LeRobot's robot_type.
        data_mb, video_mb: most bytes (10^6) in a parquet or mp4 file with several episodes.
    """

    source: str
    card: str | None
    split: str
    episodes: int
    specs: DatasetSpecs
    features: Mapping[str, LeRobotFeature]
    paths: Mapping[str, tuple[str, ...]]
    codec: str
    quality: int
    task: str
    robot: str
    data_mb: float
    video_mb: float

    @property
    def rate_hz(self) -> float:
        """Steps a second."""
        return self.specs.action.rate_hz

    @property
    def observations(self) -> tuple[str, ...]:
        """Names of the observations to read."""
        return self.specs.observation.names

    @property
    def renamed_specs(self) -> DatasetSpecs:
        """The specs under the names that `convert_lerobot.py` gives to LeRobot's keys."""
        names = default_names(list(self.paths))
        new = {path[-1]: names[key] for key, path in self.paths.items() if key in names}
        observation = self.specs.observation
        return DatasetSpecs(
            ObservationSpec(
                tuple(dataclasses.replace(f, name=new[f.name]) for f in observation.features),
                tuple(dataclasses.replace(c, name=new[c.name]) for c in observation.cameras),
            ),
            self.specs.action,
        )

    def values(self, episode: Episode, key: str) -> Any:
        """The T values of a feature; raises ValueError when the episode lacks it."""
        node: Any = episode
        for name in self.paths[key]:
            if name not in node:
                raise ValueError(f"has no {'/'.join(self.paths[key])!r}, as the first episode has")
            node = node[name]
        return node

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def make_plan(
    source: Source,
    split: str,
    *,
    card: str | None = None,
    leave_out: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    pictures: str = VIDEO,
    codec: str = "h264",
    quality: int | None = None,
    episodes: int | None = None,
    task: str = "",
    robot: str = "unknown",
    data_mb: float = 100.0,
    video_mb: float = 200.0,
) -> ExportPlan:
    """Decides what is written; reads the first episode to see what its steps hold.

    Args:
        source: the dataset.
        split: name of one of its splits.
        card: with which `source` was opened, for the processes that open it again.
        leave_out: observations that are not written.
        rename: observation -> LeRobot's key, instead of observation.NAME or
            observation.images.NAME.
        pictures: VIDEO, or IMAGE to keep them in the parquet files as they are.
        codec, quality, task, robot, data_mb, video_mb: see `ExportPlan`.
        episodes: the first so many; None takes all.

    Raises:
        ImportError: pyarrow or PyAV is missing.
        ValueError: unknown split, observation, codec or way to store pictures; a rate that is no
            whole number, which LeRobot cannot express; a size that video cannot have.
    """
    _check_choices(source, split, codec)
    import_parquet()
    if pictures == VIDEO:
        import_av()
    specs = _without(source, leave_out)
    features, paths = _observations(specs, rename or {}, pictures)
    action = specs.action
    features[_ACTION] = LeRobotFeature(_ACTION, "float32", (action.size,), action.dims, False)
    paths[_ACTION] = (_ACTION,)
    first = next(source.episodes(f"{split}[:1]", specs.observation.names, decode_images=False))
    for name, (key, dtype) in _STEP_FIELDS.items():
        if name in first:
            features[key] = LeRobotFeature(key, dtype, (1,), None, False)
            paths[key] = (name,)
    return ExportPlan(
        source=str(source.path.resolve()),
        card=card,
        split=split,
        episodes=min(episodes or source.splits[split], source.splits[split]),
        specs=specs,
        features=features,
        paths=paths,
        codec=codec,
        quality=DEFAULT_QUALITY[codec] if quality is None else quality,
        task=task,
        robot=robot,
        data_mb=data_mb,
        video_mb=video_mb,
    )


def open_plan(plan: ExportPlan) -> Source:
    """The plan's source, opened again."""
    return open_source(plan.source, plan.card)


def part_folder(work: Path, number: int) -> Path:
    """Folder of the files of one episode."""
    return work / "parts" / f"episode-{number:06d}"


def part_video(folder: Path, key: str) -> Path:
    """A camera's video in such a folder."""
    return folder / f"{key}.mp4"


def column_array(feature: LeRobotFeature, values: Any) -> Any:
    """Values [T, D], or T encoded pictures, as the pyarrow column that LeRobot expects."""
    import pyarrow as pa

    if feature.is_camera:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.array([{"bytes": data, "path": None} for data in values], kind)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    size = feature.shape[0]
    return flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)


def _check_choices(source: Source, split: str, codec: str) -> None:
    if split not in source.splits:
        raise ValueError(f"{source.path}: no split {split!r}; there are {source.splits}")
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r} is unknown; choose one of {CODECS}")
    rate = source.specs.action.rate_hz
    if rate != round(rate):
        raise ValueError(f"{source.path}: {rate} Hz; LeRobot knows whole numbers only")


def _without(source: Source, leave_out: Sequence[str]) -> DatasetSpecs:
    observation = source.specs.observation
    unknown = [name for name in leave_out if name not in observation.names]
    if unknown:
        raise ValueError(
            f"{source.path}: no observation {unknown[0]!r}; there are {list(observation.names)}"
        )
    kept = [name for name in observation.names if name not in leave_out]
    return DatasetSpecs(observation.select(kept), source.specs.action)


def _observations(
    specs: DatasetSpecs, rename: Mapping[str, str], pictures: str
) -> tuple[dict[str, LeRobotFeature], dict[str, tuple[str, ...]]]:
    """Features of the observations, and where their values lie."""
    if pictures not in (VIDEO, IMAGE):
        raise ValueError(f"pictures {pictures!r}: choose {VIDEO!r} or {IMAGE!r}")
    unknown = sorted(set(rename) - set(specs.observation.names))
    if unknown:
        raise ValueError(
            f"no observation {unknown[0]!r} to rename; there are {list(specs.observation.names)}"
        )
    outside = [key for key in rename.values() if not key.startswith(PREFIX)]
    if outside:
        raise ValueError(f"key {outside[0]!r}: LeRobot's observations begin with {PREFIX!r}")
    found = []
    for vector in specs.observation.features:
        key = rename.get(vector.name, f"{PREFIX}{vector.name}")
        feature = LeRobotFeature(key, "float32", (vector.size,), vector.dims, False)
        found.append((vector.name, feature))
    for camera in specs.observation.cameras:
        key = rename.get(camera.name, f"{CAMERA_PREFIX}{camera.name}")
        if pictures == VIDEO and (camera.height % 2 or camera.width % 2):
            raise ValueError(
                f"camera {camera.name!r} is {camera.height} x {camera.width}, video needs even "
                f"sizes; store pictures as {IMAGE!r}"
            )
        shape = (camera.height, camera.width, 3)
        found.append((camera.name, LeRobotFeature(key, pictures, shape, None, False)))
    features = {feature.key: feature for _, feature in found}
    if len(features) < len(found):
        raise ValueError("two observations are renamed to the same key")
    return features, {feature.key: ("observation", name) for name, feature in found}
