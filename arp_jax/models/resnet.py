"""ResNet trunk: images in, the last stage's feature map out; no pooling and no classifier.

The topology is torchvision's (7x7 stem, max-pool, four stages of blocks of two convolutions, or of
three from depth 50 on), so that published weights load one to one. Arrays are channels-last.
Normalisation is a static option without mutable state: group norm (the published Push-T encoder),
batch norm frozen at the statistics of another training (ALOHA policies, whose trunks start from
ImageNet weights), or none, for frozen norms that `fold_norms` has put into the convolutions.

He et al. 2016, "Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

STAGE_BLOCKS: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
}
BOTTLENECK_DEPTHS = (50,)
_EXPANSION = 4  # of a bottleneck block's channels
STEM_WIDTH = 64  # doubled in every stage behind the first

FROZEN_NORM_EPSILON = 1e-5

_conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _group_norm(features: int, dtype: Any) -> nn.Module:
    # The two-pass variance costs little here and agrees with other frameworks to 1e-6.
    return nn.GroupNorm(
        num_groups=max(features // 16, 1), epsilon=1e-5, use_fast_variance=False, dtype=dtype
    )


class FrozenBatchNorm(nn.Module):
    """Batch norm that normalises by stored statistics and never learns.

    Scale, bias, mean and variance are leaves of the parameter tree, so that weights survive a trip
    to PyTorch and back exactly, but no gradient reaches them. Weight decay would still shrink them:
    exclude them in the optimiser's `weight_decay_groups`.
    """

    features: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        zeros, ones, shape = nn.initializers.zeros, nn.initializers.ones, (self.features,)
        self.scale = self.param("scale", ones, shape)
        self.bias = self.param("bias", zeros, shape)
        self.running_mean = self.param("running_mean", zeros, shape)
        self.running_var = self.param("running_var", ones, shape)

    def __call__(self, x: Array) -> Array:
        """x [..., features] to the same shape in ``dtype``."""
        scale = self.scale * jax.lax.rsqrt(self.running_var + FROZEN_NORM_EPSILON)
        shift = self.bias - self.running_mean * scale
        scale, shift = jax.lax.stop_gradient((scale, shift))
        return x * scale.astype(self.dtype) + shift.astype(self.dtype)


def _identity(features: int, dtype: Any) -> Callable[[Array], Array]:
    return lambda x: x


NORMS: dict[str, Callable[[int, Any], Callable[[Array], Array]]] = {
    "group": _group_norm,
    "frozen_batch": FrozenBatchNorm,
    "folded": _identity,
}


def conv(features: int, kernel: int, stride: int, dtype: Any, bias: bool = False) -> nn.Conv:
    """A square convolution as residual nets have it: no bias, half the kernel as padding."""
    pad = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=bias,
        kernel_init=_conv_init,
        dtype=dtype,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip; the skip is projected when the shape changes."""

    features: int
    stride: int
    project: bool
    norm: str = "group"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        norm, bias = NORMS[self.norm], self.norm == "folded"
        self.conv1 = conv(self.features, 3, self.stride, self.dtype, bias)
        self.norm1 = norm(self.features, self.dtype)
        self.conv2 = conv(self.features, 3, 1, self.dtype, bias)
        self.norm2 = norm(self.features, self.dtype)
        if self.project:
            self.skip_conv = conv(self.features, 1, self.stride, self.dtype, bias)
            self.skip_norm = norm(self.features, self.dtype)

    def __call__(self, x: Array) -> Array:
        skip = self.skip_norm(self.skip_conv(x)) if self.project else x
        y = nn.relu(self.norm1(self.conv1(x)))
        return nn.relu(self.norm2(self.conv2(y)) + skip)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a skip; the last has four times the channels."""

    features: int
    stride: int
    project: bool
    norm: str = "group"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        norm, bias = NORMS[self.norm], self.norm == "folded"
        wide = _EXPANSION * self.features
        self.conv1 = conv(self.features, 1, 1, self.dtype, bias)
        self.norm1 = norm(self.features, self.dtype)
        # The stride is the 3x3 convolution's, as in torchvision's weights (the paper's first).
        self.conv2 = conv(self.features, 3, self.stride, self.dtype, bias)
        self.norm2 = norm(self.features, self.dtype)
        self.conv3 = conv(wide, 1, 1, self.dtype, bias)
        self.norm3 = norm(wide, self.dtype)
        if self.project:
            self.skip_conv = conv(wide, 1, self.stride, self.dtype, bias)
            self.skip_norm = norm(wide, self.dtype)

    def __call__(self, x: Array) -> Array:
        skip = self.skip_norm(self.skip_conv(x)) if self.project else x
        y = nn.relu(self.norm1(self.conv1(x)))
        y = nn.relu(self.norm2(self.conv2(y)))
        return nn.relu(self.norm3(self.conv3(y)) + skip)


class ResNet(nn.Module):
    """Residual trunk (He et al. 2016, table 1) without its pooling and classifier.

    ``__call__`` maps ``[N, height, width, 3]`` (already normalised) to
    ``[N, ceil(height / 32), ceil(width / 32), 8 * width]`` in ``dtype`` (``32 * width`` channels
    from depth 50 on). ``norm`` is one of ``NORMS``; a ``width`` below 64 makes a trunk for small
    experiments.
    """

    depth: int = 18
    norm: str = "group"
    dtype: Any = jnp.float32
    width: int = STEM_WIDTH

    def setup(self) -> None:
        if self.depth not in STAGE_BLOCKS:
            raise ValueError(f"resnet depth {self.depth}: choose one of {sorted(STAGE_BLOCKS)}")
        if self.norm not in NORMS:
            raise ValueError(f"resnet norm {self.norm!r}: choose one of {sorted(NORMS)}")
        self.stem_conv = conv(self.width, 7, 2, self.dtype, self.norm == "folded")
        self.stem_norm = NORMS[self.norm](self.width, self.dtype)
        kind = BottleneckBlock if self.depth in BOTTLENECK_DEPTHS else BasicBlock
        self.stages = [
            [
                # Only a stage's first block changes resolution; stage 0 does not at all.
                kind(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    project=is_projected(self.depth, stage, block),
                    norm=self.norm,
                    dtype=self.dtype,
                )
                for block in range(blocks)
            ]
            for stage, blocks in enumerate(STAGE_BLOCKS[self.depth])
        ]

    def __call__(self, images: Array) -> Array:
        x = nn.relu(self.stem_norm(self.stem_conv(images.astype(self.dtype))))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x  # [N, h, w, 8 * width or 32 * width]


def is_projected(depth: int, stage: int, block: int) -> bool:
    """Whether a block's skip has a convolution: where the resolution or the channels change."""
    return block == 0 and (stage > 0 or depth in BOTTLENECK_DEPTHS)


def fold_norms(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a trunk with frozen norms -> those of the same trunk with norm "folded".

    Each convolution becomes kernel * scale with the norm's shift as its bias: the same function
    (to rounding) with less to compute. It cannot be undone.

    Raises:
        ValueError: a norm is not a frozen batch norm.
    """
    folded: dict[str, Any] = {}
    for name, value in params.items():
        norm = params.get(name.replace("conv", "norm"))
        if "kernel" not in value:
            if "conv" not in name and "norm" not in name:
                folded[name] = fold_norms(value)
        elif norm is None or "running_mean" not in norm:
            raise ValueError(f"{name} has no frozen batch norm behind it: it cannot be folded")
        else:
            scale = norm["scale"] / jnp.sqrt(norm["running_var"] + FROZEN_NORM_EPSILON)
            shift = norm["bias"] - norm["running_mean"] * scale
            folded[name] = {"kernel": value["kernel"] * scale, "bias": shift}
    return folded
