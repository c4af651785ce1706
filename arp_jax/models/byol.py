"""BYOL: a trunk learns features of images without labels, from pairs of views of the same image.

In: normalised images. Out: pooled features, and the projections and predictions between which the
loss is taken: the online network predicts, from one view, what the target network projects from
the other. The target network is a moving average of the online one; whoever trains keeps it. Batch
norm in the projections uses the batch at hand, so there is no mutable state.

Grill et al. 2020, "Bootstrap Your Own Latent".
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from arp_jax.models.resnet import ResNet

_NORM_EPSILON = 1e-5


class BatchStandardize(nn.Module):
    """[N, F] with mean 0 and variance 1 over the batch, then a learnt scale and shift.

    Without it all images may come to have the same projection, which costs nothing.
    """

    features: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Array) -> Array:
        centered = x - x.mean(0)
        return self.scale * centered / jnp.sqrt((centered**2).mean(0) + _NORM_EPSILON) + self.bias


class Projection(nn.Module):
    """Two dense layers with batch norm and ReLU between them: [N, F] to [N, size]."""

    size: int
    hidden: int

    def setup(self) -> None:
        self.hidden_dense = nn.Dense(self.hidden)
        self.norm = BatchStandardize(self.hidden)
        self.out_dense = nn.Dense(self.size)

    def __call__(self, x: Array) -> Array:
        return self.out_dense(nn.relu(self.norm(self.hidden_dense(x))))


class ByolNet(nn.Module):
    """Trunk, projector and predictor; images are float32 [N, h, w, 3], N >= 2 for projections."""

    depth: int = 18
    norm: str = "group"
    width: int = 64
    size: int = 256
    hidden: int = 4096
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.trunk = ResNet(self.depth, self.norm, self.dtype, self.width)
        self.projector = Projection(self.size, self.hidden)
        self.predictor = Projection(self.size, self.hidden)

    def features(self, images: Array) -> Array:
        """Global average of the last feature map, float32 [N, 8 * width]."""
        return self.trunk(images).astype(jnp.float32).mean((1, 2))

    def project(self, images: Array) -> Array:
        """What the target network says, [N, size]."""
        return self.projector(self.features(images))

    def __call__(self, images: Array) -> Array:
        """What the online network predicts that the target will say, [N, size]."""
        return self.predictor(self.project(images))


def byol_loss(predicted: Array, projected: Array) -> Array:
    """2 - 2 cos between predictions and projections [N, P], their mean; within 0 .. 4."""
    return (2 - 2 * (_unit(predicted) * _unit(projected)).sum(-1)).mean()


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
