"""Diffusion over action chunks: noise tables, adding noise, and the two ways back.

In: the number of training steps and what the network predicts. Out: pure functions over arrays; a
whole sampling run is one `lax.scan`. The network is a function argument; which one is the policy's
business.

Ho et al. 2020 (DDPM), Song et al. 2021 (DDIM), Nichol & Dhariwal 2021 (squared-cosine schedule),
Salimans & Ho 2022 (velocity).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PREDICTIONS = ("epsilon", "sample", "velocity")
SAMPLERS = ("ddpm", "ddim")
_MAX_BETA = 0.999
# Predict(noisy [B, H, A], step int32 []) -> [B, H, A].
Predict = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """Squared-cosine noise over `steps` training steps.

    Attributes:
        steps: K, number of noise levels.
        prediction: what the network says: "epsilon" (the noise), "sample" (the clean chunk) or
            "velocity" (sqrt(a) noise - sqrt(1-a) sample).
        clip: clean chunks are clipped to [-clip, clip] while sampling; 0 does not clip.
    """

    steps: int = 100
    prediction: str = "epsilon"
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"diffusion steps must be >= 1, found {self.steps}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction {self.prediction!r} is unknown; choose of {PREDICTIONS}")

    @property
    def betas(self) -> np.ndarray:
        """Variance added at each step, float64 [K]."""
        level = np.cos((np.arange(self.steps + 1) / self.steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - level[1:] / level[:-1], _MAX_BETA)

    @property
    def alphas(self) -> np.ndarray:
        """Share of the clean chunk's variance that is left, cumulative; float32 [K]."""
        # Rounded where published tables are: float32 factors, multiplied in double precision.
        factors = (1.0 - self.betas.astype(np.float32)).astype(np.float64)
        return np.cumprod(factors).astype(np.float32)

    def add_noise(self, clean: Array, noise: Array, steps: Array) -> Array:
        """The chunk [B, H, A] at noise levels `steps` [B]."""
        alpha = jnp.asarray(self.alphas)[steps][:, None, None]
        return jnp.sqrt(alpha) * clean + jnp.sqrt(1.0 - alpha) * noise

    def target(self, clean: Array, noise: Array, steps: Array) -> Array:
        """What the network should predict, [B, H, A]."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        alpha = jnp.asarray(self.alphas)[steps][:, None, None]
        return jnp.sqrt(alpha) * noise - jnp.sqrt(1.0 - alpha) * clean

    def clean_and_noise(self, noisy: Array, predicted: Array, alpha: Array) -> tuple[Array, Array]:
        """Splits a noisy chunk by the network's prediction; the clean part is clipped.

        Args:
            noisy, predicted: [B, H, A].
            alpha: cumulative share of the signal, [].

        Returns:
            (clean, noise); the noise is not recomputed after clipping.
        """
        signal, spread = jnp.sqrt(alpha), jnp.sqrt(1.0 - alpha)
        if self.prediction == "epsilon":
            clean, noise = (noisy - spread * predicted) / signal, predicted
        elif self.prediction == "sample":
            clean, noise = predicted, (noisy - signal * predicted) / spread
        else:
            clean = signal * noisy - spread * predicted
            noise = signal * predicted + spread * noisy
        if self.clip:
            clean = jnp.clip(clean, -self.clip, self.clip)
        return clean, noise


def ddim_steps(training_steps: int, steps: int) -> np.ndarray:
    """Noise levels that DDIM visits, int32 [steps], noisiest first ("leading" spacing).

    Raises:
        ValueError: more steps than there are levels.
    """
    if not 1 <= steps <= training_steps:
        raise ValueError(f"inference steps must be in 1 .. {training_steps}, found {steps}")
    return (np.arange(steps) * (training_steps // steps))[::-1].astype(np.int32)


def sample_ddim(schedule: NoiseSchedule, predict: Predict, start: Array, steps: int) -> Array:
    """DDIM without noise (eta = 0), one scan.

    Args:
        schedule: of the training.
        predict: the network.
        start: standard normal noise [B, H, A].
        steps: network calls.

    Returns:
        The clean chunk [B, H, A].
    """
    levels = ddim_steps(schedule.steps, steps)
    previous = levels - schedule.steps // steps
    alphas = schedule.alphas[levels]
    # Below the last level there is no noise at all.
    before = np.where(previous >= 0, schedule.alphas[previous], np.float32(1.0))

    def step(noisy: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
        level, alpha, alpha_before = at
        predicted = predict(noisy, level)
        clean, noise = schedule.clean_and_noise(noisy, predicted, alpha)
        return jnp.sqrt(alpha_before) * clean + jnp.sqrt(1.0 - alpha_before) * noise, None

    visited = jax.tree.map(jnp.asarray, (levels, alphas, before.astype(np.float32)))
    return jax.lax.scan(step, start, visited)[0]


def ddpm_variance(schedule: NoiseSchedule) -> np.ndarray:
    """Variance of each reverse step, float32 [K]; "fixed small" (Ho et al. 2020, section 3.2)."""
    alphas = schedule.alphas
    before = np.concatenate([np.ones(1, np.float32), alphas[:-1]])
    step_beta = 1.0 - alphas / before
    return np.maximum((1.0 - before) / (1.0 - alphas) * step_beta, 1e-20)


def sample_ddpm(schedule: NoiseSchedule, predict: Predict, start: Array, noises: Array) -> Array:
    """Ancestral sampling over all K levels, one scan.

    Args:
        schedule: of the training.
        predict: the network.
        start: standard normal noise [B, H, A].
        noises: standard normal [K, B, H, A] in the order of use; the last is not used.

    Returns:
        The clean chunk [B, H, A].
    """
    levels = np.arange(schedule.steps)[::-1].astype(np.int32)
    alphas = schedule.alphas
    before = np.concatenate([np.ones(1, np.float32), alphas[:-1]])
    own = alphas / before
    clean_weight = np.sqrt(before) * (1.0 - own) / (1.0 - alphas)
    noisy_weight = np.sqrt(own) * (1.0 - before) / (1.0 - alphas)
    spread = np.sqrt(ddpm_variance(schedule)) * (np.arange(schedule.steps) > 0)
    tables = (alphas, clean_weight, noisy_weight, spread.astype(np.float32))

    def step(noisy: Array, at: tuple[Array, ...]) -> tuple[Array, None]:
        level, noise, alpha, to_clean, to_noisy, sigma = at
        predicted = predict(noisy, level)
        clean, _ = schedule.clean_and_noise(noisy, predicted, alpha)
        return to_clean * clean + to_noisy * noisy + sigma * noise, None

    visited = jax.tree.map(jnp.asarray, (levels, noises, *(table[levels] for table in tables)))
    return jax.lax.scan(step, start, visited)[0]
