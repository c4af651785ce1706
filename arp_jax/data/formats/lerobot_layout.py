"""What the metadata of a LeRobot dataset says, for codebase versions 2.0, 2.1 and 3.0.

In: a dataset's folder. Out: `LeRobotInfo` (rate, features, path templates) and one `LeRobotEpisode`
an episode, which names the files that hold it: since v3.0 many episodes share a parquet file and an
mp4 file. Rows and frames are read by `lerobot_read.py`.

Layout as published in huggingface/lerobot, src/lerobot/datasets (v3.0: `utils.py`,
`dataset_metadata.py`; the older one: `scripts/convert_dataset_v21_to_v30.py`).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes"
OLD_TASKS = "meta/tasks.jsonl"
OLD_EPISODES = "meta/episodes.jsonl"
OLD_EPISODES_STATS = "meta/episodes_stats.jsonl"
# Where this project's exporter keeps what LeRobot has no place for (`rlds.DatasetSpecs`).
SPECS = "meta/specs.json"

CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"{EPISODES}/{CHUNK_FILE}.parquet"
DATA_PATH = f"data/{CHUNK_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{CHUNK_FILE}.mp4"

PREFIX = "observation."
CAMERA_PREFIX = "observation.images."
# Columns that every dataset has beside its own features, with their types.
BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
CAMERA_DTYPES = ("video", "image")


@dataclasses.dataclass(frozen=True)
class LeRobotFeature:
    """One entry of info.json's "features".

    Attributes:
        key: e.g. "observation.images.top".
        dtype: "video", "image", "string" or a numpy type.
        shape: of one step; of a camera (H, W, 3).
        names: one a dimension, or None where the dataset names none.
        depth: whether a camera measures distances.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    depth: bool

    @property
    def is_camera(self) -> bool:
        """Whether the feature is a picture."""
        return self.dtype in CAMERA_DTYPES


@dataclasses.dataclass(frozen=True)
class LeRobotInfo:
    """meta/info.json: version ("v3.0"), rate, features (without bookkeeping), path templates."""

    version: str
    rate_hz: float
    robot: str
    features: Mapping[str, LeRobotFeature]
    data_path: str
    video_path: str
    chunks_size: int
    episodes: int

    @property
    def shares_files(self) -> bool:
        """Whether files hold several episodes (since v3.0)."""
        return self.version.startswith("v3")


@dataclasses.dataclass(frozen=True)
class VideoPart:
    """Where an episode's video lies: in `path`, from second `start`."""

    path: Path
    start: float


@dataclasses.dataclass(frozen=True)
class LeRobotEpisode:
    """One episode: number, steps, tasks in words, the parquet file and {camera key: video}."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, VideoPart]


def import_parquet() -> Any:
    """pyarrow.parquet, or an ImportError that says how to get it."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(
            f"LeRobot datasets need the pyarrow package: pip install pyarrow ({error})"
        ) from error
    return parquet


def default_names(keys: Sequence[str]) -> dict[str, str]:
    """LeRobot's key -> name here: observation.state is state, observation.images.top is top."""
    return {
        key: key.removeprefix(CAMERA_PREFIX).removeprefix(PREFIX).replace(".", "_").lower()
        for key in keys
        if key.startswith(PREFIX)
    }


