"""Colour changes of camera frames: brightness, contrast, saturation, hue.

In: frames in [0, 255] and four numbers. Out: float32 frames, not clipped. Brightness, contrast and
saturation are Pillow's `ImageEnhance` formulas (the luma of BT.601); hue turns the plane of equal
luma (YIQ), so that a colour keeps its lightness. How the numbers are drawn is `image_augment.py`'s
business.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

# BT.601: R, G, B -> luma.
LUMA = np.array([0.299, 0.587, 0.114])
# R, G, B -> Y, I, Q of the NTSC standard; I and Q are the two axes of chroma.
_YIQ = np.stack([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_INVERSE = np.linalg.inv(_YIQ)
# M(turn) = _KEPT + cos _COSINE + sin _SINE: the rotation in the plane of I and Q, in RGB.
_KEPT = _YIQ_INVERSE @ np.diag([1.0, 0, 0]) @ _YIQ
_COSINE = _YIQ_INVERSE @ np.diag([0, 1.0, 1.0]) @ _YIQ
_SINE = _YIQ_INVERSE @ np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]) @ _YIQ


def hue_matrix(turn: Any) -> Array:
    """[3, 3], RGB to RGB: colours turned by `turn` (1 for a full one) at equal luma."""
    angle = 2 * jnp.pi * turn
    return _KEPT + jnp.cos(angle) * _COSINE + jnp.sin(angle) * _SINE


def change_colors(
    frames: Array, brightness: Any = 1.0, contrast: Any = 1.0, saturation: Any = 1.0, hue: Any = 0.0
) -> Array:
    """Brightness, then contrast, saturation and hue, as one linear map of each pixel.

    Args:
        frames: float32 [F, h, w, 3] in [0, 255].
        brightness: factor of every value; 0 is black, 1 changes nothing.
        contrast: 0 is the frame's mean luma everywhere, 1 changes nothing.
        saturation: 0 is grey (each pixel's luma), 1 changes nothing.
        hue: turn of the colours, 1 for a full one; luma stays.

    Returns:
        float32 [F, h, w, 3]; values may lie outside [0, 255].
    """
    turn = hue_matrix(hue)
    fade = saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))
    matrix = brightness * contrast * jnp.matmul(turn, fade, precision="highest")  # [3, 3]
    # Channel d gets matrix[d, d - s] times channel d - s, for s = 0, 1, 2: sums of whole pictures,
    # because products with three numbers are slow on a CPU and imprecise on a GPU.
    changed: Any = 0.0
    for shift in range(3):
        weights = jnp.stack([matrix[d, (d - shift) % 3] for d in range(3)])
        changed = changed + jnp.roll(frames, shift, -1) * weights.astype(jnp.float32)
    # Grey keeps its value under `turn` and `fade`, so the mean that contrast adds needs neither.
    mean = jnp.sum(frames.mean((1, 2)) * LUMA.astype(np.float32), -1)  # [F]
    return changed + (1 - contrast) * brightness * mean[:, None, None, None]
