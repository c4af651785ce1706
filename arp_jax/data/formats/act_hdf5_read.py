"""Reads episodes in the HDF5 layout of ACT and Mobile ALOHA, and mirrors them.

In: files `episode_*.hdf5` and `mirror_episode_*.hdf5`, of any number of arms and cameras, with raw
or JPEG pictures. Out: an `ActEpisode`: arrays /action, /observations/{qpos, qvel, effort} and
/base_action as they are stored, and pictures encoded in RGB. `act_hdf5.py` writes such files,
`array_episodes.py` makes training examples of them.

Colours: ACT's scripts see arrays, decoded by OpenCV where they are compressed. A simulator and some
camera drivers deliver RGB. OpenCV takes and gives BGR, so that red and blue of such arrays are
swapped twice, and the JPEG in between has them swapped: it is decoded, swapped and encoded again.
Webcams read by OpenCV deliver BGR: then the JPEG is right and is taken as it is, byte by byte. The
file does not say which it is; a look at one picture does.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.formats.array_episodes import PictureCoding
from arp_jax.data.formats.hdf5 import dataset_of, open_hdf5, read_array
from arp_jax.data.images import decode_image, image_size

IMAGES = "observations/images"
# Our name -> path in the file; the others are there in every file.
ARRAYS = {
    "action": "action",
    "qpos": "observations/qpos",
    "qvel": "observations/qvel",
    "effort": "observations/effort",
    "base_action": "base_action",
}
_OPTIONAL = ("qvel", "effort", "base_action")
# What a mirror does to six joints and a gripper: joints that turn about the vertical or roll change
# sign. Of the base, the linear speed stays and the turning changes.
ARM_MIRROR = np.array([-1, 1, 1, -1, 1, -1, 1], np.float32)
BASE_MIRROR = np.array([1, -1], np.float32)
_END_OF_JPEG = b"\xff\xd9"


@dataclasses.dataclass(frozen=True)
class ActLayout:
    """What a file holds.

    Attributes:
        steps: T.
        sizes: array (our name) -> columns.
        cameras: name -> (height, width).
        compressed: whether pictures are JPEG.
        sim: attribute `sim`; missing means a real robot.
    """

    steps: int
    sizes: dict[str, int]
    cameras: dict[str, tuple[int, int]]
    compressed: bool
    sim: bool


@dataclasses.dataclass(frozen=True)
class ActEpisode:
    """One episode: arrays (our name) -> [T, D] as stored, camera -> T encoded RGB pictures."""

    layout: ActLayout
    arrays: dict[str, np.ndarray]
    pictures: dict[str, list[bytes]]


def find_episodes(source: Path, name_filter: str = "*", skip_mirrored: bool = False) -> list[Path]:
    """Episode files of a folder (and of folders in it) by number, or the one file given.

    Args:
        source: folder or file.
        name_filter: shell pattern that file names must match.
        skip_mirrored: leave out names with "mirror".

    Raises:
        ValueError: there is none.
    """
    found = [source] if source.is_file() else sorted(source.rglob("*.hdf5"), key=_by_number)
    kept = [
        path
        for path in found
        # Files of extracted image features lie beside episodes in some of ACT++'s folders; names
        # with a dot in front are being written.
        if not path.name.startswith((".", "features"))
        and "_features" not in path.stem
        and fnmatch.fnmatch(path.name, name_filter)
        and not (skip_mirrored and is_mirrored(path))
    ]
    if not kept:
        raise ValueError(f"{source}: none of {len(found)} .hdf5 files is an episode to convert")
    return kept


def is_mirrored(path: Path) -> bool:
    """Whether the file's name says that it is a mirrored episode."""
    return "mirror" in path.name


def _by_number(path: Path) -> tuple[str, list[Any]]:
    """Folder, then the name with its numbers as numbers: episode_2 before episode_10."""
    parts = re.split(r"(\d+)", path.name)
    return str(path.parent), [int(p) if p.isdigit() else p for p in parts]


def read_layout(path: Path) -> ActLayout:
    """What a file holds, without its pictures.

    Raises:
        ValueError: a broken file, a missing or misshapen field; the message names both.
    """
    with open_hdf5(path) as file:
        return _layout(file, path)


def _layout(file: Any, path: Path) -> ActLayout:
    where = str(path)
    arrays = {name: dataset_of(file, key, where) for name, key in _present(file)}
    steps = arrays["action"].shape[0] if arrays["action"].ndim else 0
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) != steps or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{where}: {ARRAYS[name]!r} is {array.dtype} {array.shape}, "
                f"expected numbers [{steps}, D]"
            )
    if steps == 0:
        raise ValueError(f"{where}: 'action' has no steps")
    compressed = bool(file.attrs.get("compress", False))
    group = file.get(IMAGES)
    names = sorted(group) if group is not None else []
    sizes = {name: _picture_size(file, name, steps, compressed, where) for name in names}
    return ActLayout(
        steps=steps,
        sizes={name: array.shape[1] for name, array in arrays.items()},
        cameras=sizes,
        compressed=compressed,
        sim=bool(file.attrs.get("sim", False)),
    )


def _present(file: Any) -> list[tuple[str, str]]:
    return [(n, key) for n, key in ARRAYS.items() if n not in _OPTIONAL or key in file]


