"""Reading episodes of LeRobot datasets (codebase versions 2.0, 2.1 and 3.0) without torch.

In: a dataset's folder. Out: the columns of an episode as arrays under LeRobot's own keys, its tasks
step by step, and the frames of its cameras one by one, whether they lie in parquet or in mp4. Names
and meanings of this project are given by `lerobot_rlds.py`; metadata are read by
`lerobot_layout.py`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.formats.lerobot_layout import (
    BOOKKEEPING,
    LeRobotEpisode,
    LeRobotFeature,
    LeRobotInfo,
    column_names,
    read_episodes,
    read_info,
    read_table,
    read_tasks,
)
from arp_jax.data.formats.video import read_frames
from arp_jax.data.images import decode_image

# A frame is the wanted one when it lies nearer than this share of the period.
_TOLERANCE = 0.25
_TEXT = ("string", "language")


@dataclasses.dataclass(frozen=True)
class LeRobotDataset:
    """An opened dataset: its metadata; rows and frames are read on demand."""

    folder: Path
    info: LeRobotInfo
    tasks: Mapping[int, str]
    episodes: tuple[LeRobotEpisode, ...]

    @property
    def vectors(self) -> dict[str, LeRobotFeature]:
        """Features that are numbers."""
        features = self.info.features.values()
        return {f.key: f for f in features if not f.is_camera and f.dtype not in _TEXT}

    @property
    def cameras(self) -> dict[str, LeRobotFeature]:
        """Features that are colour pictures; depth maps are left out."""
        return {f.key: f for f in self.info.features.values() if f.is_camera and not f.depth}


def open_lerobot(folder: str | Path) -> LeRobotDataset:
    """Opens a LeRobot dataset folder (the one that holds meta/info.json).

    Raises:
        ValueError: the folder or its metadata are missing, malformed or of an unknown version.
    """
    path = Path(folder)
    info = read_info(path)
    return LeRobotDataset(path, info, read_tasks(path, info), read_episodes(path, info))


def read_columns(
    dataset: LeRobotDataset, episode: LeRobotEpisode, keys: Iterable[str]
) -> dict[str, np.ndarray]:
    """Numbers of an episode.

    Args:
        dataset: the dataset.
        episode: one of its episodes.
        keys: of `dataset.vectors`, or of `BOOKKEEPING`.

    Returns:
        {key: [T, D]} in the stored type; tensors of several axes are flattened, bookkeeping is [T].

    Raises:
        ValueError: the file is missing or damaged, a column is missing or holds no numbers, or the
            number of rows is not the episode's. The message names file, field and episode.
    """
    wanted = list(keys)
    table = _rows(episode, wanted)
    columns = {}
    for key in wanted:
        size = 1 if key in BOOKKEEPING else math.prod(dataset.info.features[key].shape)
        values = _numbers(table[key], episode, key, size)
        columns[key] = values[:, 0] if key in BOOKKEEPING else values
    return columns


def read_instructions(dataset: LeRobotDataset, episode: LeRobotEpisode) -> list[str]:
    """The task of each step in words, T strings; raises ValueError for an unknown task."""
    numbers = read_columns(dataset, episode, ["task_index"])["task_index"]
    unknown = sorted({int(n) for n in numbers} - set(dataset.tasks))
    if unknown:
        raise ValueError(
            f"{episode.data}: task_index {unknown[0]} of episode {episode.index} is in no list of "
            "tasks; copy the dataset again"
        )
    return [dataset.tasks[int(n)] for n in numbers]


def read_camera(
    dataset: LeRobotDataset, episode: LeRobotEpisode, key: str
) -> Iterator[tuple[np.ndarray, bytes | None]]:
    """Yields the T pictures of a camera: pixels uint8 [H, W, 3], and their bytes if stored as such.

    Raises:
        ValueError: the video or a column is missing, truncated or damaged, or a frame is not
            there, or has another size than info.json says. The message names file, camera and
            episode.
    """
    feature = dataset.info.features[key]
    stored = feature.dtype == "image"
    frames = _stored_images(dataset, episode, key) if stored else _video(dataset, episode, key)
    try:
        for step, (pixels, data) in enumerate(frames):
            if pixels.shape != feature.shape:
                path = episode.data if stored else episode.videos[key].path
                raise ValueError(
                    f"{path}: step {step} is a picture of {pixels.shape[:2]}, info.json says "
                    f"{feature.shape[:2]}"
                )
            yield pixels, data
    except ValueError as error:
        raise ValueError(f"episode {episode.index}, {key}: {error}") from error


def read_pixels(dataset: LeRobotDataset, episode: LeRobotEpisode, key: str) -> np.ndarray:
    """The pictures of a camera, uint8 [T, H, W, 3]; raises what `read_camera` does."""
    return np.stack([pixels for pixels, _ in read_camera(dataset, episode, key)])


def _rows(episode: LeRobotEpisode, columns: list[str], keep: bool = True) -> Any:
    """Columns of the rows of an episode, in order; `keep` for columns that are small."""
    path = episode.data
    try:
        names = column_names(path)
    except ValueError as error:
        raise ValueError(f"episode {episode.index}: {error}") from error
    absent = [c for c in ["episode_index", *columns] if c not in names]
    if absent:
        raise ValueError(
            f"{path}: no column {absent[0]!r}, which info.json lists (episode {episode.index}); "
            "copy the dataset again"
        )
    if keep:
        state = path.stat()
        whole = _whole_file(path, (*columns, "episode_index"), (state.st_mtime_ns, state.st_size))
        table = whole.filter(whole["episode_index"].to_numpy() == episode.index)
    else:
        table = read_table(path, columns, [("episode_index", "==", episode.index)])
    if table.num_rows != episode.length:
        raise ValueError(
            f"{path}: {table.num_rows} rows of episode {episode.index}, its metadata say "
            f"{episode.length}; copy the dataset again"
        )
    return table


@functools.lru_cache(maxsize=4)
def _whole_file(path: Path, columns: tuple[str, ...], state: tuple[int, int]) -> Any:
    """Columns of all episodes in a file.

    A file of v3.0 may be one row group of thousands of episodes (LeRobot's own conversion makes
    such), which can only be read at once: neighbors share the reading. `state` tells a new file.
    """
    return read_table(path, list(dict.fromkeys(columns)))


def _numbers(column: Any, episode: LeRobotEpisode, key: str, size: int) -> np.ndarray:
    """A column, nested or not, as an array [T, size]."""
    where = f"{episode.data}: column {key!r} of episode {episode.index}"
    values, steps = column.combine_chunks(), len(column)
    while "list" in str(values.type).split("<")[0]:
        values = values.flatten()
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "fiub" or values.null_count:
        raise ValueError(f"{where} should hold numbers, it holds {column.type} or nothing")
    if len(flat) != steps * size:
        raise ValueError(
            f"{where}: {len(flat)} numbers in {steps} rows, info.json says {size} a row"
        )
    return flat.reshape(steps, size)


def _video(
    dataset: LeRobotDataset, episode: LeRobotEpisode, key: str
) -> Iterator[tuple[np.ndarray, None]]:
    part = episode.videos[key]
    times = read_columns(dataset, episode, ["timestamp"])["timestamp"].astype(np.float64)
    tolerance = _TOLERANCE / dataset.info.rate_hz
    for pixels in read_frames(part.path, part.start + times, tolerance):
        yield pixels, None


def _stored_images(
    dataset: LeRobotDataset, episode: LeRobotEpisode, key: str
) -> Iterator[tuple[np.ndarray, bytes]]:
    """Pictures of a parquet column {bytes, path}."""
    for step, entry in enumerate(_rows(episode, [key], keep=False)[key]):
        value = entry.as_py()
        if not isinstance(value, dict):
            raise ValueError(f"{episode.data}: step {step} should hold a picture")
        path, data = episode.data, value.get("bytes")
        if not data:
            path = dataset.folder / str(value.get("path"))
            if not path.is_file():
                raise ValueError(f"{path}: the picture of step {step} is missing; copy it again")
            data = path.read_bytes()
        try:
            yield decode_image(data), data
        except ValueError as error:
            raise ValueError(f"{path}: step {step}: {error}") from error
