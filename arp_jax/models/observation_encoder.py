"""Observation encoders: one window of observations in, context tokens for cross-attention out.

``ImageEncoder`` is the published Push-T encoder (ResNet-18, spatial softmax), preceded by
``crop_images`` and ``scale_images``, which take raw uint8 frames so that augmentation runs on the
device inside the jitted step. ``StateEncoder`` replaces the camera with normalised vectors.
Neither of them decides which observation features a policy reads.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.attention import RowsDense
from arp_jax.models.resnet import ResNet
from arp_jax.models.spatial_softmax import spatial_softmax

STATE_TOKENS = ("steps", "points")

# Weights of variance 1 / (3 fan_in): the default of the framework the encoder was published in.
_dense_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def crop_images(images: Array, size: tuple[int, int], rng: Array | None) -> Array:
    """Crop every frame: at its own random offset with ``rng``, in the centre without.

    Args:
      images: ``[B, W, height, width, 3]``, any dtype.
      size: crop (height, width) in pixels.
      rng: key for training, None for evaluation.

    Returns:
      ``[B, W, *size, 3]``. Random offsets are uniform over 0 .. height - size - 1 (the last one
      is never drawn, as published); the centre offset is (height - size) // 2.

    Raises:
      ValueError: the crop is larger than the image.
    """
    batch, window, height, width, channels = images.shape
    slack = (height - size[0], width - size[1])
    if min(slack) < 0:
        raise ValueError(f"crop {size} is larger than the image ({height}, {width})")
    if rng is None:
        top, left = slack[0] // 2, slack[1] // 2
        return images[:, :, top : top + size[0], left : left + size[1]]
    frames = images.reshape(batch * window, height, width, channels)
    highest = jnp.maximum(jnp.asarray(slack), 1)
    offsets = jax.random.randint(rng, (batch * window, 2), 0, highest)  # [B*W, 2]

    def crop_one(frame: Array, offset: Array) -> Array:
        start = (offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(frame, start, (*size, channels))

    return jax.vmap(crop_one)(frames, offsets).reshape(batch, window, *size, channels)


def scale_images(images: Array) -> Array:
    """uint8 ``[..., 3]`` in [0, 255] to float32 in [-1, 1]: ``(x / 255 - 0.5) / 0.5``."""
    return (images.astype(jnp.float32) / 255.0 - 0.5) / 0.5


class ImageEncoder(nn.Module):
    """Published Push-T image encoder: one context token a frame (ARP, Push-T configuration).

    ``__call__`` maps cropped and scaled images float32 ``[B, W, height, width, 3]`` to float32
    ``[B, W, embed_dim]``. Time has no encoding of its own here; the frames are a set.
    """

    embed_dim: int = 64
    keypoints: int = 32
    features: int = 64
    depth: int = 18
    norm: str = "group"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.trunk = ResNet(depth=self.depth, norm=self.norm, dtype=self.dtype)
        self.keypoint_conv = nn.Conv(
            self.keypoints, (1, 1), kernel_init=_dense_init, dtype=self.dtype
        )
        self.feature_dense = nn.Dense(self.features, kernel_init=_dense_init)
        self.token_dense = nn.Dense(self.embed_dim, kernel_init=_dense_init)

    def feature_map(self, frames: Array) -> Array:
        """``[N, height, width, 3]`` to the trunk's ``[N, h, w, 512]``."""
        return self.trunk(frames)

    def locate_keypoints(self, feature_map: Array) -> Array:
        """``[N, h, w, 512]`` to keypoint positions ``[N, keypoints, 2]`` in [-1, 1]."""
        return spatial_softmax(self.keypoint_conv(feature_map))

    def describe_keypoints(self, positions: Array) -> Array:
        """``[N, keypoints, 2]`` to a feature vector ``[N, features]``; x and y interleaved."""
        return nn.relu(self.feature_dense(positions.reshape(positions.shape[0], -1)))

    def __call__(self, images: Array) -> Array:
        batch, window = images.shape[:2]
        frames = images.reshape(batch * window, *images.shape[2:])
        features = self.describe_keypoints(self.locate_keypoints(self.feature_map(frames)))
        return self.token_dense(features).reshape(batch, window, self.embed_dim)  # [B, W, D]


class StateEncoder(nn.Module):
    """Context tokens from normalised vectors instead of images.

    ``tokens="steps"`` gives one token a time step from all features together: rows = W.
    ``tokens="points"`` reads the features as a list of 2-D points and gives one token a point and
    step: rows = W * S / 2. Every token gets a learned row saying which one it is, because
    cross-attention treats its context as a set. ``__call__`` returns ``[B, rows, embed_dim]``.
    """

    rows: int
    embed_dim: int = 64
    hidden: int = 256
    tokens: str = "steps"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.tokens not in STATE_TOKENS:
            raise ValueError(f"state tokens {self.tokens!r}: choose one of {STATE_TOKENS}")
        self.hidden_dense = RowsDense(self.hidden, dtype=self.dtype)
        self.hidden_dense_2 = RowsDense(self.hidden, dtype=self.dtype)
        self.token_dense = nn.Dense(self.embed_dim)
        self.identity = self.param(
            "identity", nn.initializers.normal(0.02), (self.rows, self.embed_dim)
        )

    def __call__(self, features: Array) -> Array:
        """``features``: float ``[B, W, S]``, normalised; S must be even for points."""
        batch, window, size = features.shape
        if self.tokens == "points":
            if size % 2:
                raise ValueError(f"state tokens 'points' need an even feature size, found {size}")
            features = features.reshape(batch, window * (size // 2), 2)
        x = nn.gelu(self.hidden_dense(features))
        x = nn.gelu(self.hidden_dense_2(x))
        return self.token_dense(x.astype(jnp.float32)) + self.identity  # [B, rows, D]
