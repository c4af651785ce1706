"""Episodes of other formats as RLDS examples: arrays under the source's names become our features.

In: arrays of one episode as a reader found them, and the `Naming` that says which of them make up
which observation. Out: the example that `rlds_write.py` stores. Every fault (missing, wrong type,
unequal length, not finite) names the episode and the source's field. Reading files is the business
of `act_hdf5_read.py`, `robomimic_hdf5.py` and `zarr_replay.py`; what numbers mean of
`measured_specs.py`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.episode_rlds import episode_example
from arp_jax.data.images import JPEG_QUALITY, encode_image, image_size
from arp_jax.specs import CameraSpec

# Of JPEG and PNG: their headers say the size, but not whether the rest is there.
_ENDS_OF_PICTURES = (b"\xff\xd9", b"IEND\xaeB`\x82")


@dataclasses.dataclass(frozen=True)
class Naming:
    """Which of the source's arrays make up which of our features.

    Attributes:
        vectors: feature -> source arrays that are put side by side.
        cameras: camera -> source array of pictures.
        action: source arrays that are put side by side.
        reward: source array, or None.
    """

    vectors: Mapping[str, tuple[str, ...]]
    cameras: Mapping[str, str]
    action: tuple[str, ...]
    reward: str | None = None


@dataclasses.dataclass(frozen=True)
class PictureCoding:
    """How pictures are stored: "png" (exact) or "jpeg" of a quality."""

    image_format: str = "png"
    quality: int = JPEG_QUALITY

    def encode(self, frames: Iterable[np.ndarray]) -> list[bytes]:
        """Frames uint8 [H, W, 3], one by one, encoded."""
        return [encode_image(frame, self.image_format, self.quality) for frame in frames]


def join_columns(arrays: Mapping[str, np.ndarray], keys: Sequence[str], where: str) -> np.ndarray:
    """Source arrays [T] or [T, ...] side by side as float32 [T, D].

    Raises:
        ValueError: one is missing, no numbers, of another length, or not finite.
    """
    columns = [_numbers(arrays, key, where) for key in keys]
    for key, values in zip(keys, columns, strict=True):
        if len(values) != len(columns[0]):
            raise ValueError(
                f"{where}: {key!r} has {len(values)} steps, {keys[0]!r} {len(columns[0])}"
            )
    return np.concatenate(columns, axis=1)


def _numbers(arrays: Mapping[str, np.ndarray], key: str, where: str) -> np.ndarray:
    """One array as float32 [T, D]."""
    if key not in arrays:
        raise ValueError(f"{where}: no {key!r}; there are {sorted(arrays)}")
    values = arrays[key]
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{where}: {key!r} has dtype {values.dtype}, expected numbers")
    if values.ndim == 0:
        raise ValueError(f"{where}: {key!r} is one number, expected one a step")
    flat = values.reshape(len(values), -1)  # [T, D]
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if bad.size:
        raise ValueError(f"{where}: {key!r} is not finite at step {bad[0]}")
    return flat.astype(np.float32)


def as_pictures(values: np.ndarray, key: str, where: str) -> np.ndarray:
    """Frames of a source array as uint8 [T, H, W, 3].

    Takes uint8 or whole numbers 0 to 255 of any type; channels first become channels last.

    Raises:
        ValueError: another shape, or values that are no pixels.
    """
    if values.ndim != 4 or 3 not in (values.shape[1], values.shape[3]):
        raise ValueError(
            f"{where}: {key!r} has shape {values.shape}, expected pictures [T, H, W, 3]"
        )
    if values.shape[3] != 3:
        values = np.moveaxis(values, 1, 3)
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{where}: {key!r} has dtype {values.dtype}, expected pixels 0 to 255")
    with np.errstate(invalid="ignore"):
        pixels = values.astype(np.uint8)
    if not np.array_equal(pixels, values):
        raise ValueError(f"{where}: {key!r} must hold whole numbers 0 to 255")
    return pixels


def make_example(
    naming: Naming,
    cameras: Sequence[CameraSpec],
    arrays: Mapping[str, np.ndarray],
    pictures: Mapping[str, Sequence[bytes]],
    where: str,
    *,
    success: bool,
    metadata: Mapping[str, Any],
    instruction: str | None,
    extra: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """The RLDS example of one episode.

    Args:
        naming: what becomes what.
        cameras: sizes that all pictures must have.
        arrays: source array -> [T, ...].
        pictures: camera -> T encoded pictures.
        where: names file and episode in messages.
        success, metadata, instruction, extra: as in `episode_rlds.episode_example`.

    Raises:
        ValueError: see the top of this file.
    """
    action = join_columns(arrays, naming.action, where)
    steps = len(action)
    if steps == 0:
        raise ValueError(f"{where}: {naming.action[0]!r} has no steps")
    observation: dict[str, Any] = {}
    for name, keys in naming.vectors.items():
        observation[name] = join_columns(arrays, keys, where)
        _check_length(len(observation[name]), steps, keys[0], where)
    for camera in cameras:
        frames = pictures[camera.name]
        _check_length(len(frames), steps, naming.cameras[camera.name], where)
        _check_sizes(frames, camera, naming.cameras[camera.name], where)
        observation[camera.name] = frames
    reward = None
    if naming.reward is not None:
        reward = join_columns(arrays, (naming.reward,), where)[:, 0]
        _check_length(len(reward), steps, naming.reward, where)
    return episode_example(
        observation, action, reward, success, metadata, instruction=instruction, extra=extra
    )


def _check_length(found: int, steps: int, key: str, where: str) -> None:
    if found != steps:
        raise ValueError(f"{where}: {key!r} has {found} steps, the action {steps}")


def _check_sizes(frames: Sequence[bytes], camera: CameraSpec, key: str, where: str) -> None:
    for step, frame in enumerate(frames):
        if not frame.rstrip(b"\0").endswith(_ENDS_OF_PICTURES):
            raise ValueError(f"{where}: {key!r} step {step} is no whole picture; copy it again")
        try:
            size = image_size(frame)
        except ValueError as error:
            raise ValueError(f"{where}: {key!r} step {step}: {error}") from error
        if size != (camera.height, camera.width):
            raise ValueError(
                f"{where}: {key!r} step {step} is {size[0]} x {size[1]}, expected "
                f"{camera.height} x {camera.width}"
            )