def read_info(folder: Path) -> LeRobotInfo:
    """Reads meta/info.json.

    Raises:
        ValueError: no such file, malformed, of an unknown version, or a key is missing.
    """
    path = folder / INFO
    if not path.is_file():
        raise ValueError(f"{folder}: no {INFO}, so it is no LeRobot dataset folder")
    content = _read_json(path)
    try:
        version = str(content["codebase_version"])
        if version not in ("v2.0", "v2.1", "v3.0"):
            raise ValueError(
                f"{path}: codebase version {version!r} is not supported (v2.0, v2.1 and v3.0 are)"
            )
        return LeRobotInfo(
            version=version,
            rate_hz=float(content["fps"]),
            robot=str(content.get("robot_type") or "unknown"),
            features={
                key: _feature(key, entry)
                for key, entry in content["features"].items()
                if key not in BOOKKEEPING
            },
            data_path=content["data_path"],
            video_path=content.get("video_path") or "",
            chunks_size=int(content.get("chunks_size", 1000)),
            episodes=int(content["total_episodes"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: lacks or misstates {error}") from error


def read_tasks(folder: Path, info: LeRobotInfo) -> dict[int, str]:
    """Number of a task -> the task in words.

    Raises:
        ValueError: the file is missing or malformed.
    """
    if not info.shares_files:
        entries = _read_json_lines(folder / OLD_TASKS)
        return {int(e["task_index"]): str(e["task"]) for e in entries}
    path = folder / TASKS
    table = read_table(path)
    # The texts are the index of a pandas table, which older versions wrote without its name.
    words = [n for n in ("task", "__index_level_0__") if n in table.column_names]
    if not words or "task_index" not in table.column_names:
        raise ValueError(f"{path}: columns {table.column_names}, should be task_index and task")
    numbers, texts = table["task_index"].to_pylist(), table[words[0]].to_pylist()
    return {int(n): str(t) for n, t in zip(numbers, texts, strict=True)}


def read_episodes(folder: Path, info: LeRobotInfo) -> tuple[LeRobotEpisode, ...]:
    """All episodes in order.

    Raises:
        ValueError: metadata are missing or malformed, or an episode has none.
    """
    read = _read_shared if info.shares_files else _read_single
    try:
        episodes = sorted(read(folder, info), key=lambda e: e.index)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{folder}: the metadata of its episodes lack {error}") from error
    where = folder / (EPISODES if info.shares_files else OLD_EPISODES)
    for number, episode in enumerate(episodes):
        if episode.index != number:
            raise ValueError(f"{where}: episode {number} is missing; copy the dataset again")
    if len(episodes) != info.episodes:
        raise ValueError(
            f"{where}: {len(episodes)} episodes, {INFO} says {info.episodes}; "
            "copy the dataset again"
        )
    return tuple(episodes)


def read_limits(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Feature -> (smallest, greatest) value per dimension, as the stored statistics say.

    Empty where the dataset has no statistics.

    Raises:
        ValueError: the file is malformed.
    """
    if (folder / STATS).is_file():
        entries = [_read_json(folder / STATS)]
    elif (folder / OLD_EPISODES_STATS).is_file():
        entries = [line["stats"] for line in _read_json_lines(folder / OLD_EPISODES_STATS)]
    else:
        return {}
    limits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for stats in entries:
        for key, entry in stats.items():
            low, high = (np.asarray(entry[k], np.float64).reshape(-1) for k in ("min", "max"))
            if key in limits:
                low, high = np.minimum(low, limits[key][0]), np.maximum(high, limits[key][1])
            limits[key] = low, high
    return limits


def read_table(path: Path, columns: list[str] | None = None, filters: Any = None) -> Any:
    """A parquet file as a pyarrow table; raises ValueError naming the file."""
    parquet = import_parquet()
    try:
        return parquet.read_table(path, columns=columns, filters=filters)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def column_names(path: Path) -> list[str]:
    """Columns of a parquet file; raises ValueError naming the file."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; copy it again")
    parquet = import_parquet()
    try:
        return list(parquet.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0]
    return ValueError(f"{path}: cannot be read as parquet ({reason}); copy it again")


def _read_shared(folder: Path, info: LeRobotInfo) -> list[LeRobotEpisode]:
    """Episodes of v3.0, from the parquet files in meta/episodes."""
    paths = sorted((folder / EPISODES).glob("*/*.parquet"))
    videos = [f.key for f in info.features.values() if f.dtype == "video"]
    columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    columns += [
        f"videos/{key}/{part}"
        for key in videos
        for part in ("chunk_index", "file_index", "from_timestamp")
    ]
    episodes = []
    for path in paths:
        names = column_names(path)
        absent = [c for c in columns if c not in names]
        if absent:
            raise ValueError(f"{path}: no column {absent[0]!r}; copy the dataset again")
        for row in read_table(path, columns).to_pylist():
            data = info.data_path.format(
                chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            parts = {key: _shared_video(folder, info, row, key) for key in videos}
            tasks = tuple(row["tasks"])
            episodes.append(
                LeRobotEpisode(row["episode_index"], row["length"], tasks, folder / data, parts)
            )
    return episodes


def _shared_video(folder: Path, info: LeRobotInfo, row: Mapping[str, Any], key: str) -> VideoPart:
    path = info.video_path.format(
        video_key=key,
        chunk_index=row[f"videos/{key}/chunk_index"],
        file_index=row[f"videos/{key}/file_index"],
    )
    return VideoPart(folder / path, float(row[f"videos/{key}/from_timestamp"]))


def _read_single(folder: Path, info: LeRobotInfo) -> list[LeRobotEpisode]:
    """Episodes of v2.x, from meta/episodes.jsonl; each has its own files."""
    videos = [f.key for f in info.features.values() if f.dtype == "video"]
    episodes = []
    for entry in _read_json_lines(folder / OLD_EPISODES):
        index = int(entry["episode_index"])
        place = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        parts = {
            key: VideoPart(folder / info.video_path.format(video_key=key, **place), 0.0)
            for key in videos
        }
        data = folder / info.data_path.format(**place)
        tasks = tuple(str(task) for task in entry["tasks"])
        episodes.append(LeRobotEpisode(index, int(entry["length"]), tasks, data, parts))
    return episodes


def _feature(key: str, entry: Mapping[str, Any]) -> LeRobotFeature:
    shape = tuple(int(n) for n in entry["shape"])
    names = _flat_names(entry.get("names"))
    dtype = str(entry["dtype"])
    # Pictures are also described channels first; the names tell.
    if dtype in CAMERA_DTYPES and len(shape) == 3 and shape[0] <= 4 < shape[2]:
        shape = (shape[1], shape[2], shape[0])
    marks = (entry.get("info") or {}, entry.get("video_info") or {})
    depth = any(m.get("is_depth_map") or m.get("video.is_depth_map") for m in marks)
    if dtype in CAMERA_DTYPES or names is None or len(names) != math.prod(shape):
        names = None
    return LeRobotFeature(key, dtype, shape, names, bool(depth))


def _flat_names(names: Any) -> tuple[str, ...] | None:
    """Names come as a list, as {group: list} or as {name: position}."""
    if not names:
        return None
    if not isinstance(names, Mapping):
        return tuple(str(name) for name in names)
    if all(isinstance(value, int) for value in names.values()):
        return tuple(sorted(names, key=lambda name: names[name]))
    return tuple(str(name) for group in names.values() for name in group)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); copy it again") from error


def _read_json_lines(path: Path) -> list[Any]:
    try:
        lines = path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read as JSON lines ({error}); copy it again"
        ) from error
