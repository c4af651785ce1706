"""The observation encoder of ARP on ALOHA: camera frames and a robot state in, tokens out.

A ResNet-18 with frozen batch norm gives one token a cell of its last feature map; the state is one
token more; a post-norm transformer encoder mixes them. Images come in normalised (by whoever holds
the statistics) and channels-last.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.detr_encoder import DetrEncoder, sine_positions_2d
from arp_jax.models.resnet import ResNet

# Starting values of the framework the encoder was published in.
_dense_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")
_table_init = nn.initializers.normal(1.0)


class StateImageEncoder(nn.Module):
    """Tokens [state | cells of the feature map, row-major], as published (ARP, ALOHA).

    ``__call__`` maps images [B, V, height, width, 3] and state [B, S] to float32
    [B, 1 + h * V * w, embed_dim], where h, w = ceil(height / 32), ceil(width / 32); the maps of
    several cameras lie side by side. ``cells`` cuts the image tokens back into a map.
    """

    embed_dim: int = 512
    layers: int = 4
    heads: int = 8
    hidden: int = 3100
    dropout: float = 0.1
    depth: int = 18
    norm: str = "frozen_batch"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.trunk = ResNet(depth=self.depth, norm=self.norm, dtype=self.dtype)
        self.cell_dense = nn.Dense(self.embed_dim, kernel_init=_dense_init, dtype=self.dtype)
        self.state_dense = nn.Dense(self.embed_dim, kernel_init=_dense_init)
        self.state_position = self.param("state_position", _table_init, (1, self.embed_dim))
        self.encoder = DetrEncoder(
            layers=self.layers,
            embed_dim=self.embed_dim,
            heads=self.heads,
            hidden=self.hidden,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def feature_map(self, images: jax.Array) -> jax.Array:
        """Images [B, V, height, width, 3] -> the trunk's map [B, h, V * w, 512]."""
        batch, views = images.shape[:2]
        maps = self.trunk(images.reshape(batch * views, *images.shape[2:]))
        maps = maps.reshape(batch, views, *maps.shape[1:]).transpose(0, 2, 1, 3, 4)
        return maps.reshape(batch, maps.shape[1], -1, maps.shape[-1])

    def mix(
        self, feature_map: jax.Array, state: jax.Array, views: int, train: bool = False
    ) -> jax.Array:
        """The trunk's map [B, h, V * w, 512] and state [B, S] -> tokens [B, 1 + h * V * w, C]."""
        batch, height, width, _ = feature_map.shape
        # Cameras share their positions: a cell knows where it is in its own picture only.
        one_view = sine_positions_2d(height, width // views, self.embed_dim)
        positions = np.tile(one_view, (1, views, 1)).reshape(height * width, self.embed_dim)
        image = self.cell_dense(feature_map).reshape(batch, height * width, self.embed_dim)
        first = self.state_dense(state)[:, None] + self.state_position
        tokens = jnp.concatenate([first, image.astype(jnp.float32) + positions], axis=1)
        return self.encoder(tokens, train=train).astype(jnp.float32)

    def __call__(self, images: jax.Array, state: jax.Array, train: bool = False) -> jax.Array:
        return self.mix(self.feature_map(images), state, images.shape[1], train)


def cells(tokens: jax.Array, height: int) -> jax.Array:
    """Tokens [B, 1 + h * w, C] of ``StateImageEncoder`` -> feature map [B, h, w, C]."""
    return tokens[:, 1:].reshape(tokens.shape[0], height, -1, tokens.shape[-1])
