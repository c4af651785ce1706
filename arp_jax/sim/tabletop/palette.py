"""Named colors, so that a sentence can tell things apart.

In: a key, or indices into `NAMES`. Out: distinct colors as indices, or rgba. Nothing else knows
that "red" is (0.85, 0.1, 0.1).
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

_RGB = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.10, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.15, 0.70),
    "orange": (1.00, 0.50, 0.05),
    "cyan": (0.10, 0.80, 0.85),
    "pink": (0.95, 0.45, 0.70),
}
NAMES = tuple(_RGB)


def draw(key: Array, count: int) -> Array:
    """`count` different colors, float32 [count] indices into `NAMES`."""
    return jax.random.permutation(key, len(NAMES))[:count].astype(jnp.float32)


def rgba(index: ArrayLike) -> Array:
    """Opaque rgba [..., 4] in [0, 1] of color indices [...]; floats are rounded down."""
    table = jnp.array([(*rgb, 1.0) for rgb in _RGB.values()], jnp.float32)
    return table[jnp.asarray(index).astype(jnp.int32)]
