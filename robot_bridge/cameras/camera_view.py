"""From a picture as captured to the picture that a camera's spec declares: crop, size, mask.

In: uint8 [H, W, 3] and a `CameraSpec`. Out: uint8 [height, width, 3]; black outside of the spec's
`keep` rectangles. The same for real and synthetic cameras, in recording and in running: that is why
it is part of the spec. OpenCV is only needed where the size changes.
"""

import numpy as np

from arp_jax.specs import CameraSpec

# Sides may be scaled this differently, one pixel of rounding in a small picture.
_MAX_STRETCH = 1.02


def apply_view(picture: np.ndarray, spec: CameraSpec) -> np.ndarray:
    """The declared picture; may share memory with `picture` when the spec leaves it as it is.

    Raises:
        ValueError: no color picture, a crop that leaves it, or a size of other proportions; names
            the camera and what to set.
    """
    where = f"camera {spec.name!r}"
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"{where}: captured {picture.dtype} {picture.shape}, no color picture")
    if spec.crop is not None:
        left, top, right, bottom = spec.crop
        height, width = picture.shape[:2]
        if right > width or bottom > height:
            raise ValueError(f"{where}: crop {spec.crop} leaves the {width} x {height} captured")
        picture = picture[top:bottom, left:right]
    picture = _resized(picture, spec, where)
    return _masked(picture, spec) if spec.keep else picture


def _resized(picture: np.ndarray, spec: CameraSpec, where: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return picture
    stretch = (spec.width / width) / (spec.height / height)
    if not 1 / _MAX_STRETCH <= stretch <= _MAX_STRETCH:
        raise ValueError(
            f"{where}: {width} x {height} captured does not scale to {spec.width} x {spec.height}; "
            "set a crop of these proportions, or another capture size"
        )
    import cv2

    # Averages when it shrinks: thin things must not flicker.
    how = cv2.INTER_AREA if width > spec.width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (spec.width, spec.height), interpolation=how))


def _masked(picture: np.ndarray, spec: CameraSpec) -> np.ndarray:
    masked = np.zeros_like(picture)
    for left, top, right, bottom in spec.keep:
        masked[top:bottom, left:right] = picture[top:bottom, left:right]
    return masked
