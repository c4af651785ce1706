"""The transformer decoder of DETR and ACT: learned queries in, one row of features a query out.

Each layer lets the queries see each other, then the memory, then applies an MLP. Which memory there
is, and what is predicted from the rows, is the policy's business.

Carion et al. 2020, appendix A.3; Zhao et al. 2023 (ACT), appendix C.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from arp_jax.models.attention import attend, dense, split_heads, xavier
from arp_jax.models.detr_encoder import (
    NORM_EPSILON,
    FusedProjection,
    apply_mlp,
    attend_self,
)


class CrossProjection(nn.Module):
    """Queries of one set of rows, keys and values of another: a single kernel [C, 3 C]."""

    embed_dim: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        width = self.embed_dim
        self.kernel = self.param("kernel", xavier, (width, 3 * width))
        self.bias = self.param("bias", nn.initializers.zeros, (3 * width,))

    def __call__(
        self, queries: jax.Array, keys: jax.Array, values: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Three sets of rows [B, T, C] -> the same, projected."""
        kernels = jnp.split(self.kernel.astype(self.dtype), 3, axis=-1)
        biases = jnp.split(self.bias.astype(self.dtype), 3)
        query, key, value = (
            rows @ kernel + bias
            for rows, kernel, bias in zip((queries, keys, values), kernels, biases, strict=True)
        )
        return query, key, value


class DetrDecoderLayer(nn.Module):
    """One layer; post-norm as published, or pre-norm."""

    embed_dim: int
    heads: int
    hidden: int
    dropout: float
    dtype: jnp.dtype = jnp.float32
    pre_norm: bool = False

    def setup(self) -> None:
        self.qkv = FusedProjection(self.embed_dim, self.dtype)
        self.out = dense(self.embed_dim, self.dtype)
        self.cross_qkv = CrossProjection(self.embed_dim, self.dtype)
        self.cross_out = dense(self.embed_dim, self.dtype)
        self.fc1 = dense(self.hidden, self.dtype)
        self.fc2 = dense(self.embed_dim, self.dtype)
        self.norm_attention = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)
        self.norm_cross = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)
        self.norm_mlp = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def _look(
        self,
        rows: jax.Array,
        queries: jax.Array,
        memory: jax.Array,
        positions: jax.Array,
        train: bool,
    ) -> jax.Array:
        projected = self.cross_qkv(rows + queries, memory + positions, memory)
        query, key, value = (split_heads(part, 1, self.heads)[0] for part in projected)
        attended = self.cross_out(attend(query, key, value, None, self.drop, train))
        return self.drop(attended, deterministic=not train)

    def __call__(
        self,
        rows: jax.Array,
        queries: jax.Array,
        memory: jax.Array,
        positions: jax.Array,
        train: bool,
    ) -> jax.Array:
        """rows [B, Q, C], queries [Q, C], memory [B, M, C], positions [M, C] -> [B, Q, C]."""
        if self.pre_norm:
            rows = rows + attend_self(self, self.norm_attention(rows), queries, train)
            rows = rows + self._look(self.norm_cross(rows), queries, memory, positions, train)
            return rows + apply_mlp(self, self.norm_mlp(rows), train)
        rows = self.norm_attention(rows + attend_self(self, rows, queries, train))
        rows = self.norm_cross(rows + self._look(rows, queries, memory, positions, train))
        return self.norm_mlp(rows + apply_mlp(self, rows, train))


class DetrDecoder(nn.Module):
    """``layers`` layers over rows that start as zeros; one shared norm after each that is read."""

    layers: int
    embed_dim: int
    heads: int
    hidden: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    pre_norm: bool = False

    def setup(self) -> None:
        self.blocks = [
            DetrDecoderLayer(
                self.embed_dim, self.heads, self.hidden, self.dropout, self.dtype, self.pre_norm
            )
            for _ in range(self.layers)
        ]
        self.norm_out = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype)

    def __call__(
        self,
        queries: jax.Array,
        memory: jax.Array,
        positions: jax.Array,
        train: bool = False,
        read: int | None = None,
    ) -> jax.Array:
        """Rows of features, one a query.

        Args:
            queries: learned query embeddings [Q, C].
            memory: [B, M, C].
            positions: of the memory, [M, C].
            train: dropout on; needs ``rngs={"dropout": key}``.
            read: layer whose output is returned (layers behind it are not computed); None is the
                last one.

        Returns:
            [B, Q, C].
        """
        last = self.layers - 1 if read is None else read
        rows = jnp.zeros((memory.shape[0], *queries.shape), self.dtype)
        for block in self.blocks[: last + 1]:
            rows = block(rows, queries, memory, positions, train)
        if self.is_initializing():
            for block in self.blocks[last + 1 :]:  # their parameters exist all the same
                block(rows, queries, memory, positions, train)
        return self.norm_out(rows)