def _picture_size(
    file: Any, camera: str, steps: int, compressed: bool, where: str
) -> tuple[int, int]:
    key = f"{IMAGES}/{camera}"
    array = dataset_of(file, key, where)
    wanted = "JPEG rows [T, L]" if compressed else "pixels [T, H, W, 3]"
    shaped = array.ndim == 2 if compressed else array.ndim == 4 and array.shape[3] == 3
    if array.dtype != np.uint8 or not shaped or len(array) != steps:
        raise ValueError(
            f"{where}: {key!r} is {array.dtype} {array.shape}, expected uint8 {wanted} "
            f"of {steps} steps (attribute compress={compressed})"
        )
    if not compressed:
        return array.shape[1], array.shape[2]
    return image_size(_jpeg(read_array(array, where, 0), f"{where}: {key!r} step 0"))


def read_episode(
    path: Path,
    cameras: Sequence[str],
    coding: PictureCoding,
    color_order: str = "rgb",
    mirrored: bool = False,
) -> ActEpisode:
    """Reads one file.

    Args:
        path: of the file.
        cameras: whose pictures are wanted.
        coding: how pictures are encoded that are not stored as JPEG in the right colours; those
            that are stay as they are if it is JPEG.
        color_order: "rgb" or "bgr": of the arrays that ACT's scripts see (top of this file).
        mirrored: turn pictures left to right, and give a left camera those of the right one. The
            arrays stay: see `mirror_arms`.

    Raises:
        ValueError: a broken file, a missing or misshapen field, a picture that does not decode.
    """
    where = str(path)
    with open_hdf5(path) as file:
        layout = _layout(file, path)
        arrays = {n: read_array(dataset_of(file, k, where), where) for n, k in _present(file)}
        pictures = {}
        for camera in cameras:
            other = mirror_name(camera)
            source = other if mirrored and other in layout.cameras else camera
            rows = _rows(file, source, layout, where)
            if layout.compressed:
                jpegs = (_jpeg(row, name) for row, name in rows)
                if color_order == "bgr" and not mirrored and coding.image_format == "jpeg":
                    pictures[camera] = list(jpegs)
                    continue
                rows = _decoded(jpegs, f"{where}: '{IMAGES}/{source}'")
            # Of a compressed file a decoder that keeps to the standard gives what OpenCV would, the
            # other way round.
            swapped = (color_order == "bgr") != layout.compressed
            view = (slice(None), _step(mirrored), _step(swapped))
            pictures[camera] = coding.encode(np.ascontiguousarray(f[view]) for f, _ in rows)
    return ActEpisode(layout, arrays, pictures)


def _step(backwards: bool) -> slice:
    return slice(None, None, -1 if backwards else 1)


def _rows(
    file: Any, camera: str, layout: ActLayout, where: str
) -> Iterator[tuple[np.ndarray, str]]:
    """What is stored of each step, and its name for messages."""
    key = f"{IMAGES}/{camera}"
    array = dataset_of(file, key, where)
    for step in range(layout.steps):
        yield read_array(array, where, step), f"{where}: {key!r} step {step}"


def _jpeg(row: np.ndarray, where: str) -> bytes:
    """The JPEG in a row that is padded with zeros.

    /compress_len is not needed for it (a JPEG ends with a mark), and its rows are in the order in
    which the recorder listed its cameras, which the file does not tell.
    """
    content = row.tobytes().rstrip(b"\0")
    if not content.endswith(_END_OF_JPEG):
        raise ValueError(f"{where} is no whole JPEG; copy the file again")
    return content


def _decoded(jpegs: Iterator[bytes], where: str) -> Iterator[tuple[np.ndarray, str]]:
    for step, jpeg in enumerate(jpegs):
        name = f"{where} step {step}"
        try:
            yield decode_image(jpeg), name
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def smooth_base(base: np.ndarray) -> np.ndarray:
    """Base velocities [T, 2] as ACT++ trains on them: mean of five steps, zeros beyond the ends."""
    padded = np.pad(np.asarray(base, np.float64), ((2, 2), (0, 0)))
    return np.mean([padded[i : i + len(base)] for i in range(5)], axis=0).astype(np.float32)


def mirror_arms(values: np.ndarray, where: str) -> np.ndarray:
    """Joint values [T, 7] or [T, 14] seen in a mirror: two arms change places.

    Raises:
        ValueError: another number of columns.
    """
    if values.shape[1] not in (7, 14):
        raise ValueError(
            f"{where}: {values.shape[1]} columns; --mirror knows arms of six joints and a gripper"
        )
    arms = np.split(values, values.shape[1] // 7, axis=1)
    return np.concatenate([arm * ARM_MIRROR for arm in reversed(arms)], axis=1)


def mirror_base(base: np.ndarray) -> np.ndarray:
    """Base velocities [T, 2] (linear, turning) seen in a mirror."""
    return base * BASE_MIRROR


def mirror_name(name: str) -> str:
    """A camera's name with left and right exchanged."""
    return re.sub("left|right", lambda m: "right" if m[0] == "left" else "left", name)


def mirror_sentence(sentence: str) -> str:
    """An instruction with left and right exchanged, small or with a capital."""
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda m: other[m[0]], sentence)
