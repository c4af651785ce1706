"""Checks of the pictures of an episode: decodable, of the right size, not blank, not frozen.

In: an `EpisodeView`. Out: findings, and `Repeats`: pictures equal to the one before and how far the
robot moved meanwhile. Whether such a repetition is strange depends on the dataset (a small picture
of a slow robot repeats all the time), so `checks/compare.py` decides.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import simplejpeg

from arp_jax.data.checks.dims import Dim
from arp_jax.data.checks.findings import ACTION, EpisodeView, Finding
from arp_jax.data.checks.values import changes
from arp_jax.data.images import decode_image, image_size

# Grey values of a blank picture lie this close together (of 255); noise of a covered lens does.
BLANK_RANGE = 8
# JPEG of this height or more is looked at in a quarter of its size: only damage and blankness
# count.
_REDUCE_FROM = 160
# Least range of a measured dimension, as a share of its limits, by which movement is counted.
_LEAST_RANGE = 0.05
# Movements that are counted, as shares of the robot's range.
MOVES = np.geomspace(1e-3, 1.0, 31)


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Pictures of one camera that equal the one before.

    Attributes:
        steps: those steps, [N].
        moved: how far the robot moved into each of them, as a share of its range, [N].
        changed: how many steps whose picture did change moved as far as each of `MOVES`.
    """

    steps: np.ndarray
    moved: np.ndarray
    changed: np.ndarray


def check_images(
    view: EpisodeView, table: Mapping[str, Sequence[Dim]]
) -> tuple[list[Finding], dict[str, Repeats]]:
    """Findings on the pictures of every camera, and their repetitions."""
    found: list[Finding] = []
    repeats = {}
    moved = _movement(view, table)
    for camera in view.specs.observation.cameras:
        if camera.name in view.images:
            frames = view.images[camera.name]
            same = np.array([False, *(_same(a, b) for a, b in itertools.pairwise(frames))])
            found += _check_camera(view, camera.name, (camera.height, camera.width), frames, same)
            repeats[camera.name] = Repeats(
                steps=np.flatnonzero(same),
                moved=moved[same],
                changed=np.count_nonzero(moved[1:][~same[1:], None] >= MOVES, axis=0),
            )
    return found, repeats


def _same(left: bytes | np.ndarray, right: bytes | np.ndarray) -> bool:
    return left == right if isinstance(left, bytes) else bool(np.array_equal(left, right))


def _check_camera(
    view: EpisodeView,
    name: str,
    size: tuple[int, int],
    frames: Sequence[bytes] | np.ndarray,
    same: np.ndarray,
) -> list[Finding]:
    damaged, blank, other = [], [], []
    reason, found_size, is_blank = "", size, False
    for step, frame in enumerate(frames):
        if not same[step]:
            try:
                found_size, is_blank = _look(frame)
                reason = ""
            except ValueError as error:
                reason = str(error)
        if reason:
            damaged.append((step, reason))
        elif is_blank:
            blank.append(step)
        if not reason and found_size != size:
            other.append((step, found_size))
    found = []
    if damaged:
        steps = [step for step, _ in damaged]
        found.append(_finding(view, "undecodable", damaged[0][1], name, steps))
    if other:
        (height, width), steps = other[0][1], [step for step, _ in other]
        message = f"{height}x{width} pixels, the specs say {size[0]}x{size[1]}"
        found.append(_finding(view, "image_size", message, name, steps))
    if blank and len(blank) == len(frames):
        found.append(_finding(view, "blank_camera", "every picture is of one color", name, blank))
    elif blank:
        message = f"{len(blank)} picture(s) of a single color"
        found.append(_finding(view, "blank_frame", message, name, blank))
    return found


def _finding(view: EpisodeView, kind: str, message: str, name: str, steps: list[int]) -> Finding:
    where = {"step": steps[0], "last": steps[-1], "steps": len(steps)}
    return view.finding(kind, message, field=f"observation/{name}", **where)


def _look(frame: bytes | np.ndarray) -> tuple[tuple[int, int], bool]:
    """(height, width) of a picture and whether it is blank; raises ValueError when damaged."""
    if isinstance(frame, bytes):
        size = image_size(frame)
        pixels = _small_pixels(frame, size[0])
    else:
        size, pixels = (frame.shape[0], frame.shape[1]), frame
    return size, int(pixels.max()) - int(pixels.min()) <= BLANK_RANGE


def _small_pixels(frame: bytes, height: int) -> np.ndarray:
    """Pixels of an encoded picture, reduced where that is much cheaper."""
    if height >= _REDUCE_FROM and frame[:3] == b"\xff\xd8\xff":
        try:
            return simplejpeg.decode_jpeg(frame, colorspace="GRAY", min_height=height // 4)
        except ValueError:
            pass  # Pillow may put up with it, or say what is wrong
    return decode_image(frame)


def _movement(view: EpisodeView, table: Mapping[str, Sequence[Dim]]) -> np.ndarray:
    """How far the robot moved into each step, [T]: mean share of the dimensions' ranges."""
    moved = np.zeros(view.length)
    fields = [f for f in table if f != ACTION and f in view.vectors] or [ACTION]
    for field in fields:
        # A gripper that closes far away changes no pixel.
        dims = [d for d in table[field] if not (d.rate or d.gripper)]
        if not dims or view.length < 2:
            continue
        index = [d.index for d in dims]
        values = view.vectors[field]
        extent = np.array([d.extent if np.isfinite(d.extent) else 0.0 for d in dims])
        span = np.maximum(np.ptp(values, axis=0)[index], np.maximum(_LEAST_RANGE * extent, 1e-9))
        share = changes(values, table[field])[:, index] / span
        moved[1:] = np.maximum(moved[1:], share.mean(axis=1))
    return moved
