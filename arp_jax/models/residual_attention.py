"""Residual attention trunk: images in, a feature map that masks of its own have weighted out.

Three stages of a trunk branch and an hourglass mask branch, joined as (1 + mask) * trunk, between
pre-activation bottleneck blocks. `FORMS` has the trunk of the one-arm ACT fork ("18") and the two
classifiers that its authors measured on CIFAR-10 ("56", "small"). Channels-last; normalisation as
in `resnet.py`; sizes of the masks follow from the input. No pooling, and a classifier on request.

Wang et al. 2017, "Residual Attention Network for Image Classification".
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.models.resnet import NORMS, conv


@dataclasses.dataclass(frozen=True)
class Form:
    """Sizes of one net.

    Attributes:
        stem: channels of the first convolution.
        camera: a 7x7 convolution and a max-pool of stride 2 each (images of cameras) instead of a
            3x3 convolution of stride 1 (thumbnails), and a last stage of stride 2 instead of 1.
        widths: channels of the three attention stages and of the blocks behind them.
        pools: how often the mask branch of each stage halves the map.
    """

    stem: int
    camera: bool
    widths: tuple[int, ...]
    pools: tuple[int, ...]


FORMS = {
    "18": Form(64, True, (64, 128, 256, 512), (3, 2, 1)),
    "56": Form(32, False, (128, 256, 512, 1024), (2, 1, 0)),
    "small": Form(32, False, (32, 64, 128, 256), (2, 1, 0)),
}
LAST_BLOCKS = 3


class PreActivationBlock(nn.Module):
    """Bottleneck with norm and ReLU before each convolution (He et al. 2016b).

    `shortcut` exists in every block, as in the published weights, but only a change of shape uses
    it: a block that keeps its shape never trains it.
    """

    channels: int
    features: int
    stride: int = 1
    norm: str = "group"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        norm, narrow = NORMS[self.norm], self.features // 4
        self.norm1 = norm(self.channels, self.dtype)
        self.conv1 = conv(narrow, 1, 1, self.dtype)
        self.norm2 = norm(narrow, self.dtype)
        self.conv2 = conv(narrow, 3, self.stride, self.dtype)
        self.norm3 = norm(narrow, self.dtype)
        self.conv3 = conv(self.features, 1, 1, self.dtype)
        self.shortcut = conv(self.features, 1, self.stride, self.dtype)

    def __call__(self, x: Array) -> Array:
        """[N, h, w, channels] -> [N, ceil(h / stride), ceil(w / stride), features]."""
        active = nn.relu(self.norm1(x))
        # Called in any case, so that its weights exist; the compiler drops what nobody reads.
        projected = self.shortcut(active)
        y = self.conv2(nn.relu(self.norm2(self.conv1(active))))
        y = self.conv3(nn.relu(self.norm3(y)))
        same = self.channels == self.features and self.stride == 1
        return y + (x if same else projected)


class AttentionStage(nn.Module):
    """A trunk of two blocks, weighted by 1 + the mask of an hourglass beside it.

    The hourglass halves the map `pools` times and comes back up with bilinear interpolation; on
    each level it adds what went down and a skip block of it, on the last the trunk itself. Without
    pools it is two blocks, and the trunk is not added.
    """

    features: int
    pools: int
    norm: str = "group"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        def blocks(count: int) -> list[PreActivationBlock]:
            options = {"norm": self.norm, "dtype": self.dtype}
            return [
                PreActivationBlock(self.features, self.features, **options) for _ in range(count)
            ]

        levels = max(self.pools - 1, 0)
        self.first, self.last = blocks(2)
        self.trunk, self.bottom = blocks(2), blocks(2)
        self.down, self.skip, self.up = blocks(levels), blocks(levels), blocks(levels)
        norm = NORMS[self.norm]
        self.gate_norm1 = norm(self.features, self.dtype)
        self.gate_conv1 = conv(self.features, 1, 1, self.dtype)
        self.gate_norm2 = norm(self.features, self.dtype)
        self.gate_conv2 = conv(self.features, 1, 1, self.dtype)

    def __call__(self, x: Array) -> Array:
        """[N, h, w, features] -> the same shape."""
        x = self.first(x)
        trunk = self.trunk[1](self.trunk[0](x))
        return self.last((1 + self.mask(x, trunk)) * trunk)

    def mask(self, x: Array, trunk: Array) -> Array:
        """Weights in (0, 1) of the trunk, [N, h, w, features]."""
        below = []
        low = x
        for down in self.down:
            low = down(_pool(low))
            below.append(low)
        low = _pool(low) if self.pools else low
        low = self.bottom[1](self.bottom[0](low))
        for level in reversed(range(len(below))):
            fine = below[level]
            low = self.up[level](upsample(low, fine.shape[1:3]) + fine + self.skip[level](fine))
        if self.pools:
            low = upsample(low, x.shape[1:3]) + trunk
        y = self.gate_conv1(nn.relu(self.gate_norm1(low)))
        return nn.sigmoid(self.gate_conv2(nn.relu(self.gate_norm2(y))))


class ResidualAttention(nn.Module):
    """The whole trunk, and a classifier behind it if `classes` is not 0.

    Attributes:
        form: sizes.
        norm: one of `resnet.NORMS`.
        classes: logits of a linear layer on the averaged map instead of the map.

    ``__call__`` maps normalised images [N, height, width, 3] to [N, height / s, width / s, C]
    (rounded up) in ``dtype``, where s is 32 for cameras and 4 for thumbnails and C the last width.
    """

    form: Form
    norm: str = "group"
    classes: int = 0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        form, norm = self.form, NORMS[self.norm]
        stem = (7, 2) if form.camera else (3, 1)
        self.stem_conv = conv(form.stem, *stem, self.dtype)
        self.stem_norm = norm(form.stem, self.dtype)
        inputs = (form.stem, *form.widths[:3])
        strides = (1, 2, 2, 2 if form.camera else 1)
        last = form.widths[3]
        options = {"norm": self.norm, "dtype": self.dtype}
        self.blocks = [
            *(
                PreActivationBlock(before, after, stride, **options)
                for before, after, stride in zip(inputs, form.widths, strides, strict=True)
            ),
            *(PreActivationBlock(last, last, **options) for _ in range(LAST_BLOCKS - 1)),
        ]
        self.attention = [
            AttentionStage(width, pools, **options)
            for width, pools in zip(form.widths[:3], form.pools, strict=True)
        ]
        self.out_norm = norm(last, self.dtype)
        if self.classes:
            self.classifier = nn.Dense(self.classes)

    def __call__(self, images: Array) -> Array:
        x = nn.relu(self.stem_norm(self.stem_conv(images.astype(self.dtype))))
        if self.form.camera:
            x = _pool(x)
        stages = len(self.attention)
        for block, attention in zip(self.blocks[:stages], self.attention, strict=True):
            x = attention(block(x))
        for block in self.blocks[stages:]:
            x = block(x)
        x = nn.relu(self.out_norm(x))
        return self.classifier(x.mean((1, 2)).astype(jnp.float32)) if self.classes else x


def upsample(x: Array, size: tuple[int, ...]) -> Array:
    """Bilinear interpolation of [N, h, w, C] to [N, *size, C], corners on corners."""
    rows, columns = (
        jnp.asarray(_interpolation(old, new).astype(np.float32), x.dtype)
        for old, new in zip(x.shape[1:3], size, strict=True)
    )
    return jnp.einsum("nhwc,Hh,Ww->nHWc", x, rows, columns)


def _interpolation(old: int, new: int) -> np.ndarray:
    """Weights [new, old] that the `old` values have in each of the `new` ones."""
    at = np.linspace(0.0, old - 1.0, new) if new > 1 else np.zeros(1)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(old)[None]))


def _pool(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
