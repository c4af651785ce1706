"""Averages over nearest neighbours, weighted by distance, and how well each k does.

In: distances of the k neighbours and what belongs to them (chunks of actions). Out: one average a
query, or one for every k at once, from which k is chosen. Finding the neighbours is
`nearest_neighbors.py`.

Pari et al. 2021, "The Surprising Effectiveness of Representation Learning for Visual Imitation"
(VINN): weights are the softmax of the negative distances.
"""

import jax
import jax.numpy as jnp
from jax import Array


def softmax_weights(distances: Array, count: int | Array) -> Array:
    """Weights [B, K] of which the first `count` are exp(-distance) over their sum, others 0.

    Args:
        distances: float32 [B, K]. Sorted ones make the nearest weigh most. The published program
            passes those of the first K rows of the library instead, in the library's order.
        count: k, 1 .. K; may be traced.
    """
    used = jnp.arange(distances.shape[1]) < count
    return jax.nn.softmax(jnp.where(used, -distances, -jnp.inf), axis=1)


def weighted_average(distances: Array, values: Array, count: int | Array) -> Array:
    """Average [B, ...] of values [B, K, ...] over the first `count`, see `softmax_weights`."""
    weights = softmax_weights(distances, count)
    return jnp.einsum("bk,bk...->b...", weights, values, precision="highest")


def averages_by_count(distances: Array, values: Array) -> Array:
    """`weighted_average` for every k = 1 .. K: [B, K, ...]."""
    counts = jnp.arange(1, distances.shape[1] + 1)
    average = jax.vmap(weighted_average, in_axes=(None, None, 0), out_axes=1)
    return average(distances, values, counts)
