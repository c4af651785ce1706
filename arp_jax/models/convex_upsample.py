"""From low-resolution features to pixel logits: learned convex upsampling.

In: features [M, h, w, k], or rows [M, k] times a map [h, w, k]. Out: pictures [M, h r, w r], where
every pixel is a convex combination of the 3 x 3 cells around it. Nothing here knows what a pixel
means; ``heatmap_head`` does.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Learned upsampling masks start soft: their logits are scaled down before the softmax.
MASK_LOGIT_SCALE = 0.1
# Up to this many rows the product with the map is formed and convolved; for more rows the map is
# folded into the kernel first (measured: equal at 8 rows, 8x faster training at 128).
DIRECT_UP_TO = 8


def _uniform_by_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in), kernels and biases alike (as published conv layers start)."""
    bound = 1.0 / np.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv(
    in_features: int, features: int, size: int, dtype: jnp.dtype, depthwise: bool = False
) -> nn.Conv:
    """``size`` x ``size`` convolution with zero padding that keeps the picture's size."""
    init = _uniform_by_fan_in((1 if depthwise else in_features) * size * size)
    return nn.Conv(
        features,
        (size, size),
        padding=size // 2,
        feature_group_count=in_features if depthwise else 1,
        kernel_init=init,
        bias_init=init,
        dtype=dtype,
    )


class ConvParameters(nn.Module):
    """Kernel and bias of a convolution, handed out instead of applied."""

    in_features: int
    features: int
    size: int

    @nn.compact
    def __call__(self, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
        """Kernel [size, size, in, out] and bias [out] in the compute type."""
        shape = (self.size, self.size, self.in_features, self.features)
        init = _uniform_by_fan_in(self.in_features * self.size**2)
        kernel, bias = self.param("kernel", init, shape), self.param("bias", init, shape[-1:])
        return kernel.astype(dtype), bias.astype(dtype)


def neighbours(picture: jax.Array) -> jax.Array:
    """[..., h, w] -> [..., h, w, 9]: the 3 x 3 cells around each, row-major, zero padding."""
    *lead, height, width = picture.shape
    padded = jnp.pad(picture, [(0, 0)] * len(lead) + [(1, 1), (1, 1)])
    shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return jnp.stack(shifted, axis=-1)


@jax.custom_vjp
def mix_neighbours(low: jax.Array, mask_logits: jax.Array) -> jax.Array:
    """low [M, h, w], mask_logits [M, h, w, 9, P] -> [M, h, w, P]: softmax-weighted neighbours."""
    weights = jnp.exp(mask_logits - mask_logits.max(3, keepdims=True))
    return (weights * neighbours(low)[..., None]).sum(3) / weights.sum(3)


def _mix_forward(low: jax.Array, mask_logits: jax.Array) -> tuple[jax.Array, Any]:
    return mix_neighbours(low, mask_logits), (low, mask_logits)


def _mix_backward(saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    # By hand, because the weights are the largest array of a training step: recomputing them is
    # about twice as fast as storing them and their shares.
    low, mask_logits = saved
    cells, pull = jax.vjp(neighbours, low)
    weights = jnp.exp(mask_logits - mask_logits.max(3, keepdims=True))
    scale = 1.0 / weights.sum(3)
    mixed = (weights * cells[..., None]).sum(3) * scale
    weighted = weights * (gradient * scale)[..., None, :]
    to_logits = weighted * (cells[..., None] - mixed[..., None, :])
    return pull(weighted.sum(-1))[0], to_logits


mix_neighbours.defvjp(_mix_forward, _mix_backward)


def convex_upsample(low: jax.Array, mask_logits: jax.Array, ratio: int) -> jax.Array:
    """Upsample by convex combinations of 3 x 3 neighbours.

    Args:
        low: [M, h, w].
        mask_logits: [M, h, w, 9 * ratio^2], the 9 neighbours (row-major, zero padding) outermost.

    Returns:
        [M, h ratio, w ratio] float32: pixel (y ratio + u, x ratio + v) is the softmax-weighted sum
        of the neighbours of cell (y, x), with weights of its own.
    """
    rows, height, width = low.shape
    logits = mask_logits.reshape(rows, height, width, 9, ratio * ratio).astype(jnp.float32)
    high = mix_neighbours(low.astype(jnp.float32), logits)  # [M, h, w, r * r]
    high = high.reshape(rows, height, width, ratio, ratio).transpose(0, 1, 3, 2, 4)
    return high.reshape(rows, height * ratio, width * ratio)


class ConvexUpsampler(nn.Module):
    """Predicts a low-resolution picture and its upsampling mask from features [M, h, w, k]."""

    in_features: int
    hidden: int
    ratio: int
    outputs: int = 1
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        k, m = self.in_features, self.hidden
        self.low_0, self.mask_0 = ConvParameters(k, m, 3), ConvParameters(k, m, 3)
        self.low_1 = conv(m, m, 3, self.dtype)
        self.low_2 = ConvParameters(m, self.outputs, 3)
        self.mask_1 = ConvParameters(m, 9 * self.ratio**2, 1)

    def __call__(self, features: jax.Array) -> jax.Array:
        """features [M, h, w, k] -> [M, h r, w r, outputs] float32."""
        kernel, bias = self._first()
        first = jax.lax.conv_general_dilated(
            features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return self._upsample(first + bias)

    def of_product(self, rows: jax.Array, feature_map: jax.Array) -> jax.Array:
        """rows [M, k] times feature_map [h, w, k] -> [M, h r, w r, outputs] float32.

        The first convolution of a product with one fixed map is linear in the row: its kernel and
        the map combine to one matrix [k, h w out], and nine times fewer products are left.
        """
        count, width_in = rows.shape
        if count <= DIRECT_UP_TO:
            return self(rows[:, None, None, :] * feature_map)
        kernel, bias = self._first()
        height, width, _ = feature_map.shape
        cells = neighbours(feature_map.transpose(2, 0, 1)).reshape(width_in, -1, 9)  # [k, h w, 9]
        taps = kernel.reshape(9, width_in, -1)
        folded = jnp.einsum("cpk,kco->cpo", cells, taps).reshape(width_in, -1)
        first = (rows @ folded).reshape(count, height, width, -1)
        return self._upsample(first + bias)

    def _first(self) -> tuple[jax.Array, jax.Array]:
        """Both first convolutions as one: kernel [3, 3, k, 2 m], bias [2 m]."""
        parts = zip(self.low_0(self.dtype), self.mask_0(self.dtype), strict=True)
        kernel, bias = (jnp.concatenate(part, axis=-1) for part in parts)
        return kernel, bias

    def _upsample(self, first: jax.Array) -> jax.Array:
        low, mask = jnp.split(nn.relu(first), 2, axis=-1)  # [M, h, w, m] each
        low = nn.relu(self.low_1(low))
        kernel, bias = self.mask_1(self.dtype)
        flat = mask.reshape(-1, mask.shape[-1]) @ kernel[0, 0] + bias
        mask_logits = MASK_LOGIT_SCALE * flat.reshape(*mask.shape[:3], -1)
        kernel, bias = self.low_2(self.dtype)
        high = []
        for output in range(self.outputs):
            # One output: nine planes of products, shifted and added, cost less than a convolution.
            planes = low @ kernel[..., output].reshape(9, -1).T  # [M, h, w, 9]
            shifted = [neighbours(planes[..., k])[..., k] for k in range(9)]
            plane = sum(shifted[1:], start=shifted[0]) + bias[output]
            high.append(convex_upsample(plane, mask_logits, self.ratio))
        return jnp.stack(high, axis=-1)
