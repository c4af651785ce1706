"""The scene of one RLBench decision: where the cloud lies in the cube, and how training varies it.

Flows in: a point cloud and a gripper pose in the robot's frame, in metres. Flows out: the cloud in
the unit cube, turned, shifted or zoomed. Pure functions; drawing pictures is
`models.orthographic_views`, codes of rotations are `rotation_codes`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.policies.rotation_codes import axis_rotation

# Offsets, in classes, that teacher-forced rotation tokens are drawn from, and how often. The
# published list repeats the negative offsets, so its jitter only ever lowers a code.
JITTER_OFFSETS = {"symmetric": (-2, -1, 0, 1, 2), "published": (-2, -1, 0, -1, -2)}
JITTER_PROBABILITIES = (0.1, 0.2, 0.4, 0.2, 0.1)

Bounds = Sequence[float]  # x_min, y_min, z_min, x_max, y_max, z_max in metres


def in_bounds(points: Array, bounds: Bounds) -> Array:
    """points [..., 3] -> bool [...]: inside the scene, and a number."""
    low, high = np.asarray(bounds[:3], np.float32), np.asarray(bounds[3:], np.float32)
    return ((points >= low) & (points <= high)).all(-1)  # comparisons with NaN are False


def to_cube(points: Array, bounds: Bounds) -> Array:
    """Metres [..., 3] to the cube: the scene's centre is 0, its longest side spans [-1, 1]."""
    centre, scale = _centre_and_scale(bounds)
    return (points - centre) * scale


def from_cube(points: Array, bounds: Bounds) -> Array:
    """Inverse of `to_cube`."""
    centre, scale = _centre_and_scale(bounds)
    return points / scale + centre


def _centre_and_scale(bounds: Bounds) -> tuple[np.ndarray, np.float32]:
    low, high = np.asarray(bounds[:3], np.float32), np.asarray(bounds[3:], np.float32)
    return (low + high) / 2, np.float32(2.0 / (high - low).max())


def zoom_in(points: Array, centre: Array, zoom: float) -> Array:
    """Cube points [B, ..., 3] seen from `centre` [B, 3], `zoom` times as large."""
    lead = points.ndim - centre.ndim
    return zoom * (points - centre.reshape(centre.shape[0], *(1,) * lead, 3))


def zoom_out(points: Array, centre: Array, zoom: float) -> Array:
    """Inverse of `zoom_in` for one point per sample [B, 3]."""
    return points / zoom + centre


def turn_and_shift(
    rng: Array,
    points: Array,
    position: Array,
    rotation: Array,
    bounds: Bounds,
    shift_fraction: Sequence[float],
    turn_degrees: Sequence[float],
) -> tuple[Array, Array, Array]:
    """Turn the scene about the gripper's goal and shift both, at random (SE(3) augmentation).

    Args:
        rng: key.
        points: [B, P, 3] cloud; position: [B, 3] and rotation: [B, 3, 3] of the goal.
        bounds: the goal is not shifted out of the scene.
        shift_fraction: largest shift along each axis, as a fraction of the scene's side.
        turn_degrees: largest turn about x, y and z; T = Rx Ry Rz, applied as its transpose.

    Returns:
        points, position and rotation after the same rigid motion.
    """
    shift_rng, turn_rng = jax.random.split(rng)
    low, high = np.asarray(bounds[:3], np.float32), np.asarray(bounds[3:], np.float32)
    largest = (high - low) * np.asarray(shift_fraction, np.float32)
    shift = largest * jax.random.uniform(shift_rng, position.shape, minval=-1.0, maxval=1.0)
    moved = position + jnp.clip(shift, low - position, high - position)
    angles = jax.random.uniform(turn_rng, position.shape, minval=-1.0, maxval=1.0)
    angles = angles * np.asarray(turn_degrees, np.float32)
    turn = jnp.eye(3)
    for axis in range(3):
        turn = turn @ axis_rotation(axis, angles[:, axis])  # [B, 3, 3]
    turned = jnp.einsum("bpi,bij->bpj", points - position[:, None], turn)
    return turned + moved[:, None], moved, turn.swapaxes(-1, -2) @ rotation


def noisy_colours(rng: Array, colours: Array, largest: float) -> Array:
    """Uniform noise on colours [B, P, 3], of a strength drawn per sample up to `largest`."""
    strength_rng, noise_rng = jax.random.split(rng)
    strength = largest * jax.random.uniform(strength_rng, (colours.shape[0], 1, 1))
    return colours + strength * jax.random.uniform(noise_rng, colours.shape, minval=-1.0)


def jitter_codes(rng: Array, codes: Array, classes: int, kind: str) -> Array:
    """Codes int32 [...] moved by a few classes (mod `classes`); `kind` of `JITTER_OFFSETS`."""
    offsets = jnp.asarray(JITTER_OFFSETS[kind], jnp.int32)
    drawn = jax.random.choice(rng, offsets, codes.shape, p=jnp.asarray(JITTER_PROBABILITIES))
    return (codes + drawn) % classes
