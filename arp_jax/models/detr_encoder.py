"""The transformer encoder of DETR and ACT: tokens in, tokens that have seen each other out.

Post-norm layers (add, then normalise; or the other way round) with an optional last norm, and the
fixed sine positions that go with the tokens. Positions are either added once to the input by the
caller (ARP on ALOHA) or given to every layer's queries and keys (DETR, ACT). Which tokens there
are, and what they are made of, is the observation encoder's business; the decoder is
`detr_decoder.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import attend, dense, split_heads, xavier

NORM_EPSILON = 1e-5


def sine_positions_2d(
    height: int, width: int, embed_dim: int, period: float = 10000.0, scaled: bool = True
) -> np.ndarray:
    """Fixed positions of the cells of a feature map, float32 [height, width, embed_dim].

    The first half of the channels encodes the row, the second half the column. A coordinate counts
    from 1 and is ``scaled`` to (0, 2 pi]; channel 2 k of a half of d channels is its sine and
    channel 2 k + 1 its cosine after division by period^(2 k / d) (Carion et al. 2020, appendix
    A.4).

    Raises:
        ValueError: ``embed_dim`` is not a multiple of 4.
    """
    if embed_dim % 4:
        raise ValueError(f"sine_positions_2d: embed_dim must be a multiple of 4, found {embed_dim}")
    half = embed_dim // 2
    divisors = np.repeat(period ** (2.0 * np.arange(half // 2) / half), 2)  # [half]

    def encode(count: int) -> np.ndarray:
        # The small constant keeps published values; it would matter only for a map of no cells.
        angle = np.arange(1.0, count + 1)
        if scaled:
            angle = angle / (count + 1e-6) * 2 * np.pi
        phase = angle[:, None] / divisors
        even = np.arange(half) % 2 == 0
        return np.where(even, np.sin(phase), np.cos(phase))  # [count, half]

    rows, columns = encode(height)[:, None], encode(width)[None]
    shape = (height, width, half)
    both = [np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)]
    return np.concatenate(both, axis=-1).astype(np.float32)


def sine_positions_1d(count: int, embed_dim: int, period: float = 10000.0) -> np.ndarray:
    """Fixed positions of a sequence, float32 [count, embed_dim]: sine on even, cosine on odd dims.

    Vaswani et al. 2017, section 3.5; positions count from 0.
    """
    dims = np.arange(embed_dim)
    phase = np.arange(count)[:, None] / period ** (2.0 * (dims // 2) / embed_dim)
    return np.where(dims % 2 == 0, np.sin(phase), np.cos(phase)).astype(np.float32)


class FusedProjection(nn.Module):
    """Queries, keys and values of one set of rows: a single kernel [C, 3 C], as published."""

    embed_dim: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        width = self.embed_dim
        self.kernel = self.param("kernel", xavier, (width, 3 * width))
        self.bias = self.param("bias", nn.initializers.zeros, (3 * width,))

    def __call__(self, rows: jax.Array, positions: jax.Array | None) -> jax.Array:
        """rows [B, T, C], positions broadcastable to it or None -> [B, T, 3 C]."""
        kernel, bias = self.kernel.astype(self.dtype), self.bias.astype(self.dtype)
        if positions is None:
            return rows @ kernel + bias
        # Values carry content only; where a token is decides who looks at it.
        split = 2 * self.embed_dim
        placed = rows + positions.astype(rows.dtype)
        return jnp.concatenate([placed @ kernel[:, :split], rows @ kernel[:, split:]], -1) + bias


def attend_self(
    layer: Any,
    rows: jax.Array,
    positions: jax.Array | None,
    train: bool,
    seen: jax.Array | None = None,
) -> jax.Array:
    """Self-attention of an encoder or decoder layer (its qkv, out, drop): [B, T, C] -> the same."""
    query, key, value = split_heads(layer.qkv(rows, positions), 3, layer.heads)
    attended = layer.out(attend(query, key, value, seen, layer.drop, train))
    return layer.drop(attended, deterministic=not train)


def apply_mlp(layer: Any, rows: jax.Array, train: bool) -> jax.Array:
    """The MLP of an encoder or decoder layer (its fc1, fc2, drop): [B, T, C] -> the same."""
    hidden = layer.drop(nn.relu(layer.fc1(rows)), deterministic=not train)
    return layer.drop(layer.fc2(hidden), deterministic=not train)


class DetrEncoderLayer(nn.Module):
    """Self-attention, then a two-layer ReLU MLP; each is added to its input.

    Results are normalised (post-norm, as published) or, with `pre_norm`, their inputs are.
    """

    embed_dim: int
    heads: int
    hidden: int
    dropout: float
    dtype: jnp.dtype = jnp.float32
    pre_norm: bool = False

    def setup(self) -> None:
        self.qkv = FusedProjection(self.embed_dim, self.dtype)
        self.out = dense(self.embed_dim, self.dtype)
        self.fc1 = dense(self.hidden, self.dtype)
        self.fc2 = dense(self.embed_dim, self.dtype)
        self.norm_attention = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)
        self.norm_mlp = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        rows: jax.Array,
        positions: jax.Array | None,
        train: bool,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """rows [B, T, C], seen [B, 1, 1, T] or None -> [B, T, C]."""
        if self.pre_norm:
            rows = rows + attend_self(self, self.norm_attention(rows), positions, train, seen)
            return rows + apply_mlp(self, self.norm_mlp(rows), train)
        rows = self.norm_attention(rows + attend_self(self, rows, positions, train, seen))
        return self.norm_mlp(rows + apply_mlp(self, rows, train))


class DetrEncoder(nn.Module):
    """``layers`` layers and, with ``final_norm``, one more LayerNorm.

    ``dropout`` applies to attention weights, to both results before they are added, and between the
    two layers of the MLP.
    """

    layers: int
    embed_dim: int
    heads: int
    hidden: int
    dropout: float = 0.1
    final_norm: bool = True
    dtype: Any = jnp.float32
    pre_norm: bool = False

    def setup(self) -> None:
        self.blocks = [
            DetrEncoderLayer(
                self.embed_dim, self.heads, self.hidden, self.dropout, self.dtype, self.pre_norm
            )
            for _ in range(self.layers)
        ]
        if self.final_norm:
            self.norm_out = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        train: bool = False,
        is_pad: jax.Array | None = None,
    ) -> jax.Array:
        """tokens [B, T, C] -> [B, T, C] in ``dtype``.

        Args:
            tokens: the input rows.
            positions: [T, C] or [B, T, C], added to the queries and keys of every layer; None when
                the caller has put positions into ``tokens``.
            train: dropout on; needs ``rngs={"dropout": key}``.
            is_pad: bool [B, T], tokens that nobody may look at.
        """
        seen = None if is_pad is None else ~is_pad[:, None, None]  # [B, 1, 1, T]
        rows = tokens.astype(self.dtype)
        for block in self.blocks:
            rows = block(rows, positions, train, seen)
        return self.norm_out(rows) if self.final_norm else rows
