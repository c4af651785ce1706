"""Rotations as three classes, and back: quaternions, matrices, Euler angles in steps.

Flows in: unit quaternions (x, y, z, w) or rotation matrices. Flows out: the code of each Euler
angle (extrinsic x, y, z), as ARP's RLBench variant predicts them. No parameters, no randomness.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

# Beyond this sine of the pitch, roll and yaw turn about the same axis: yaw is set to 0.
_LOCK = 1.0 - 1e-6
# A pitch this close to +-90 degrees is put onto it before a scene is turned (published fix).
_SNAP_DEGREES = 1.0


def quaternion_to_matrix(quaternion: Array) -> Array:
    """(x, y, z, w) [..., 4], of any length but 0, to rotation matrices [..., 3, 3]."""
    unit = quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
    x, y, z, w = (unit[..., i] for i in range(4))
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def axis_rotation(axis: int, degrees: Array) -> Array:
    """Matrices [..., 3, 3] of right-handed turns [...] in degrees about x, y or z (axis 0-2)."""
    angle = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.zeros((*jnp.shape(angle), 3, 3)).at[..., axis, axis].set(1.0)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = matrix.at[..., i, i].set(cosine).at[..., j, j].set(cosine)
    return matrix.at[..., i, j].set(-sine).at[..., j, i].set(sine)


def matrix_to_euler(matrix: Array) -> Array:
    """Matrices [..., 3, 3] = Rz Ry Rx to (x, y, z) [..., 3] in degrees.

    y is in [-90, 90], the others in [-180, 180]; where y is +-90, z is 0.
    """
    sine = jnp.clip(-matrix[..., 2, 0], -1.0, 1.0)
    locked = jnp.abs(sine) > _LOCK
    roll = jnp.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    yaw = jnp.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    roll_if_locked = jnp.arctan2(jnp.sign(sine) * matrix[..., 0, 1], matrix[..., 1, 1])
    # atan2 keeps its precision near 90 degrees, where asin loses half the digits.
    pitch = jnp.arctan2(sine, jnp.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    angles = (jnp.where(locked, roll_if_locked, roll), pitch, jnp.where(locked, 0.0, yaw))
    return jnp.rad2deg(jnp.stack(angles, axis=-1))


def euler_to_matrix(degrees: Array) -> Array:
    """Inverse of `matrix_to_euler`: (x, y, z) [..., 3] to Rz Ry Rx [..., 3, 3]."""
    about_x, about_y, about_z = (axis_rotation(i, degrees[..., i]) for i in range(3))
    return about_z @ about_y @ about_x


def snap_pitch(matrix: Array) -> Array:
    """Rotations whose pitch is within one degree of +-90 are put exactly there, others kept."""
    euler = matrix_to_euler(matrix)
    pitch = euler[..., 1]
    near = jnp.abs(jnp.abs(pitch) - 90.0) < _SNAP_DEGREES
    snapped = euler.at[..., 1].set(jnp.sign(pitch) * 90.0)
    return jnp.where(near[..., None, None], euler_to_matrix(snapped), matrix)


def rotation_to_codes(matrix: Array, classes: int) -> Array:
    """Matrices [..., 3, 3] to codes int32 [..., 3]: round((angle + 180) / step) mod classes."""
    step = 360.0 / classes
    codes = jnp.round((matrix_to_euler(matrix) + 180.0) / step)
    return codes.astype(jnp.int32) % classes


def codes_to_quaternion(codes: Array, classes: int) -> Array:
    """Codes [..., 3] to unit quaternions (x, y, z, w) float32 [..., 4]."""
    half = jnp.deg2rad(codes * (360.0 / classes) - 180.0) / 2  # [..., 3]
    cosine, sine = jnp.cos(half), jnp.sin(half)
    (cx, cy, cz), (sx, sy, sz) = (tuple(part[..., i] for i in range(3)) for part in (cosine, sine))
    parts = (
        sx * cy * cz - cx * sy * sz,
        cx * sy * cz + sx * cy * sz,
        cx * cy * sz - sx * sy * cz,
        cx * cy * cz + sx * sy * sz,
    )
    return jnp.stack(parts, axis=-1)
