"""A two-dimensional heat-map head: a token is a pixel, predicted over the whole picture at once.

In: rows [B, N, C] and a feature map (learned, or a context [G, h, w, C], channels last). Out:
logits [B, N, h r, w r] over pixels through learned convex upsampling, their cross-entropy, and a
picked pixel. BatchNorm statistics are arguments and results, never hidden state.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from arp_jax.models.convex_upsample import ConvexUpsampler, conv
from arp_jax.models.heads import Statistics
from arp_jax.models.sampling import Sampling, categorical
from arp_jax.models.token_embeddings import Contexts, required_context
from arp_jax.models.tokens import TokenType

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1


class ExplicitBatchNorm(nn.Module):
    """Batch normalisation whose statistics come in as an argument and go out as a result."""

    features: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(
        self, x: jax.Array, running: Statistics | None, weights: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """x [M, h, w, k]; weights [M] (0 leaves a row out of the batch statistics).

        With ``running`` = {"mean", "var"} those normalise; without, the batch's own. Returns the
        normalised x and the batch's {"mean", "var", "count"} (var biased, count in pixels).
        """
        x = x.astype(jnp.float32)
        row_weights = weights[:, None, None, None].astype(jnp.float32)
        count = weights.sum() * (x.shape[1] * x.shape[2])
        safe_count = jnp.maximum(count, 1.0)
        mean = (x * row_weights).sum((0, 1, 2)) / safe_count
        var = (jnp.square(x - mean) * row_weights).sum((0, 1, 2)) / safe_count
        used_mean, used_var = (mean, var) if running is None else (running["mean"], running["var"])
        normal = (x - used_mean) * jax.lax.rsqrt(used_var + BATCH_NORM_EPSILON)
        return normal * self.scale + self.bias, {"mean": mean, "var": var, "count": count}


def updated_statistics(
    running: Statistics, batch: Statistics, momentum: float = BATCH_NORM_MOMENTUM
) -> dict[str, Any]:
    """Running {"mean", "var"} after one training batch; nested dicts of such pairs are followed.

    The batch variance is made unbiased first, as the published code does.
    """
    if "mean" not in batch:
        return {name: updated_statistics(running[name], batch[name], momentum) for name in batch}
    count = batch["count"]
    unbiased = batch["var"] * count / jnp.maximum(count - 1.0, 1.0)
    keep = 1.0 - momentum
    return {
        "mean": keep * running["mean"] + momentum * batch["mean"],
        "var": keep * running["var"] + momentum * unbiased,
    }


class CorrelationProjector(nn.Module):
    """1x1, depthwise 5x5 and 1x1 convolutions, each with batch norm and ELU."""

    in_features: int
    features: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c, k, dtype = self.in_features, self.features, self.dtype
        self.conv_0 = conv(c, k, 1, dtype)
        self.conv_1 = conv(k, k, 5, dtype, depthwise=True)
        self.conv_2 = conv(k, k, 1, dtype)
        self.norm_0 = ExplicitBatchNorm(k)
        self.norm_1 = ExplicitBatchNorm(k)
        self.norm_2 = ExplicitBatchNorm(k)

    def __call__(
        self, x: jax.Array, running: Statistics | None, weights: jax.Array
    ) -> tuple[jax.Array, dict[str, Any]]:
        statistics = {}
        layers = [
            (self.conv_0, self.norm_0),
            (self.conv_1, self.norm_1),
            (self.conv_2, self.norm_2),
        ]
        for i, (convolve, normalise) in enumerate(layers):
            name = f"norm_{i}"
            known = None if running is None else running[name]
            x, statistics[name] = normalise(convolve(x), known, weights)
            x = nn.elu(x)
        return x, statistics


class HeatmapHead(nn.Module):
    """Pixel distribution from a row times a feature map; raw = logits [B, N, H, W]."""

    token: TokenType
    embed_dim: int
    dtype: jnp.dtype = jnp.float32
    loss_name: str = "2d_ce_loss"

    def setup(self) -> None:
        token, features = self.token, self.embed_dim
        if not isinstance(self.source, str):
            channels, height, width = self.source
            shape = (height, width, channels)
            self.feature_map = self.param("feature_map", nn.initializers.normal(0.02), shape)
        corr_dim = token.predictor_option("corr_dim", -1)
        if corr_dim > 0:
            self.projector = CorrelationProjector(features, corr_dim, self.dtype)
            features = corr_dim
        hidden = int(token.predictor_option("hidden_dim_mult", 2) * features)
        ratio = token.predictor_option("upscale_ratio", 1)
        self.upsampler = ConvexUpsampler(features, hidden, ratio, 1, self.dtype)

    @property
    def source(self) -> str | tuple[int, int, int]:
        """Context name of the feature map, or the (C, h, w) of a learned one."""
        return self.token.predictor_option("attn_with")

    @property
    def has_statistics(self) -> bool:
        """True when the head normalises over the batch."""
        return self.token.predictor_option("corr_dim", -1) > 0

    def __call__(
        self,
        rows: jax.Array,
        contexts: Contexts,
        statistics: Statistics | None = None,
        weights: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """rows [B, N, C]; a context map has G = 1, B, or B * N rows (the last: one per token)."""
        batch, count, width = rows.shape
        flat = rows.reshape(batch * count, width)
        features = self._features(contexts, batch, count)
        found: dict[str, Any] = {}
        if features.shape[0] == 1 and not self.has_statistics:
            logits = self.upsampler.of_product(flat, features[0])
        else:
            x = flat[:, None, None, :] * features  # [B * N, h, w, C]
            if self.has_statistics:
                token_weights = jnp.ones((batch, count)) if weights is None else weights
                x, found = self.projector(x, statistics, token_weights.reshape(-1))
            logits = self.upsampler(x.astype(self.dtype))
        return logits.reshape(batch, count, *logits.shape[1:3]), found

    def _features(self, contexts: Contexts, batch: int, count: int) -> jax.Array:
        if not isinstance(self.source, str):
            return self.feature_map[None].astype(self.dtype)
        where = f"token type {self.token.name!r}"
        features = required_context(contexts, self.source, where).astype(self.dtype)
        if features.shape[0] in (1, batch * count):
            return features
        if features.shape[0] != batch:
            raise ValueError(
                f"{where}: feature map {self.source!r} has {features.shape[0]} rows; expected 1, "
                f"{batch} (one per sample) or {batch * count} (one per token)"
            )
        return jnp.repeat(features, count, axis=0)

    def token_loss(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Cross-entropy with a soft label map, or with the pixel a coordinate label names."""
        return -self.log_prob(raw, label)

    def log_prob(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Sum of p log q over pixels; label is a map of raw's size, or coordinates [B, N, 2] or
        [B * N, 2] in pixels, which are rounded to the nearest one inside the map."""
        batch, count, height, width = raw.shape
        log_q = nn.log_softmax(raw.reshape(batch, count, -1))
        if label.size == raw.size:
            return (label.reshape(log_q.shape).astype(jnp.float32) * log_q).sum(-1)
        if label.shape not in ((batch, count, 2), (batch * count, 2)):
            raise ValueError(
                f"token type {self.token.name!r}: heat-map label has shape {label.shape}; expected "
                f"{(batch * count, height, width)} or coordinates {(batch, count, 2)}"
            )
        pixel = jnp.round(label.reshape(batch, count, 2)).astype(jnp.int32)
        column, row = (pixel[..., 0], pixel[..., 1])[:: 1 if self.is_xy else -1]
        index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        return jnp.take_along_axis(log_q, index[..., None], axis=-1)[..., 0]

    @property
    def is_xy(self) -> bool:
        """True when a value is (x, y), False for (row, column)."""
        return self.token.predictor_option("token_format", "xy") == "xy"

    def pick(self, raw: jax.Array, rng: jax.Array | None, sampling: Sampling) -> jax.Array:
        """Pixel coordinates [B, N, 2] float32, (x, y) or (row, column)."""
        width = raw.shape[-1]
        index = categorical(raw.reshape(*raw.shape[:2], -1), rng, sampling)
        row, column = index // width, index % width
        pair = (column, row) if self.is_xy else (row, column)
        return jnp.stack(pair, axis=-1).astype(jnp.float32)
