"""Spatial softmax: a feature map in, the expected image position of each channel out.

It has no parameters. Coordinates run from -1 to 1 over the map's cells, both ends included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def spatial_softmax(feature_map: Array, temperature: float = 1.0) -> Array:
    """Expected (x, y) position of every channel (Finn et al. 2016, section V-B).

    Args:
      feature_map: ``[N, h, w, K]`` scores, channels last.
      temperature: the scores are divided by it.

    Returns:
      float32 ``[N, K, 2]``: x (along the width) then y (along the height), each in [-1, 1].
    """
    n, h, w, k = feature_map.shape
    scores = feature_map.reshape(n, h * w, k).astype(jnp.float32) / temperature
    weights = jax.nn.softmax(scores, axis=1).reshape(n, h, w, k)
    x = jnp.einsum("nhwk,w->nk", weights, jnp.linspace(-1.0, 1.0, w, dtype=jnp.float32))
    y = jnp.einsum("nhwk,h->nk", weights, jnp.linspace(-1.0, 1.0, h, dtype=jnp.float32))
    return jnp.stack([x, y], axis=-1)  # [N, K, 2]
