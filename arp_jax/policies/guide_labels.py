"""Labels of ARP's guide points on ALOHA: recorded gripper tracks in, a few pixels out.

A track is the pixel position of one gripper at each of the H future steps. It is cut at the end of
the episode, resampled to a handful of points and rounded to whole pixels; the heat-maps around
them are `plan_labels.gaussian_heatmaps`. Nothing here is learned.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def guide_points_from_tracks(tracks: Array, is_pad: Array, points: int) -> Array:
    """Linear resampling of the recorded part of each track, end points kept, rounded half to even.

    Args:
        tracks: float [B, H, 2], pixels (x, y).
        is_pad: bool [B, H], True for steps beyond the end of the episode; they are left out.
        points: number of points.

    Returns:
        float32 [B, points, 2], whole pixels in time order. A track without any recorded step gives
        its first padded position.
    """
    # Recorded steps first, in order: padding may lie anywhere.
    order = jnp.argsort(is_pad, axis=1, stable=True)
    recorded = jnp.take_along_axis(tracks.astype(jnp.float32), order[..., None], axis=1)
    last = jnp.maximum((~is_pad).sum(1, keepdims=True) - 1, 0)  # [B, 1]
    step = last.astype(jnp.float32) / max(points - 1, 1)
    position = step * jnp.arange(points, dtype=jnp.float32)  # [B, points]
    before = jnp.minimum(jnp.floor(position).astype(jnp.int32), last)
    after = jnp.minimum(before + 1, last)
    weight = (position - before)[..., None]
    left = jnp.take_along_axis(recorded, before[..., None], axis=1)
    right = jnp.take_along_axis(recorded, after[..., None], axis=1)
    return jnp.round((1 - weight) * left + weight * right)
