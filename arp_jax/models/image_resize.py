"""Bilinear resizing of camera frames on the device, of the whole picture or of a region of it.

In: frames [F, H, W, C] and a region in pixels. Out: float32 [F, h, w, C]. The convention is that of
Pillow and of `jax.image.resize`: pixel i covers [i, i + 1], and a shrinking resize widens its
triangle, so that nothing is left out (antialiasing). The region may differ from call to call inside
one compiled program. Which region is chosen is `image_augment.py`'s business.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def resize_region(
    frames: Array, region: Sequence[Any], size: tuple[int, int], stored: bool = False
) -> Array:
    """The region of every frame, resized.

    Each output pixel is a sum over few input pixels, fetched one by one: on a CPU that is five
    times faster than a product with a matrix of weights.

    Args:
        frames: [F, H, W, C], any dtype.
        region: (top, left, height, width) in pixels, scalars that may be traced; within the frame.
        size: (height, width) of the result.
        stored: say so when each pixel of the result is used several times: fused into such a use,
            it would be summed again for each of them.

    Returns:
        float32 [F, *size, C], neither rounded nor clipped.
    """
    top, left, height, width = region
    tall = _summed(frames, 1, _taps(top, height, frames.shape[1], size[0]), False)  # [F, h, W, C]
    return _summed(tall, 2, _taps(left, width, frames.shape[2], size[1]), stored)  # [F, h, w, C]


def _summed(frames: Array, axis: int, taps: tuple[Any, Any], stored: bool) -> Array:
    """Sum of the pixels at K indices [K, size] along an axis, times their weights [K, size]."""
    trailing = (1,) * (frames.ndim - 1 - axis)

    def add(total: Array, tap: tuple[Any, Any]) -> tuple[Array, None]:
        pixels = jnp.take(frames, tap[0], axis, mode="clip").astype(jnp.float32)
        return total + pixels * tap[1].reshape(-1, *trailing), None

    total = jnp.zeros((*frames.shape[:axis], taps[0].shape[1], *frames.shape[axis + 1 :]))
    if stored:  # the result of a loop is
        return jax.lax.scan(add, total, taps)[0]
    for tap in zip(*taps, strict=True):
        total, _ = add(total, tap)
    return total


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
