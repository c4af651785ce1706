"""Do two boxes touch? Geometry instead of contact buffers, so that every engine agrees.

In: positions, rotations and half sizes of two boxes in one frame, m. Out: signed gaps. Pure JAX,
one pair; callers vmap. Source: separating axis theorem (Gottschalk, Lin & Manocha 1996).
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def separation(
    pos_a: ArrayLike,
    mat_a: ArrayLike,
    half_a: ArrayLike,
    pos_b: ArrayLike,
    mat_b: ArrayLike,
    half_b: ArrayLike,
) -> Array:
    """Largest gap between two oriented boxes over their 15 separating axes.

    Args:
        pos_a, pos_b: centres [3], m.
        mat_a, mat_b: rotation matrices [3, 3], box frame to world.
        half_a, half_b: half sizes [3], m.

    Returns:
        float32 []: above 0 the boxes are apart (a lower bound of their distance, exact face to
        face), below 0 they overlap by that much.
    """
    rot_a, rot_b = jnp.asarray(mat_a), jnp.asarray(mat_b)
    half_a, half_b = jnp.asarray(half_a), jnp.asarray(half_b)
    offset = jnp.asarray(pos_b) - jnp.asarray(pos_a)
    edges = jnp.cross(rot_a.T[:, None, :], rot_b.T[None, :, :]).reshape(9, 3)
    axes = jnp.concatenate([rot_a.T, rot_b.T, edges])  # [15, 3]
    length = jnp.linalg.norm(axes, axis=-1)
    # Parallel edges give no axis of their own: a face axis decides then.
    usable = length > 1e-4
    axes = axes / jnp.where(usable, length, 1.0)[:, None]
    reach = jnp.abs(axes @ rot_a) @ half_a + jnp.abs(axes @ rot_b) @ half_b
    gaps = jnp.abs(axes @ offset) - reach
    return jnp.max(jnp.where(usable, gaps, -jnp.inf))
