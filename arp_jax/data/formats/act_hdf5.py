"""Writes episodes in the HDF5 layout of ACT: DIR/episode_0.hdf5, episode_1.hdf5, ...

In: the arrays of one episode. Out: one file with /action, /observations/{qpos, qvel} and
/observations/images/CAMERA, attributes `sim` and `compress`, as ACT's and Mobile ALOHA's own
training scripts read them. A file appears under its name only when it is complete.
"""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arp_jax.data.formats.hdf5 import import_h5py

# Mobile ALOHA's.
COMPRESSED_QUALITY = 50
_CHUNK_CACHE = 2 * 1024**2


def episode_path(folder: Path, number: int) -> Path:
    """File of episode `number`."""
    return folder / f"episode_{number}.hdf5"


def encode_frame(pixels: np.ndarray) -> bytes:
    """A frame of a compressed file: JPEG of uint8 [H, W, 3].

    Written by OpenCV, which takes the first channel for blue, and read back the same way
    (`cv2.imdecode(..., 1)`), RGB arrays stay RGB. Here the channels are swapped by hand to the same
    effect; a reader other than OpenCV must swap them again.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., ::-1].copy()).save(buffer, "jpeg", quality=COMPRESSED_QUALITY)
    return buffer.getvalue()


def write_episode(
    path: Path,
    *,
    qpos: np.ndarray,
    qvel: np.ndarray,
    action: np.ndarray,
    images: Mapping[str, Iterable[np.ndarray]],
    sim: bool = True,
    compress: bool = False,
) -> None:
    """Writes one file.

    Args:
        path: see `episode_path`; an existing file is replaced.
        qpos, qvel: float [T, A], joint positions and velocities with normalised grippers.
        action: float [T, A], the commanded joint positions.
        images: camera -> T frames uint8 [H, W, 3]; consumed one by one.
        sim: whether the episode was simulated.
        compress: store images as JPEG, padded with zeros to the longest frame.

    Raises:
        ValueError: arrays of different lengths.
        ImportError: h5py is not installed.
    """
    h5py = import_h5py()
    steps = len(action)
    if not len(qpos) == len(qvel) == steps:
        raise ValueError(
            f"{path}: {steps} actions, but {len(qpos)} joint positions and {len(qvel)} velocities"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w", rdcc_nbytes=_CHUNK_CACHE) as file:
            file.attrs["sim"] = sim
            file.attrs["compress"] = compress
            file["action"] = np.asarray(action, np.float32)
            file["observations/qpos"] = np.asarray(qpos, np.float32)
            file["observations/qvel"] = np.asarray(qvel, np.float32)
            group = file.require_group("observations/images")
            # HDF5 lists a group by name; /compress_len has the same order.
            lengths = []
            for name in sorted(images):
                if compress:
                    lengths.append(_write_compressed(group, name, images[name]))
                    count = len(lengths[-1])
                else:
                    count = _write_frames(group, name, images[name])
                if count != steps:
                    raise ValueError(f"{path}: {count} frames of {name!r}, {steps} actions")
            if compress:
                file["compress_len"] = np.array(lengths, np.int32).reshape(-1, steps)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_frames(group: Any, name: str, frames: Iterable[np.ndarray]) -> int:
    """Frames [T, H, W, 3] written as they come, a chunk each; returns T."""
    dataset, count = None, 0
    for count, pixels in enumerate(frames, 1):
        shape = pixels.shape
        if dataset is None:
            dataset = group.create_dataset(
                name, (0, *shape), np.uint8, maxshape=(None, *shape), chunks=(1, *shape)
            )
        dataset.resize(count, axis=0)
        dataset[count - 1] = pixels
    return count


def _write_compressed(group: Any, name: str, frames: Iterable[np.ndarray]) -> list[int]:
    """Frames as rows of bytes [T, L], L of the longest; returns their lengths."""
    encoded = [encode_frame(pixels) for pixels in frames]
    lengths = [len(frame) for frame in encoded]
    rows = np.zeros((len(encoded), max(lengths, default=1)), np.uint8)
    for row, frame in zip(rows, encoded, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    group.create_dataset(name, data=rows, chunks=(1, rows.shape[1]))
    return lengths
