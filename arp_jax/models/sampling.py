"""How a value is picked from a predicted distribution: the rule, and the draw of an index.

In: logits and a ``Sampling`` rule. Out: an index. The numbers of a rule are array leaves, so a
jitted function that takes a rule as an argument is not traced again when only they change.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Sampling:
    """How one token is picked.

    Attributes:
        sample: draw; False takes the mode (most likely class or pixel, mean of a Gaussian). Static.
        temperature: > 0; the density is raised to 1 / temperature (logits are divided by it, a
            standard deviation is multiplied by its square root).
        mixture: value of a mixture when ``sample`` is False: "mean" (of the whole mixture, as
            published) or "mode" (mean of the likeliest component). Static.
        top_k: draw only among the k likeliest classes, pixels or mixture components (all those that
            tie with the k-th included); None: among all.
        top_p: draw only among the likeliest that together reach probability p (at least one), after
            the temperature; in (0, 1], None: among all. A single Gaussian has nothing to cut off.
    """

    sample: bool = struct.field(pytree_node=False, default=False)
    temperature: float | jax.Array = 1.0
    mixture: str = struct.field(pytree_node=False, default="mean")
    top_k: int | jax.Array | None = None
    top_p: float | jax.Array | None = None

    def __post_init__(self) -> None:
        if self.mixture not in ("mean", "mode"):
            raise ValueError(f"Sampling: mixture must be 'mean' or 'mode', found {self.mixture!r}")
        _check("temperature", self.temperature, lambda x: x > 0, "> 0")
        _check("top_k", self.top_k, lambda x: x >= 1, ">= 1")
        _check("top_p", self.top_p, lambda x: 0 < x <= 1, "in (0, 1]")


def _check(name: str, value: Any, is_good: Any, wanted: str) -> None:
    """ValueError for a bad plain number; arrays are checked by nobody, they may be traced."""
    if isinstance(value, int | float) and not is_good(value):
        raise ValueError(f"Sampling: {name} must be {wanted}, found {value}")


def required_key(rng: jax.Array | None) -> jax.Array:
    """``rng``; ValueError if it is None, because drawing needs a key."""
    if rng is None:
        raise ValueError("sampling needs an rng key, found None")
    return rng


def truncated(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits [..., K] with everything outside top-k and top-p at -inf."""
    if sampling.top_k is None and sampling.top_p is None:
        return logits
    ordered = jnp.sort(logits, axis=-1, descending=True)
    count = logits.shape[-1]
    last = jnp.full((*logits.shape[:-1], 1), count - 1)
    if sampling.top_k is not None:
        last = jnp.minimum(last, jnp.clip(jnp.asarray(sampling.top_k) - 1, 0, count - 1))
    if sampling.top_p is not None:
        probability = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(probability, axis=-1) - probability  # mass of the likelier ones
        inside = (before < sampling.top_p).sum(-1, keepdims=True)
        last = jnp.minimum(last, jnp.maximum(inside - 1, 0))
    least = jnp.take_along_axis(ordered, last, axis=-1)
    return jnp.where(logits >= least, logits, -jnp.inf)


def categorical(logits: jax.Array, rng: jax.Array | None, sampling: Sampling) -> jax.Array:
    """Index [...] picked from logits [..., K]: argmax, or a draw by the rule."""
    if not sampling.sample:
        return jnp.argmax(logits, axis=-1)
    logits = truncated(logits / sampling.temperature, sampling)
    return jax.random.categorical(required_key(rng), logits, axis=-1)
