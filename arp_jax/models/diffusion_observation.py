"""What Diffusion Policy sees: vectors and camera frames of W time steps in, one vector each out.

Every camera goes through a trunk and a pooling (keypoints or an average); cameras come first,
vectors behind them, the order in which published nets read them. Cropping is here because it is
random in training and central otherwise. Normalisation of vectors is not.

Chi et al. 2023, "Diffusion Policy" (robomimic's encoder with keypoints, and torchvision's with
averages); Fu et al. 2024, ACT++ (keypoints, no crop, no ReLU).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.observation_encoder import crop_images, scale_images
from arp_jax.models.spatial_softmax import spatial_softmax
from arp_jax.models.trunks import IMAGENET_MEAN, IMAGENET_STD, make_trunk

IMAGE_SCALES = ("unit", "signed", "imagenet", "signed_imagenet")
POOLS = ("keypoints", "average")

# Weights of variance 1 / (3 fan_in): the default of the framework the encoder was published in.
_dense_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


@dataclasses.dataclass(frozen=True)
class FrameOptions:
    """How one frame becomes a vector; see `policies.diffusion.DiffusionConfig`."""

    trunk: str = "resnet"
    depth: int = 18
    trunk_norm: str = "group"
    trunk_width: int = 64
    pool: str = "keypoints"
    keypoints: int = 32
    image_features: int = 64
    feature_relu: bool = True


class FrameEncoder(nn.Module):
    """Trunk and pooling: float32 [N, h, w, 3] -> [N, F].

    With keypoints F is `image_features`: a 1x1 convolution, spatial softmax, a linear layer of the
    coordinates (x and y interleaved) and a ReLU if asked for. With the average it is the trunk's
    number of channels.
    """

    options: FrameOptions

    def setup(self) -> None:
        options = self.options
        self.trunk = make_trunk(
            options.trunk, options.depth, options.trunk_norm, options.trunk_width
        )
        if options.pool == "keypoints":
            self.keypoint_conv = nn.Conv(options.keypoints, (1, 1), kernel_init=_dense_init)
            self.feature_dense = nn.Dense(options.image_features, kernel_init=_dense_init)

    def __call__(self, frames: Array) -> Array:
        maps = self.trunk(frames)  # [N, h', w', C]
        if self.options.pool == "average":
            return maps.mean((1, 2))
        points = spatial_softmax(self.keypoint_conv(maps))  # [N, K, 2]
        features = self.feature_dense(points.reshape(len(points), -1))
        return nn.relu(features) if self.options.feature_relu else features


class DiffusionObservation(nn.Module):
    """Observations of a window -> one vector a time step.

    Attributes:
        cameras: names of images, in the order of their features.
        vectors: names of features, in the order behind the cameras.
        options: of the encoders.
        shared: one encoder for all cameras, or one each.
        crop: (height, width) in pixels that the encoders see; () for whole frames.
        image_scale: what pixels become, see `scaled`.
    """

    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    options: FrameOptions
    shared: bool = False
    crop: tuple[int, ...] = ()
    image_scale: str = "signed"

    def setup(self) -> None:
        count = min(1, len(self.cameras)) if self.shared else len(self.cameras)
        self.encoders = [FrameEncoder(self.options) for _ in range(count)]

    def __call__(self, observation: Mapping[str, Array], crop_rng: Array | None = None) -> Array:
        """Vectors [B, W, D] and uint8 images [B, W, h, w, 3] -> float32 [B, W, C].

        Crops are random, one a frame, with `crop_rng`; in the centre without.
        """
        parts = []
        for i, camera in enumerate(self.cameras):
            images = observation[camera]
            if self.crop:
                rng = None if crop_rng is None else jax.random.fold_in(crop_rng, i)
                images = crop_images(images, (self.crop[0], self.crop[1]), rng)
            lead = images.shape[:2]
            frames = scaled(images, self.image_scale).reshape(-1, *images.shape[2:])
            features = self.encoders[0 if self.shared else i](frames)
            parts.append(features.reshape(*lead, -1))
        parts += [observation[name] for name in self.vectors]
        return jnp.concatenate(parts, axis=-1)


def scaled(images: Array, how: str) -> Array:
    """uint8 [..., 3] as the published encoders see it, float32.

    "unit" is [0, 1] (ACT++), "signed" [-1, 1], "imagenet" the former normalised by ImageNet's
    colors. "signed_imagenet" applies those colors to [-1, 1], as the published policies with
    averaged features do.
    """
    values = scale_images(images) if how.startswith("signed") else images.astype(jnp.float32) / 255
    return (values - IMAGENET_MEAN) / IMAGENET_STD if how.endswith("imagenet") else values


def frame_options(config: Any) -> FrameOptions:
    """The options of the same names on `config`."""
    names: Sequence[str] = [field.name for field in dataclasses.fields(FrameOptions)]
    return FrameOptions(**{name: getattr(config, name) for name in names})
