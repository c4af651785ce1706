"""Cross-attention to an observation whose part of the work is done once per observation.

In: a context [B, S, C], once, then rows [B, T, C] as often as needed (``attend_to_context`` is a
function without parameters). Out: attended rows [B, T, C]. Layers that share a configuration
prepare all at once; what they prepared is a dict of arrays that can be stacked, sliced or cached.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import attend, dense, split_heads, xavier

Prepared = dict[str, jax.Array]


class Projection(nn.Module):
    """Kernel and bias of a linear layer, handed out instead of applied."""

    in_features: int
    features: int

    @nn.compact
    def __call__(self, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
        """Kernel [in, out] and bias [out] in the compute type."""
        kernel = self.param("kernel", xavier, (self.in_features, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel.astype(dtype), bias.astype(dtype)


class ContextAttention(nn.Module):
    """The parameters of one layer's cross-attention."""

    embed_dim: int
    heads: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.query = Projection(self.embed_dim, self.embed_dim)
        self.key_value = dense(2 * self.embed_dim, self.dtype)
        self.out = Projection(self.embed_dim, self.embed_dim)

    def __call__(self, context: jax.Array) -> Prepared:
        """context [B or 1, S, C] -> everything that rows need to attend to it.

        Few context tokens (heads * S <= C) are folded into the projections, which is the same
        algebra with fewer products: scores = x (W_q K^T), result = weights (V W_o).
        """
        query, out = self.query(self.dtype), self.out(self.dtype)
        keys, values = split_heads(self.key_value(context), 2, self.heads)  # [B, H, S, d]
        if self.heads * context.shape[1] > self.embed_dim:
            return {
                "query_kernel": query[0],
                "query_bias": query[1],
                "keys": keys,
                "values": values,
                "out_kernel": out[0],
                "out_bias": out[1],
            }
        batch, heads, length, depth = keys.shape
        scale = np.asarray(1.0 / np.sqrt(depth), self.dtype)
        query_kernel = query[0].reshape(-1, heads, depth) * scale  # [C, H, d]
        query_bias = query[1].reshape(heads, depth) * scale
        out_kernel = out[0].reshape(heads, depth, -1)  # [H, d, C]
        merged = heads * length
        return {
            "score_kernel": jnp.einsum("chd,bhsd->bchs", query_kernel, keys).reshape(
                batch, -1, merged
            ),
            "score_bias": jnp.einsum("hd,bhsd->bhs", query_bias, keys),
            "value_kernel": jnp.einsum("bhsd,hdc->bhsc", values, out_kernel).reshape(
                batch, merged, -1
            ),
            "out_bias": out[1],
        }


def attend_to_context(
    rows: jax.Array, prepared: Prepared, heads: int, drop_weights: nn.Dropout, train: bool
) -> jax.Array:
    """rows [B, T, C] -> attended [B, T, C] (before the residual dropout)."""
    batch, length, _ = rows.shape
    if "keys" in prepared:
        query = _product(rows, prepared["query_kernel"]) + prepared["query_bias"]
        (query,) = split_heads(query, 1, heads)
        attended = attend(query, prepared["keys"], prepared["values"], None, drop_weights, train)
        return _product(attended, prepared["out_kernel"]) + prepared["out_bias"]
    scores = _product_per_sample(rows, prepared["score_kernel"])
    bias = prepared["score_bias"]  # [B or 1, H, S]
    scores = scores.reshape(batch, length, *bias.shape[1:]).astype(jnp.float32) + bias[:, None]
    weights = nn.softmax(scores, axis=-1).astype(rows.dtype)
    weights = drop_weights(weights, deterministic=not train).reshape(batch, length, -1)
    return _product_per_sample(weights, prepared["value_kernel"]) + prepared["out_bias"]


def _product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, T, C] x [C, D] over flattened rows (see ``RowsDense``)."""
    return (rows.reshape(-1, rows.shape[-1]) @ kernel).reshape(*rows.shape[:-1], kernel.shape[-1])


def _product_per_sample(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, T, C] x [B or 1, C, D] -> [B, T, D]."""
    if kernel.shape[0] == 1:
        return _product(rows, kernel[0])
    return jnp.einsum("btc,bcd->btd", rows, kernel)
