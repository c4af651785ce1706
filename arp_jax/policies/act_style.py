"""The style variable of ACT: how a latent is drawn, what it costs, and what acting uses.

In: what the style encoder says about recorded chunks. Out: the latent that the decoder gets, and
its term of the loss. Pure functions over arrays.

Zhao et al. 2023, section IV-B (Gaussian); Fu et al. 2024, ACT++ (codes; their gradient
is that of the probabilities).
"""

import jax
import jax.numpy as jnp
from jax import Array


def gaussian_style(statistics: Array, noise: Array) -> tuple[Array, Array]:
    """A draw of N(mean, exp(log variance)) and its divergence from N(0, 1).

    Args:
        statistics: [B, 2 Z], means and log variances.
        noise: standard normal [B, Z].

    Returns:
        (style [B, Z], divergence summed over Z and averaged over B, []).
    """
    mean, log_variance = jnp.split(statistics, 2, axis=-1)
    style = mean + jnp.exp(log_variance / 2) * noise
    divergence = 0.5 * (jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance)
    return style, divergence.sum(-1).mean()


def code_probabilities(logits: Array, classes: int) -> Array:
    """Logits [B, C * V] of C codes -> probabilities [B, C, V]."""
    return jax.nn.softmax(logits.reshape(len(logits), classes, -1), axis=-1)


def code_style(probabilities: Array, codes: Array) -> tuple[Array, Array]:
    """Drawn codes as the decoder's input, with the gradient of their probabilities.

    Args:
        probabilities: [B, C, V].
        codes: one-hot draws [B, C, V].

    Returns:
        (style [B, C * V], mean |probabilities - codes|, []).
    """
    passed = codes + probabilities - jax.lax.stop_gradient(probabilities)
    return passed.reshape(len(codes), -1), jnp.abs(probabilities - codes).mean()


def draw_codes(rng: Array, probabilities: Array) -> Array:
    """One-hot draws [B, C, V] from probabilities [B, C, V]."""
    drawn = jax.random.categorical(rng, jnp.log(probabilities), axis=-1)
    return jax.nn.one_hot(drawn, probabilities.shape[-1])
