"""A transformer over rendered views of a scene, a robot's state and a sentence (after RVT-2).

In: views [B, V, H, W, channels], proprioception and language features. Out: one feature map per
view, channels last. Patches of each view attend to each other first, then all views and the
sentence jointly. Which views there are and what is read off the maps is the policy's business.
Sources: Goyal et al. 2024 (RVT-2); Zhang et al. 2024 (ARP), RLBench experiments.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import RowsDense, attend, split_heads, xavier

NORM_EPSILON = 1e-5
NORM_GROUPS = 4
LEAK = 0.02


@dataclass(frozen=True)
class MultiViewConfig:
    """Sizes; the defaults are the published RLBench model (34,033,728 parameters).

    Attributes:
        views, image_size, channels: a view is [image_size, image_size, channels].
        patch: side of a patch in pixels.
        patch_features: features of a patch, and as many of the robot's state: a map has twice that.
        proprio_dim: size of the robot's state.
        language_tokens, language_dim: shape of the sentence's features.
        width, heads, head_dim, layers, mlp_ratio: of the transformer; the first half of the layers
            stays within each view.
        dropout: of attention probabilities.
    """

    views: int = 3
    image_size: int = 224
    channels: int = 10
    patch: int = 14
    patch_features: int = 64
    proprio_dim: int = 3
    language_tokens: int = 77
    language_dim: int = 512
    width: int = 512
    heads: int = 8
    head_dim: int = 64
    layers: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch {self.patch}"
            )
        if self.layers % 2:
            raise ValueError(f"layers must be even (half within views), found {self.layers}")

    @property
    def grid(self) -> int:
        """Patches along one side of a view."""
        return self.image_size // self.patch

    @property
    def map_features(self) -> int:
        """Channels of the output maps."""
        return 2 * self.patch_features


def _uniform_bias(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in), the start of biases in the published linear layers."""
    bound = 1.0 / np.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _linear(fan_in: int, features: int, dtype: jnp.dtype, use_bias: bool = True) -> nn.Dense:
    """Linear layer of a block: everything uniform in +-1/sqrt(fan_in)."""
    return RowsDense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        bias_init=_uniform_bias(fan_in),
    )


class Embed(nn.Module):
    """Linear, group norm over each entry of the leading axis, leaky ReLU."""

    features: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        gain = 2.0 / (1.0 + LEAK**2)
        kernel_init = nn.initializers.variance_scaling(gain, "fan_in", "uniform")
        self.linear = RowsDense(self.features, dtype=self.dtype, kernel_init=kernel_init)
        self.norm = nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, dtype=self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [N, ..., D] -> [N, ..., features]; a group's statistics span all middle axes."""
        return nn.leaky_relu(self.norm(self.linear(x)), LEAK)


class Block(nn.Module):
    """Pre-norm attention and gated MLP, each added to its input; signature as for ``nn.scan``."""

    config: MultiViewConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        cfg, dtype = self.config, self.dtype
        inner, hidden = cfg.heads * cfg.head_dim, cfg.mlp_ratio * cfg.width
        self.norm_attention = nn.LayerNorm(NORM_EPSILON, dtype=dtype)
        self.query = _linear(cfg.width, inner, dtype, use_bias=False)
        self.key_value = _linear(cfg.width, 2 * inner, dtype, use_bias=False)
        self.out = _linear(inner, cfg.width, dtype)
        self.drop_weights = nn.Dropout(cfg.dropout)
        self.norm_mlp = nn.LayerNorm(NORM_EPSILON, dtype=dtype)
        self.fc1 = _linear(cfg.width, 2 * hidden, dtype)
        self.fc2 = _linear(hidden, cfg.width, dtype)

    def __call__(self, rows: jax.Array, train: bool) -> tuple[jax.Array, None]:
        """rows [N, T, width] -> the same shape; the second result is what a scan would stack."""
        heads = self.config.heads
        normed = self.norm_attention(rows)
        (query,) = split_heads(self.query(normed), 1, heads)
        key, value = split_heads(self.key_value(normed), 2, heads)
        rows = rows + self.out(attend(query, key, value, None, self.drop_weights, train))
        signal, gate = jnp.split(self.fc1(self.norm_mlp(rows)), 2, axis=-1)
        return rows + self.fc2(signal * nn.gelu(gate, approximate=False)), None


