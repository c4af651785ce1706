"""From query-stream rows to a distribution over a token's value: class and Gaussian heads.

In: rows [B, N, C] of one token type. Out: raw predictions, and from them (pure functions of the
raw prediction, always float32) the loss of each token, its log-likelihood and a picked value.
Every head answers the same four questions; the heat-map head is in ``heatmap_head``.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import dense
from arp_jax.models.sampling import Sampling, categorical, required_key
from arp_jax.models.token_embeddings import Contexts
from arp_jax.models.tokens import TokenType

VARIANCE_FLOOR = 1e-6
LOG_2PI = math.log(2.0 * math.pi)
# Standard deviation of a low-variance mixture relative to |mean|, and the least one used in a
# density: a mean of exactly zero must not divide by zero.
LOW_VARIANCE_RATIO = 1e-5
LOW_VARIANCE_FLOOR = 1e-10

Statistics = Mapping[str, Any]


class Head(Protocol):
    """What ``ChunkTransformer`` needs of a head."""

    loss_name: str

    def __call__(
        self,
        rows: jax.Array,
        contexts: Contexts,
        statistics: Statistics | None,
        weights: jax.Array | None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """rows [B, N, C] -> (raw prediction [B, N, ...], batch statistics, {} if none)."""

    def token_loss(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Loss of each token [B, N]; the training loss is its mean over valid tokens."""

    def log_prob(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Log-likelihood of each token [B, N]; higher is more likely, for every head."""

    def pick(self, raw: jax.Array, rng: jax.Array | None, sampling: Sampling) -> jax.Array:
        """A value of each token [B, N, dim]."""


class ClassHead(nn.Module):
    """One categorical distribution per dimension; raw = logits [B, N, sum(dict_sizes)]."""

    token: TokenType
    dtype: jnp.dtype = jnp.float32
    loss_name: str = "ce_loss"

    def setup(self) -> None:
        self.logits = dense(sum(self.token.dict_sizes), self.dtype)

    def __call__(
        self,
        rows: jax.Array,
        contexts: Contexts,
        statistics: Statistics | None = None,
        weights: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        return self.logits(rows).astype(jnp.float32), {}

    def per_dim(self, raw: jax.Array) -> list[jax.Array]:
        """Logits of each dimension, [B, N, dict_size] each."""
        return jnp.split(raw, np.cumsum(self.token.dict_sizes)[:-1], axis=-1)

    def padded(self, raw: jax.Array) -> jax.Array:
        """Logits [B, N, dim, max(dict_sizes)], padded with -inf, for custom pickers."""
        largest = max(self.token.dict_sizes)
        parts = [
            jnp.pad(p, [(0, 0), (0, 0), (0, largest - p.shape[-1])], constant_values=-jnp.inf)
            for p in self.per_dim(raw)
        ]
        return jnp.stack(parts, axis=-2)

    def token_loss(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Cross-entropy averaged over dimensions; label [B, N, dim] class indices."""
        return -self.log_prob(raw, label) / self.token.dim

    def log_prob(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """Sum over dimensions of log p(label)."""
        index = label.astype(jnp.int32)
        total = jnp.zeros(index.shape[:-1], jnp.float32)
        for j, logits in enumerate(self.per_dim(raw)):
            chosen = jnp.take_along_axis(nn.log_softmax(logits), index[..., j : j + 1], axis=-1)
            total = total + chosen[..., 0]
        return total

    def pick(self, raw: jax.Array, rng: jax.Array | None, sampling: Sampling) -> jax.Array:
        """Class of each dimension as float32 codes [B, N, dim]."""
        keys = [None] * self.token.dim if rng is None else jax.random.split(rng, self.token.dim)
        picked = [
            categorical(p, key, sampling) for p, key in zip(self.per_dim(raw), keys, strict=True)
        ]
        return jnp.stack(picked, axis=-1).astype(jnp.float32)


def gaussian_nll(mean: jax.Array, variance: jax.Array, label: jax.Array) -> jax.Array:
    """(log v + (y - mean)^2 / v) / 2 with v = max(variance, 1e-6), elementwise.

    No log(2 pi) constant, as published. The floor is straight-through: the gradient is evaluated
    at the floored variance but reaches ``variance``, so a collapsed variance can recover.
    """
    floored = variance + jax.lax.stop_gradient(jnp.maximum(variance, VARIANCE_FLOOR) - variance)
    return 0.5 * (jnp.log(floored) + jnp.square(label - mean) / floored)


def normal_log_prob(label: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Log-density of a normal distribution, elementwise, with its constant."""
    return -0.5 * (jnp.square((label - mean) / std) + LOG_2PI) - jnp.log(std)


class GaussianHead(nn.Module):
    """A diagonal Gaussian, or a mixture of ``num_latents`` of them.

    raw [B, N, 2 dim] = (mean, log variance) for one component; for K > 1 [B, N, K (2 dim + 1)] =
    (K logits, K x dim means, K x dim log variances). Labels are raw values, never bin indices.
    """

    token: TokenType
    embed_dim: int
    dtype: jnp.dtype = jnp.float32
    loss_name: str = "nll_loss"

    def setup(self) -> None:
        width = 2 * self.token.dim
        out = width if self.components == 1 else self.components * (width + 1)
        self.fc1 = dense(self.embed_dim, self.dtype)
        self.fc2 = dense(out, self.dtype)

    @property
    def components(self) -> int:
        """Number of mixture components K."""
        return self.token.predictor_option("num_latents", 1)

    @property
    def low_variance(self) -> bool:
        """True when a drawn component returns (nearly) its mean."""
        return self.token.predictor_option("low_var_eval", True)

    def __call__(
        self,
        rows: jax.Array,
        contexts: Contexts,
        statistics: Statistics | None = None,
        weights: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        hidden = nn.gelu(self.fc1(rows), approximate=False)
        return self.fc2(hidden).astype(jnp.float32), {}

    def parts(self, raw: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """raw -> logits [B, N, K], means [B, N, K, dim], log variances [B, N, K, dim]."""
        count, dim = self.components, self.token.dim
        if count == 1:
            logits, rest = jnp.zeros((*raw.shape[:-1], 1), raw.dtype), raw
        else:
            logits, rest = raw[..., :count], raw[..., count:]
        rest = rest.reshape(*raw.shape[:-1], 2, count, dim)
        return logits, rest[..., 0, :, :], rest[..., 1, :, :]

    def token_loss(self, raw: jax.Array, label: jax.Array) -> jax.Array:
        """K = 1: ``gaussian_nll`` averaged over dimensions; K > 1: -log p, summed over them."""
        if self.components > 1:
            return -self.log_prob(raw, label)
        _, mean, log_variance = self.parts(raw)
        return gaussian_nll(mean[..., 0, :], jnp.exp(log_variance[..., 0, :]), label).mean(-1)

    def log_prob(self, raw: jax.Array, label: jax.Array, low_variance: bool = False) -> jax.Array:
        """Log-density summed over dimensions, with constants, no floor.

        ``low_variance`` replaces the learned deviations by 1e-5 |mean| (at least 1e-10): the
        density a low-variance mixture is *sampled* from.
        """
        logits, mean, log_variance = self.parts(raw)
        std = jnp.exp(0.5 * log_variance)
        if low_variance:
            std = jnp.maximum(LOW_VARIANCE_RATIO * jnp.abs(mean), LOW_VARIANCE_FLOOR)
        density = normal_log_prob(label[..., None, :], mean, std).sum(-1)
        return nn.logsumexp(nn.log_softmax(logits) + density, axis=-1)

    def mean_and_std(
        self, raw: jax.Array, low_variance: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the (mixture) distribution, [B, N, dim] each."""
        logits, mean, log_variance = self.parts(raw)
        variance = jnp.exp(log_variance)
        if low_variance:
            variance = jnp.square(LOW_VARIANCE_RATIO * mean)
        share = nn.softmax(logits)[..., None]
        centre = (share * mean).sum(-2)
        spread = (share * (variance + jnp.square(mean - centre[..., None, :]))).sum(-2)
        return centre, jnp.sqrt(spread)

    def pick(self, raw: jax.Array, rng: jax.Array | None, sampling: Sampling) -> jax.Array:
        """Values [B, N, dim]: mean, likeliest component, or a draw."""
        logits, mean, log_variance = self.parts(raw)
        if not sampling.sample:
            if sampling.mixture == "mean" or self.components == 1:
                return self.mean_and_std(raw)[0]
            return _component(mean, jnp.argmax(logits, axis=-1))
        choose_rng, noise_rng = jax.random.split(required_key(rng))
        if self.components == 1:
            if self.low_variance:
                return mean[..., 0, :]
            chosen, log_variance = mean[..., 0, :], log_variance[..., 0, :]
        else:
            component = categorical(logits, choose_rng, sampling)
            chosen = _component(mean, component)
            log_variance = _component(log_variance, component)
        std = jnp.exp(0.5 * log_variance)
        if self.low_variance:
            std = LOW_VARIANCE_RATIO * jnp.abs(chosen)
        noise = jax.random.normal(noise_rng, chosen.shape, chosen.dtype)
        spread = jnp.sqrt(jnp.asarray(sampling.temperature, jnp.float32))
        return chosen + spread * std * noise


def _component(values: jax.Array, index: jax.Array) -> jax.Array:
    """values [B, N, K, dim], index [B, N] -> the chosen component's row [B, N, dim]."""
    return jnp.take_along_axis(values, index[..., None, None], axis=-2)[..., 0, :]
