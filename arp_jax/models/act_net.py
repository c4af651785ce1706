"""The network of ACT: a conditional variational autoencoder over chunks of actions.

The style encoder reads state and recorded chunk and says what kind of chunk it is (a Gaussian, or
codes); the observation encoder turns state, style and camera images into a memory; the decoder
turns learned queries into actions and says which lie behind the episode's end. Losses, sampling of
the style and normalisation are `policies/act.py`'s business.

Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", section IV
and appendix C; codes as in Fu et al. 2024 (Mobile ALOHA's ACT++).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.detr_decoder import DetrDecoder
from arp_jax.models.detr_encoder import DetrEncoder, sine_positions_1d, sine_positions_2d
from arp_jax.models.trunks import make_trunk

_table_init = nn.initializers.normal(1.0)


class UniformDense(nn.Module):
    """Linear layer whose kernel and bias start uniform in +-1 / sqrt(inputs), as published.

    The bias matters: what follows normalises each token, and of a token without one only the
    direction would be left, so that a short state vector loses its length.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact  # the bias needs the number of inputs
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., I] -> [..., features]."""
        size = inputs.shape[-1]

        def start(rng: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(rng, shape, minval=-(size**-0.5), maxval=size**-0.5)

        kernel = self.param("kernel", start, (size, self.features)).astype(self.dtype)
        bias = self.param("bias", start, (self.features,)).astype(self.dtype)
        # One leading axis: see `attention.RowsDense`.
        rows = inputs.reshape(-1, size).astype(self.dtype) @ kernel + bias
        return rows.reshape(*inputs.shape[:-1], self.features)


class StyleEncoder(nn.Module):
    """Tokens [summary | state | actions] -> what is read off the summary token, [B, outputs]."""

    layers: int
    embed_dim: int
    heads: int
    hidden: int
    outputs: int
    dropout: float = 0.1
    pre_norm: bool = False

    def setup(self) -> None:
        self.summary = self.param("summary", _table_init, (1, self.embed_dim))
        self.state_dense, self.action_dense = (
            UniformDense(self.embed_dim),
            UniformDense(self.embed_dim),
        )
        self.encoder = DetrEncoder(
            *(self.layers, self.embed_dim, self.heads, self.hidden, self.dropout),
            final_norm=self.pre_norm,
            pre_norm=self.pre_norm,
        )
        self.head = UniformDense(self.outputs)

    def __call__(
        self, state: jax.Array, actions: jax.Array, is_pad: jax.Array, train: bool
    ) -> jax.Array:
        """state [B, S], actions [B, H, A], is_pad bool [B, H] -> [B, outputs]."""
        batch, horizon = actions.shape[:2]
        summary = jnp.broadcast_to(self.summary, (batch, 1, self.embed_dim))
        tokens = jnp.concatenate(
            [summary, self.state_dense(state)[:, None], self.action_dense(actions)], axis=1
        )  # [B, 2 + H, C]
        positions = jnp.asarray(sine_positions_1d(horizon + 2, self.embed_dim))
        hidden = jnp.pad(is_pad, ((0, 0), (2, 0)))  # summary and state are always there
        return self.head(self.encoder(tokens, positions, train, hidden)[:, 0])


class ActNet(nn.Module):
    """Everything with parameters in ACT.

    Attributes:
        action_dim, horizon: A, H.
        style_inputs: width of the latent that `decode` takes.
        style_outputs: what `encode_style` returns; 0 = no style encoder.
        cameras: number of images.
        tokens: further vectors, each a token of its own (state-only policies).
        shared_trunk: one trunk for all cameras, or one each.
        trunk, depth, trunk_norm, trunk_width: see `trunks.make_trunk`.
        decoder_layers, read_layer: the layers, and the one whose output is used (-1 the last).
    """

    action_dim: int
    horizon: int
    style_inputs: int
    style_outputs: int
    cameras: int = 1
    tokens: int = 0
    shared_trunk: bool = True
    trunk: str = "resnet"
    depth: int = 18
    trunk_norm: str = "frozen_batch"
    trunk_width: int = 64
    embed_dim: int = 512
    heads: int = 8
    hidden: int = 3200
    style_layers: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 1
    read_layer: int = -1
    dropout: float = 0.1
    pre_norm: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        width, shape = self.embed_dim, (self.embed_dim, self.heads, self.hidden, self.dropout)
        if self.style_outputs:
            self.style = StyleEncoder(
                *(self.style_layers, width, self.heads, self.hidden, self.style_outputs),
                dropout=self.dropout,
                pre_norm=self.pre_norm,
            )
        self.style_dense, self.state_dense = UniformDense(width), UniformDense(width)
        self.first_positions = self.param("first_positions", _table_init, (2 + self.tokens, width))
        self.token_dense = [UniformDense(width) for _ in range(self.tokens)]
        if self.cameras:
            count = 1 if self.shared_trunk else self.cameras
            self.trunks = [
                make_trunk(self.trunk, self.depth, self.trunk_norm, self.trunk_width, self.dtype)
                for _ in range(count)
            ]
            self.cell_dense = UniformDense(width, self.dtype)
        self.encoder = DetrEncoder(
            *(self.encoder_layers, *shape),
            final_norm=self.pre_norm,
            dtype=self.dtype,
            pre_norm=self.pre_norm,
        )
        self.queries = self.param("queries", _table_init, (self.horizon, width))
        self.decoder = DetrDecoder(
            *(self.decoder_layers, *shape), dtype=self.dtype, pre_norm=self.pre_norm
        )
        self.action_head, self.pad_head = UniformDense(self.action_dim), UniformDense(1)

    def encode_style(
        self, state: jax.Array, actions: jax.Array, is_pad: jax.Array, train: bool
    ) -> jax.Array:
        """What kind of chunk it is: [B, style_outputs]."""
        return self.style(state, actions, is_pad, train)

    def feature_maps(self, images: jax.Array) -> tuple[jax.Array, np.ndarray]:
        """Images [B, V, h, w, 3] -> projected maps side by side [B, h', V * w', C], positions."""
        maps = []
        for view in range(self.cameras):
            trunk = self.trunks[0 if self.shared_trunk else view]
            maps.append(self.cell_dense(trunk(images[:, view])))
        height, width = maps[0].shape[1:3]
        # Cameras share their positions: a cell knows where it is in its own picture only.
        positions = np.tile(sine_positions_2d(height, width, self.embed_dim), (1, len(maps), 1))
        return jnp.concatenate(maps, axis=2), positions

    def decode(
        self,
        style: jax.Array,
        state: jax.Array,
        images: jax.Array | None,
        vectors: tuple[jax.Array, ...] = (),
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Actions of a style for an observation.

        Args:
            style: [B, style_inputs].
            state: [B, S].
            images: normalised float32 [B, V, h, w, 3], or None without cameras.
            vectors: [B, D] each, one a token.
            train: dropout on; needs ``rngs={"dropout": key}``.

        Returns:
            (actions [B, H, A], logits of lying behind the episode's end [B, H, 1]), float32.
        """
        rows = [self.style_dense(style), self.state_dense(state)]
        rows += [dense(x) for dense, x in zip(self.token_dense, vectors, strict=True)]
        tokens, positions = jnp.stack(rows, axis=1), self.first_positions
        if images is not None:
            maps, cells = self.feature_maps(images)
            flat = maps.reshape(maps.shape[0], -1, self.embed_dim).astype(jnp.float32)
            tokens = jnp.concatenate([tokens, flat], axis=1)  # [B, 2 + tokens + h * V * w, C]
            positions = jnp.concatenate([positions, cells.reshape(-1, self.embed_dim)])
        memory = self.encoder(tokens, positions, train)
        read = self.decoder_layers - 1 if self.read_layer < 0 else self.read_layer
        features = self.decoder(self.queries, memory, positions, train, read)
        features = features.astype(jnp.float32)
        return self.action_head(features), self.pad_head(features)

    def __call__(
        self,
        state: jax.Array,
        images: jax.Array | None,
        vectors: tuple[jax.Array, ...],
        actions: jax.Array,
        is_pad: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Touches every parameter; for `init`."""
        if self.style_outputs:
            self.encode_style(state, actions, is_pad, False)
        style = jnp.zeros((len(state), self.style_inputs))
        return self.decode(style, state, images, vectors)
