"""Multi-head attention over explicit masks and explicit keys and values, plus AdaLN modulation.

In: rows [B, Q, C], keys and values (from the same rows, from a cache, or from an observation), a
boolean mask known before tracing. Out: attended rows [B, Q, C]. It never decides who sees whom
(``chunk_schedule`` does) and keeps no state: a cache comes in and goes out as arrays.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Added to the score of a forbidden pair; finite, so a fully blocked row cannot become NaN.
FORBIDDEN = np.float32(-1e9)

xavier = nn.initializers.xavier_uniform()


class RowsDense(nn.Dense):
    """`nn.Dense` over rows [..., C] that are flattened to [N, C] for the product.

    XLA's CPU backend runs the weight gradient of a product with several leading axes about five
    times slower than the same product over one (benchmarks/README.md); elsewhere it is the same.
    """

    def __call__(self, inputs: jax.Array) -> jax.Array:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return rows.reshape(*inputs.shape[:-1], self.features)


def dense(features: int, dtype: jnp.dtype, name: str | None = None) -> nn.Dense:
    """Linear layer with the Xavier-uniform kernel and zero bias ARP uses everywhere."""
    return RowsDense(features, dtype=dtype, kernel_init=xavier, name=name)


def split_heads(rows: jax.Array, parts: int, heads: int) -> tuple[jax.Array, ...]:
    """[B, T, parts * C] -> ``parts`` arrays [B, T, heads, C / heads] (contiguous slices)."""
    *lead, width = rows.shape
    split = rows.reshape(*lead, parts, heads, width // (parts * heads))
    return tuple(split[..., p, :, :] for p in range(parts))


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: np.ndarray | None,
    dropout: nn.Dropout,
    train: bool,
) -> jax.Array:
    """Softmax attention; scores and softmax in float32.

    Args:
        query: [B, Q, H, d]; key, value: [B or 1, K, H, d].
        mask: [Q, K] bool, True where attending is allowed; None allows all. A row that may see
            nothing returns zeros (a NaN in the published code).
        dropout: applied to the probabilities when ``train``.

    Returns:
        [B, Q, H * d] in the dtype of ``value``.
    """
    scale = np.float32(1.0 / np.sqrt(query.shape[-1]))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores * scale
    if mask is not None and not mask.all():
        scores = scores + np.where(mask, np.float32(0), FORBIDDEN)
    weights = nn.softmax(scores, axis=-1)
    if mask is not None and not mask.any(-1).all():
        weights = weights * mask.any(-1, keepdims=True)
    weights = dropout(weights.astype(value.dtype), deterministic=not train)
    attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return attended.reshape(*attended.shape[:2], -1)


class SelfAttention(nn.Module):
    """Attention of rows among themselves and over cached rows that come before them."""

    embed_dim: int
    heads: int
    attention_dropout: float
    residual_dropout: float
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.qkv = dense(3 * self.embed_dim, self.dtype)
        self.out = dense(self.embed_dim, self.dtype)
        self.drop_weights = nn.Dropout(self.attention_dropout)
        self.drop_out = nn.Dropout(self.residual_dropout)

    def __call__(
        self,
        rows: jax.Array,
        cache: tuple[jax.Array, jax.Array] | None,
        mask: np.ndarray | None,
        train: bool,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """rows [B, T, C], cache (keys, values) [B, M, H, d], mask [T, M + T].

        Returns the attended rows [B, T, C] and the keys and values [B, T, H, d] of ``rows``.
        """
        query, key, value = split_heads(self.qkv(rows), 3, self.heads)
        all_keys, all_values = key, value
        if cache is not None:
            all_keys = jnp.concatenate([cache[0], key], axis=1)
            all_values = jnp.concatenate([cache[1], value], axis=1)
        attended = attend(query, all_keys, all_values, mask, self.drop_weights, train)
        return self.drop_out(self.out(attended), deterministic=not train), (key, value)


class CrossAttention(nn.Module):
    """Attention of rows to an observation whose keys and values were computed once."""

    embed_dim: int
    heads: int
    attention_dropout: float
    residual_dropout: float
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.query = dense(self.embed_dim, self.dtype)
        self.out = dense(self.embed_dim, self.dtype)
        self.drop_weights = nn.Dropout(self.attention_dropout)
        self.drop_out = nn.Dropout(self.residual_dropout)

    def __call__(self, rows: jax.Array, context_kv: jax.Array, train: bool) -> jax.Array:
        """rows [B, T, C], context_kv [B or 1, S, 2C] -> [B, T, C]."""
        (query,) = split_heads(self.query(rows), 1, self.heads)
        key, value = split_heads(context_kv, 2, self.heads)
        attended = attend(query, key, value, None, self.drop_weights, train)
        return self.drop_out(self.out(attended), deterministic=not train)


def modulate(rows: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """AdaLN: rows * (1 + scale) + shift, per row and channel."""
    return rows * (1 + scale) + shift
