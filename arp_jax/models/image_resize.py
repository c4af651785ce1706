"""Bilinear resizing of camera frames on the device, of the whole picture or of a region of it.

In: frames [F, H, W, C] and a region in pixels. Out: float32 [F, h, w, C]. The convention is that of
Pillow and of `jax.image.resize`: pixel i covers [i, i + 1], and a shrinking resize widens its
triangle, so that nothing is left out (antialiasing). The region may differ from call to call inside
one compiled program. Which region is chosen is `image_augment.py`'s business.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array


def resize_region(frames: Array, region: Sequence[Any], size: tuple[int, int]) -> Array:
    """The region of every frame, resized.

    Each output pixel is a sum over few input pixels, fetched one by one: on a CPU that is five
    times faster than a product with a matrix of weights.

    Args:
        frames: [F, H, W, C], any dtype.
        region: (top, left, height, width) in pixels, scalars that may be traced; within the frame.
        size: (height, width) of the result.

    Returns:
        float32 [F, *size, C], neither rounded nor clipped.
    """
    top, left, height, width = region
    rows, row_weights = _taps(top, height, frames.shape[1], size[0])  # [K, h]
    columns, column_weights = _taps(left, width, frames.shape[2], size[1])  # [K, w]
    tall: Any = 0.0  # becomes [F, h, W, C]
    for index, weight in zip(rows, row_weights, strict=True):
        tall = tall + frames[:, index].astype(jnp.float32) * weight[:, None, None]
    resized: Any = 0.0  # becomes [F, h, w, C]
    for index, weight in zip(columns, column_weights, strict=True):
        resized = resized + tall[:, :, index] * weight[:, None]
    return resized


def _taps(start: Any, length: Any, pixels: int, size: int) -> tuple[Any, Any]:
    """Which of `pixels` make each of `size` results, and by how much: int32, float32 [K, size].

    K is what a region of the full length needs, so that it does not depend on the region. A region
    that is known while compiling gives constants.
    """
    xp: Any = jnp if isinstance(length, Array) else np
    count = math.ceil(2 * max(pixels / size, 1.0)) + 1
    step = length / size
    centers = start + (xp.arange(size) + 0.5) * step  # [size]
    radius = xp.maximum(step, 1.0)
    first = xp.floor(centers - radius + 0.5).astype(np.int32)
    if xp is jnp:
        # A compiler may compute these numbers twice, for the pixels and for their weights, and
        # round differently, so that one of the two starts a pixel later. Sorting what is in order
        # already changes nothing, and its result is stored, not computed again.
        first = jnp.sort(first)
    index = first + xp.arange(count, dtype=np.int32)[:, None]  # [K, size]
    weights = xp.maximum(0.0, 1.0 - abs(index + 0.5 - centers) / radius)
    weights = xp.where((index >= 0) & (index < pixels), weights, 0.0)
    return xp.clip(index, 0, pixels - 1), (weights / weights.sum(0)).astype(np.float32)
