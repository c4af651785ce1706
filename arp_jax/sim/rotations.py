"""Quaternions (w, x, y, z), as MuJoCo has them, in JAX. Any leading axes; no normalisation unless
said."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def multiply(p: ArrayLike, q: ArrayLike) -> Array:
    """Hamilton product [..., 4]: the rotation `q`, then `p`."""
    p, q = jnp.asarray(p), jnp.asarray(q)
    pw, px, py, pz = jnp.moveaxis(p, -1, 0)
    qw, qx, qy, qz = jnp.moveaxis(q, -1, 0)
    return jnp.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ],
        -1,
    )


def conjugate(q: ArrayLike) -> Array:
    """The inverse of a unit quaternion [..., 4]."""
    return jnp.asarray(q) * jnp.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: ArrayLike, v: ArrayLike) -> Array:
    """Turns vectors [..., 3] by unit quaternions [..., 4]."""
    q, v = jnp.asarray(q), jnp.asarray(v)
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * jnp.cross(u, v)
    return v + w * t + jnp.cross(u, t)


def about(axis: ArrayLike, angle: ArrayLike) -> Array:
    """Rotation by `angle` [...] rad about a unit axis [..., 3]: [..., 4]."""
    half = jnp.asarray(angle)[..., None] / 2.0
    return jnp.concatenate([jnp.cos(half), jnp.sin(half) * jnp.asarray(axis)], -1)


def normalize(q: ArrayLike) -> Array:
    """Unit quaternion [..., 4]."""
    q = jnp.asarray(q)
    return q / jnp.linalg.norm(q, axis=-1, keepdims=True)


def to_matrix(q: ArrayLike) -> Array:
    """Rotation matrix [..., 3, 3] of a unit quaternion [..., 4]."""
    eye = jnp.eye(3)
    columns = [rotate(q, jnp.broadcast_to(eye[i], (*jnp.shape(q)[:-1], 3))) for i in range(3)]
    return jnp.stack(columns, -1)


def from_matrix(matrix: ArrayLike) -> Array:
    """Unit quaternion [..., 4] of a rotation matrix [..., 3, 3] (Shepperd, without branches).

    Each component's magnitude comes from the trace; the candidate with the largest one is used.
    """
    m = jnp.asarray(matrix)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    squares = jnp.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    rows = jnp.stack(
        [
            jnp.stack([squares[..., 0], a, b, c], -1),
            jnp.stack([a, squares[..., 1], d, e], -1),
            jnp.stack([b, d, squares[..., 2], f], -1),
            jnp.stack([c, e, f, squares[..., 3]], -1),
        ],
        -2,
    )
    best = jnp.argmax(squares, -1)
    return normalize(jnp.take_along_axis(rows, best[..., None, None], -2)[..., 0, :])


def to_vector(q: ArrayLike) -> Array:
    """Rotation vector [..., 3] (axis times angle, rad, shortest way) of a unit quaternion."""
    q = jnp.asarray(q)
    q = jnp.where(q[..., :1] < 0, -q, q)
    size = jnp.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * jnp.arctan2(size, q[..., :1])
    # For small angles angle/size tends to 2.
    scale = jnp.where(size > 1e-7, angle / jnp.where(size > 1e-7, size, 1.0), 2.0)
    return q[..., 1:] * scale
