"""Diffusion-Policy replays as an RLDS dataset, whatever arrays they hold.

In: an opened replay (`zarr_replay.py`) and names. Out: for the writer, one job an episode and the
function that reads it; for the specs, every episode's numbers. Pictures are read in blocks.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.formats.array_episodes import Naming, PictureCoding, as_pictures, make_example
from arp_jax.data.formats.measured_specs import FoundEpisode
from arp_jax.data.formats.zarr_array import ZarrArray
from arp_jax.data.formats.zarr_replay import Replay, open_buffer
from arp_jax.specs import CameraSpec

METADATA = {"episode_id": tfds.features.Scalar(np.int64, doc="number of the recording")}
# Arrays with more numbers a step are maps or point clouds: stored where a flag names them.
_LARGEST_VECTOR = 512
_BLOCK = 64


@dataclasses.dataclass(frozen=True)
class ZarrJob:
    """Steps [start, stop) of a replay."""

    number: int
    start: int
    stop: int
    instruction: str | None


def picture_size(array: ZarrArray) -> tuple[int, int] | None:
    """(height, width) of an array [T, H, W, 3] or [T, 3, H, W], None for other arrays."""
    if len(array.shape) != 4 or array.dtype.kind not in "fiu":
        return None
    for channel, (row, column) in ((3, (1, 2)), (1, (2, 3))):
        if array.shape[channel] == 3 and min(array.shape[row], array.shape[column]) > 3:
            return array.shape[row], array.shape[column]
    return None


def found_arrays(replay: Replay, actions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of vectors and of pictures among the arrays; without the actions and large maps."""
    cameras = [name for name, array in replay.arrays.items() if picture_size(array)]
    vectors = [
        name
        for name, array in replay.arrays.items()
        if name not in (*cameras, *actions)
        and array.dtype.kind in "fiub"
        and np.prod(array.shape[1:], dtype=np.int64) <= _LARGEST_VECTOR
    ]
    return vectors, cameras


def source_arrays(naming: Naming) -> list[str]:
    """Arrays of numbers that are stored, each once."""
    keys = [key for keys in (*naming.vectors.values(), naming.action) for key in keys]
    return list(dict.fromkeys([*keys, *([naming.reward] if naming.reward else [])]))


def found_episodes(
    path: Path, replay: Replay, naming: Naming, jobs: Sequence[ZarrJob]
) -> Iterator[FoundEpisode]:
    """The numbers of all episodes; raises ValueError for an array that is missing."""
    for name in (*source_arrays(naming), *naming.cameras.values()):
        if name not in replay.arrays:
            raise ValueError(f"{path}: no array 'data/{name}'; there are {sorted(replay.arrays)}")
    sizes = {name: picture_size(array) for name, array in replay.arrays.items()}
    pictures = {name: size for name, size in sizes.items() if size}
    for job in jobs:
        arrays = {k: replay.arrays[k].read(job.start, job.stop) for k in source_arrays(naming)}
        yield FoundEpisode(_where(path, job), arrays, pictures)


def read_job(
    job: ZarrJob,
    *,
    path: Path,
    fill_missing: bool,
    naming: Naming,
    cameras: tuple[CameraSpec, ...],
    coding: PictureCoding,
) -> dict[str, Any]:
    """The RLDS example of one episode; raises ValueError naming file, episode and array."""
    sources = tuple(naming.cameras[camera.name] for camera in cameras)
    replay = _opened(path, (*source_arrays(naming), *sources), fill_missing)
    where = _where(path, job)
    arrays = {k: replay.arrays[k].read(job.start, job.stop) for k in source_arrays(naming)}
    pictures = {}
    for camera, source in zip(cameras, sources, strict=True):
        pictures[camera.name] = coding.encode(
            frame
            for begin in range(job.start, job.stop, _BLOCK)
            for frame in as_pictures(
                replay.arrays[source].read(begin, min(begin + _BLOCK, job.stop)), source, where
            )
        )
    return make_example(
        naming,
        cameras,
        arrays,
        pictures,
        where,
        success=False,
        metadata={"episode_id": job.number},
        instruction=job.instruction,
    )


def reader(
    path: Path,
    fill_missing: bool,
    naming: Naming,
    cameras: tuple[CameraSpec, ...],
    coding: PictureCoding,
) -> Any:
    """The picklable function job -> example."""
    return functools.partial(
        read_job, path=path, fill_missing=fill_missing, naming=naming, cameras=cameras,
        coding=coding,
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def _opened(path: Path, names: tuple[str, ...], fill_missing: bool) -> Replay:
    """Opened once a process: its arrays remember the last chunk, which episodes share."""
    return open_buffer(path, names, fill_missing)


def _where(path: Path, job: ZarrJob) -> str:
    return f"{path}: recording {job.number}"
