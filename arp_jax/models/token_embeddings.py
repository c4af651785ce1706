"""From token codes to vectors: the value embeddings of every type, and the query embeddings.

In: codes [B, N, dim] of one token type (``tokens.encode_values``) and named contexts. Out: vectors
[B, N, C]. A query embedding knows only slot and type, never a value. Positions are added later by
``chunk_transformer``.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import xavier
from arp_jax.models.tokens import TokenType

Contexts = Mapping[str, jax.Array | None]

table_init = nn.initializers.normal(0.02)


def required_context(contexts: Contexts, name: str, needed_by: str) -> jax.Array:
    """Return ``contexts[name]``; ValueError names the missing context and who needs it."""
    context = contexts.get(name)
    if context is None:
        raise ValueError(
            f"{needed_by} needs the context {name!r}; contexts given: {sorted(contexts)}"
        )
    return context


def position_1d(x: jax.Array, width: int, scale: float = 1.0, period: float = 10000.0) -> jax.Array:
    """Sine features of a number: x [..., 1] -> [..., width], sines then cosines."""
    frequencies = period ** (-2.0 * np.arange(width // 2) / width)
    phase = scale * x[..., :1] * frequencies.astype(np.float32)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def position_2d(x: jax.Array, width: int, scale: float = 1.0, period: float = 10000.0) -> jax.Array:
    """Sine features of a point: x [..., 2] -> [..., width]; width divisible by 4.

    First half: sin and cos of x_0 interleaved. Second half: cos of x_1 in the even slots and
    zeros in the odd ones. The second coordinate has no sines in the published models, and their
    checkpoints depend on it.
    """
    half = width // 2
    frequencies = (period ** (-2.0 * np.arange(half // 2) / half)).astype(np.float32)
    phase_0, phase_1 = scale * x[..., :1] * frequencies, scale * x[..., 1:2] * frequencies
    first = jnp.stack([jnp.sin(phase_0), jnp.cos(phase_0)], axis=-1)
    second = jnp.stack([jnp.cos(phase_1), jnp.zeros_like(phase_1)], axis=-1)
    halves = [part.reshape(*x.shape[:-1], half) for part in (first, second)]
    return jnp.concatenate(halves, axis=-1)


def sample_feature_grid(
    features: jax.Array, points: jax.Array, stride: tuple[float, float], token_format: str
) -> jax.Array:
    """Inverse-distance sampling of a feature map at points (not bilinear).

    Args:
        features: [G, h, w, C].
        points: [G, P, 2] in pixels, (x, y) for ``xy``, (row, column) for ``hw``.
        stride: pixels per cell of either coordinate.

    Returns:
        [G, P, C]. A point outside the map gets a zero vector; one exactly on a cell gets that cell.
        For ``hw`` the inside test still compares the first coordinate with the *width*, as the
        published code does.
    """
    groups, height, width, channels = features.shape
    points = points / np.asarray(stride, np.float32)
    first, second = points[..., 0], points[..., 1]
    corners_0 = jnp.stack([jnp.floor(first)] * 2 + [jnp.ceil(first)] * 2, axis=-1)  # [G, P, 4]
    corners_1 = jnp.stack([jnp.floor(second), jnp.ceil(second)] * 2, axis=-1)
    # fmod keeps the sign, so a negative corner stays negative and is then put on cell 0.
    corners_0 = jnp.maximum(jnp.fmod(corners_0, width), 0)
    corners_1 = jnp.maximum(jnp.fmod(corners_1, height), 0)
    distance = jnp.hypot(corners_0 - first[..., None], corners_1 - second[..., None])
    inside = (first >= 0) & (first <= width - 1) & (second >= 0) & (second <= height - 1)
    weights = inside[..., None] / (distance + 1e-10)
    total = weights.sum(-1, keepdims=True)
    weights = weights / jnp.where(total == 0, 1.0, total)
    row, column = (corners_1, corners_0) if token_format == "xy" else (corners_0, corners_1)
    flat = row * width + column
    cells = features.reshape(groups, height * width, channels)
    index = flat.astype(jnp.int32).reshape(groups, -1)
    corners = jnp.take_along_axis(cells, index[..., None], axis=1)
    corners = corners.reshape(*weights.shape, channels)  # [G, P, 4, C]
    return (weights[..., None] * corners).sum(-2)


class ValueEmbedding(nn.Module):
    """The value embedding of one token type."""

    token: TokenType
    embed_dim: int

    def setup(self) -> None:
        token = self.token
        if token.embedding == "linear":
            self.linear = nn.Dense(self.embed_dim, kernel_init=xavier)
        elif token.embedding == "discrete" and not token.embeds_from_context:
            self.tables = [
                self.param(f"table_{j}", table_init, (size, self.embed_dim))
                for j, size in enumerate(token.dict_sizes)
            ]

    def __call__(self, codes: jax.Array, contexts: Contexts) -> jax.Array:
        """codes [B, N, dim] float32 -> [B, N, C]."""
        token, width = self.token, self.embed_dim
        if token.embedding == "linear":
            return self.linear(codes)
        if token.embedding == "zero":
            return jnp.zeros((*codes.shape[:-1], width), jnp.float32)
        if token.embedding in ("position_1d", "position_2d"):
            function = position_1d if token.embedding == "position_1d" else position_2d
            scale = token.embedding_option("scale", 1.0)
            return function(codes, width, scale, token.embedding_option("N", 10000.0))
        if token.embedding == "feat_grid_2d":
            return self._from_grid(codes, contexts)
        rows = codes.astype(jnp.int32)
        if token.embeds_from_context:
            return self._from_context(rows[..., 0], contexts)
        found = [jnp.take(table, rows[..., j], axis=0) for j, table in enumerate(self.tables)]
        return sum(found[1:], start=found[0])

    def _from_context(self, rows: jax.Array, contexts: Contexts) -> jax.Array:
        name = str(self.token.embeds_from_context)
        table = required_context(contexts, name, f"token type {self.token.name!r}")
        if table.ndim == 2:  # [K, C], shared by the batch
            return jnp.take(table, rows, axis=0)
        return jnp.take_along_axis(table, rows[..., None], axis=1)  # [B, K, C]

    def _from_grid(self, codes: jax.Array, contexts: Contexts) -> jax.Array:
        token = self.token
        name = token.embedding_option("sampling_from")
        features = required_context(contexts, name, f"token type {token.name!r}")  # [G, h, w, C]
        stride = token.embedding_option("stride", 1)
        stride = tuple(stride) if isinstance(stride, tuple) else (stride, stride)
        # The map may be [B * views, ...] with a sample's tokens ordered view by view.
        points = codes[..., :2].reshape(features.shape[0], -1, 2)
        token_format = token.embedding_option("token_format", "xy")
        sampled = sample_feature_grid(features, points, stride, token_format)
        return sampled.reshape(*codes.shape[:-1], self.embed_dim)


class QueryEmbedding(nn.Module):
    """What a token to be predicted looks like: its slot in the chunk plus its type."""

    max_chunk_size: int
    num_types: int
    embed_dim: int

    def setup(self) -> None:
        self.chunk_table = self.param(
            "chunk_table", table_init, (self.max_chunk_size, self.embed_dim)
        )
        self.type_table = self.param("type_table", table_init, (self.num_types, self.embed_dim))

    def __call__(self, slots: np.ndarray, token_ids: np.ndarray) -> jax.Array:
        """Static slots [T] and type ids [T] -> [T, C]."""
        return self.chunk_table[slots] + self.type_table[token_ids]
