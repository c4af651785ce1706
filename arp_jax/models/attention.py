"""Multi-head self-attention over explicit masks and explicit keys and values; AdaLN modulation.

In: rows [B, Q, C], keys and values (of the same rows and of a cache), a boolean mask. Out: attended
rows [B, Q, C]. It never decides who sees whom (``chunk_schedule`` does) and keeps no state: a cache
comes in and goes out as arrays. Attention to an observation is ``context_attention``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

KeysValues = tuple[jax.Array, jax.Array]
# Known before tracing where possible: then an all-true mask costs nothing.
Mask = np.ndarray | jax.Array | None

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
    """[B, T, parts * C] -> ``parts`` arrays [B, heads, T, C / heads] (contiguous slices)."""
    batch, length, width = rows.shape
    split = rows.reshape(batch, length, parts, heads, width // (parts * heads))
    split = split.transpose(2, 0, 3, 1, 4)  # [parts, B, H, T, d]
    return tuple(split[p] for p in range(parts))


def join_heads(rows: jax.Array) -> jax.Array:
    """[B, H, T, d] -> [B, T, H * d]."""
    batch, heads, length, depth = rows.shape
    return rows.transpose(0, 2, 1, 3).reshape(batch, length, heads * depth)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: Mask,
    dropout: nn.Dropout,
    train: bool,
) -> jax.Array:
    """Softmax attention; scores and softmax in float32.

    Args:
        query: [B, H, Q, d]; key, value: [B or 1, H, K, d]. Heads stand before rows because that
            is the order in which XLA's products need no copies.
        mask: [Q, K] bool, True where attending is allowed; None allows all. A row that may see
            nothing returns zeros (a NaN in the published code).
        dropout: applied to the probabilities when ``train``.

    Returns:
        [B, Q, H * d] in the dtype of ``value``.
    """
    query = query * np.asarray(1.0 / np.sqrt(query.shape[-1]), query.dtype)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = masked_softmax(scores, mask)
    weights = dropout(weights.astype(value.dtype), deterministic=not train)
    return join_heads(jnp.einsum("bhqk,bhkd->bhqd", weights, value))


def masked_softmax(scores: jax.Array, mask: Mask) -> jax.Array:
    """Softmax over the last axis of scores [..., Q, K] where mask [Q, K] allows; else zero."""
    if mask is None or (isinstance(mask, np.ndarray) and mask.all()):
        return nn.softmax(scores, axis=-1)
    weights = nn.softmax(scores + jnp.where(mask, np.float32(0), FORBIDDEN), axis=-1)
    if not isinstance(mask, np.ndarray) or not mask.any(-1).all():
        weights = weights * mask.any(-1, keepdims=True)
    return weights


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
        self, rows: jax.Array, cache: KeysValues | None, mask: Mask, train: bool
    ) -> tuple[jax.Array, KeysValues]:
        """rows [B, T, C], cache (keys, values) [B, H, M, d], mask [T, M + T].

        Returns the attended rows [B, T, C] and the keys and values [B, H, T, d] of ``rows``.
        """
        query, key, value = split_heads(self.qkv(rows), 3, self.heads)
        all_keys, all_values = key, value
        if cache is not None:
            all_keys = jnp.concatenate([cache[0], key], axis=2)
            all_values = jnp.concatenate([cache[1], value], axis=2)
        attended = attend(query, all_keys, all_values, mask, self.drop_weights, train)
        return self.drop_out(self.out(attended), deterministic=not train), (key, value)


def modulate(rows: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """AdaLN: rows * (1 + scale) + shift, per row and channel."""
    return rows * (1 + scale) + shift
