"""Plan labels of ARP: a chunk of future actions in, coarse way-points and heat-maps out.

The plan of the Push-T policy is a handful of points on the future action path, listed from the
last to the first, so that the chunk of fine actions that follows starts from a known goal. Nothing
here is learned. Sequence layout (which token is in which chunk) starts here with `chunk_blocks`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array


def chunk_blocks(first_id: int, tokens: int, size: int) -> tuple[int, ...]:
    """Chunk ids of ``tokens`` consecutive tokens in blocks of ``size``, starting at ``first_id``.

    The last block is shorter when ``size`` does not divide ``tokens`` (the published code rounds
    the list up instead and cannot train with such sizes).

    Raises:
      ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"chunk size must be at least 1, found {size}")
    return tuple(first_id + index // size for index in range(tokens))


def resample_path(path: Array, points: int) -> Array:
    """Linear interpolation of a path ``[B, H, A]`` to ``[B, points, A]`` in time order.

    Three points or more keep both end points. One or two points sit in the middle of equal
    stretches of the path, as published.
    """
    length = path.shape[1]
    if points < 3:
        position = np.maximum((np.arange(points) + 0.5) * length / points - 0.5, 0.0)
    else:
        position = np.linspace(0.0, length - 1, points)
    before = np.floor(position).astype(np.int32)
    after = np.minimum(before + 1, length - 1)
    weight = jnp.asarray(position - before, path.dtype)[:, None]  # [points, 1]
    return path[:, before] * (1 - weight) + path[:, after] * weight


def plan_from_actions(actions: Array, points: int) -> Array:
    """Plan in normalised coordinates: actions ``[B, H, A]`` to ``[B, points, A]``, last first."""
    return resample_path(actions, points)[:, ::-1]


def plan_to_pixels(plan: Array, size: int) -> Array:
    """Normalised points in [-1, 1] to whole pixels 0 .. size - 1 of a square map (float)."""
    half = size / 2
    return jnp.round(jnp.clip(plan * half + half, 0, size - 1))


def gaussian_heatmaps(points: Array, height: int, width: int, sigma: float) -> Array:
    """Label heat-maps of pixel points.

    Args:
      points: ``[..., 2]``, x then y in pixels.
      height, width: size of the map in pixels.
      sigma: standard deviation in pixels.

    Returns:
      float32 ``[..., height, width]``: exp(-d^2 / 2 sigma^2), zero beyond 3 sigma, divided by
      its sum + 1e-6 (so a point far outside gives an empty map).
    """
    points = points.astype(jnp.float32)
    dx = jnp.arange(width, dtype=jnp.float32) - points[..., 0, None]  # [..., width]
    dy = jnp.arange(height, dtype=jnp.float32) - points[..., 1, None]  # [..., height]
    squared = dy[..., :, None] ** 2 + dx[..., None, :] ** 2  # [..., height, width]
    near = squared <= 9.0 * sigma**2
    values = jnp.where(near, jnp.exp(-squared / (2.0 * sigma**2)), 0.0)
    return values / (values.sum((-2, -1), keepdims=True) + 1e-6)