class MultiViewTransformer(nn.Module):
    """See the module's docstring; ``dtype`` is the compute type, outputs are float32."""

    config: MultiViewConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        cfg, dtype = self.config, self.dtype
        places = (cfg.views * cfg.grid**2, cfg.map_features)
        self.position_table = self.param("position_table", nn.initializers.normal(1.0), places)
        self.embed_patch = Embed(cfg.patch_features, dtype)
        self.embed_proprio = Embed(cfg.patch_features, dtype)
        self.embed_language = Embed(cfg.map_features, dtype)
        self.enter = RowsDense(cfg.width, dtype=dtype, kernel_init=xavier)
        self.leave = RowsDense(cfg.map_features, dtype=dtype, kernel_init=xavier)
        stack = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=cfg.layers // 2,
        )
        self.within_views = stack(cfg, dtype)
        self.across_views = stack(cfg, dtype)

    def __call__(
        self, views: jax.Array, proprio: jax.Array, language: jax.Array, train: bool = False
    ) -> jax.Array:
        """Feature maps of every view.

        Args:
            views: [B, V, H, W, channels] float32.
            proprio: [B, proprio_dim] float32.
            language: [B, language_tokens, language_dim] float32.
            train: dropout on; needs ``rngs={"dropout": key}``.

        Returns:
            [B, V, H / patch, W / patch, map_features] float32.
        """
        cfg = self.config
        rows = self.mixed_rows(views, proprio, language, train)
        maps = self.leave(rows[:, cfg.language_tokens :]).astype(jnp.float32)
        return maps.reshape(-1, cfg.views, cfg.grid, cfg.grid, cfg.map_features)

    def mixed_rows(
        self, views: jax.Array, proprio: jax.Array, language: jax.Array, train: bool = False
    ) -> jax.Array:
        """Rows after all layers, [B, language_tokens + V * cells, width]: the sentence's first."""
        cfg = self.config
        self._check(views, proprio, language)
        batch, grid = views.shape[0], cfg.grid
        seen = self._tokens(views, proprio)  # [B, V g g, F]
        said = self.embed_language(language.reshape(-1, cfg.language_dim))
        said = self.enter(said.reshape(batch, cfg.language_tokens, -1))  # [B, S, width]
        rows = self.enter(seen).reshape(batch * cfg.views, grid * grid, cfg.width)
        rows, _ = self.within_views(rows, train)
        rows = jnp.concatenate([said, rows.reshape(batch, -1, cfg.width)], axis=1)
        rows, _ = self.across_views(rows, train)
        return rows

    def _tokens(self, views: jax.Array, proprio: jax.Array) -> jax.Array:
        """Patch features beside the robot's, plus learned positions: [B, V g g, map_features]."""
        cfg = self.config
        batch, grid, side = views.shape[0], cfg.grid, cfg.patch
        cells = views.reshape(batch * cfg.views, grid, side, grid, side, cfg.channels)
        cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch * cfg.views, grid, grid, -1)
        patches = self.embed_patch(cells).reshape(batch, -1, cfg.patch_features)
        state = jnp.broadcast_to(self.embed_proprio(proprio)[:, None], patches.shape)
        return jnp.concatenate([patches, state], axis=-1) + self.position_table

    def _check(self, views: jax.Array, proprio: jax.Array, language: jax.Array) -> None:
        cfg, batch = self.config, views.shape[0]
        expected = {
            "views": (views, (batch, cfg.views, cfg.image_size, cfg.image_size, cfg.channels)),
            "proprio": (proprio, (batch, cfg.proprio_dim)),
            "language": (language, (batch, cfg.language_tokens, cfg.language_dim)),
        }
        for name, (array, shape) in expected.items():
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, found {array.shape}")
