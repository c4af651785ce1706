"""Augmentation on the device, inside the jitted training step.

Flows in: a batch as the loader made it (normalised) and a key. Flows out: a batch of the same
shapes, each example changed at random: symmetries of a task, which change observations and actions
together. Crops, sizes and colours of images belong to the policy, in training and evaluation alike:
`models/image_augment.py`, `policies/preprocessed.py` and docs/decisions/0007.

Push-T is symmetric under reflection about the axis of the goal T. With pixels normalised by
(v - 256) / 256 (y down), the goal lies at the origin and its axis is y = -x, so that

    point   (x, y)          -> (-y, -x)
    angle   theta           -> pi/2 - theta   (the goal's pi/4 stays)
    image   [row, column]   -> [last - column, last - row]

and the T, being its own mirror image, has the corners of each side exchanged. The walls are not
quite symmetric (5 and 506 about 255.5, not 256): touching them, the mirrored world is up to 1 px
off.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.normalize import Affine

Batch = dict[str, Any]
Augment = Callable[[Batch, Array], Batch]

# Corner i of the mirrored T is the image of corner _CORNERS[i]. A box lists (lo,lo), (hi,lo),
# (hi,hi), (lo,hi); the reflection exchanges lo and hi of the body's x, hence 0 <-> 1 and 2 <-> 3.
_CORNERS = np.array([1, 0, 3, 2, 5, 4, 7, 6])
# Feature -> (offset, scale) that the formulas below assume, for `limits` normalisation.
_PIXELS, _ANGLE = (256.0, 256.0), (np.pi, np.pi)
_ASSUMED = {
    "agent_pos": [_PIXELS] * 2,
    "keypoints": [_PIXELS] * 16,
    "block_pose": [_PIXELS, _PIXELS, _ANGLE],
    "action": [_PIXELS] * 2,
}


def mirror_points(points: Array) -> Array:
    """(x, y) -> (-y, -x) for normalised points [..., 2]."""
    return -points[..., ::-1]


def mirror_keypoints(keypoints: Array) -> Array:
    """Mirrored normalised corners [..., 16], back in body order."""
    corners = keypoints.reshape(*keypoints.shape[:-1], 8, 2)[..., _CORNERS, :]
    return mirror_points(corners).reshape(keypoints.shape)


def mirror_block_pose(pose: Array) -> Array:
    """Mirrored normalised pose [..., 3]; the angle is (theta - pi) / pi in [-1, 1).

    The body's y axis at theta is (-sin, cos); mirrored it is (-cos, sin), which is the y axis at
    pi/2 - theta. In normalised units, modulo 2: a -> (-1/2 - a) mod 2 - 1.
    """
    angle = jnp.mod(-0.5 - pose[..., 2:], 2.0) - 1.0
    return jnp.concatenate([mirror_points(pose[..., :2]), angle], -1)


def mirror_image(image: Array) -> Array:
    """Anti-transpose of square images [..., S, S, C]: pixel (r, c) comes from (S-1-c, S-1-r)."""
    if image.shape[-3] != image.shape[-2]:
        raise ValueError(f"push_t_mirror needs square images, found {image.shape[-3:]}")
    return jnp.swapaxes(image[..., ::-1, ::-1, :], -3, -2)


_MIRRORS: dict[str, Callable[[Array], Array]] = {
    "agent_pos": mirror_points,
    "keypoints": mirror_keypoints,
    "block_pose": mirror_block_pose,
    "image": mirror_image,
    "action": mirror_points,
}


def mirror_batch(batch: Batch) -> Batch:
    """The mirrored batch, every example; its own inverse.

    Raises:
        ValueError: an observation whose mirror image is not known (it would be left wrong).
    """
    for name in batch["observation"]:
        if name not in _MIRRORS:
            raise ValueError(f"push_t_mirror does not know observation {name!r}; {list(_MIRRORS)}")
    observation = {name: _MIRRORS[name](value) for name, value in batch["observation"].items()}
    return {**batch, "observation": observation, "action": mirror_points(batch["action"])}


def push_t_mirror(batch: Batch, rng: Array) -> Batch:
    """Mirrors each example with probability 1/2, all of its steps and its actions alike.

    Args:
        batch: {"observation": {name: [B, W, ...]}, "action": [B, H, 2], ...} with `limits`
            normalisation (pixels (v - 256) / 256, angle (v - pi) / pi) and uint8 images.
        rng: key.
    """
    chosen = jax.random.bernoulli(rng, 0.5, (batch["action"].shape[0],))  # [B]
    mirrored = mirror_batch(batch)

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return {
        **batch,
        "observation": {
            name: choose(mirrored["observation"][name], value)
            for name, value in batch["observation"].items()
        },
        "action": choose(mirrored["action"], batch["action"]),
    }


def make_augment(name: str | None, normalizer: Mapping[str, Affine] | None = None) -> Augment:
    """The augmentation called `name`.

    Args:
        name: "push_t_mirror", or None for none.
        normalizer: the maps that made the batches; needed by "push_t_mirror", whose formulas hold
            for `limits` normalisation only.

    Returns:
        fn(batch, rng) -> batch, to be called inside the jitted step.

    Raises:
        ValueError: unknown name, or a normaliser that the augmentation's formulas do not fit.
    """
    if name is None:
        return lambda batch, rng: batch
    if name != "push_t_mirror":
        raise ValueError(f"augment {name!r} is unknown; choose 'push_t_mirror' or None")
    _check_limits(normalizer)
    return push_t_mirror


def _check_limits(normalizer: Mapping[str, Affine] | None) -> None:
    if normalizer is None:
        raise ValueError("augment 'push_t_mirror' needs the normalizer, to check its maps")
    for name, affine in normalizer.items():
        if name not in _ASSUMED:
            continue  # a feature that the batch does not hold, or that mirror_batch will refuse
        offset, scale = np.array(_ASSUMED[name]).T
        if not (
            affine.offset.shape == offset.shape
            and np.allclose(affine.offset, offset, rtol=1e-5)
            and np.allclose(affine.scale, scale, rtol=1e-5)
        ):
            raise ValueError(
                f"augment 'push_t_mirror' needs 'limits' normalization of {name!r} "
                "(pixels (v - 256) / 256); set data.normalization or data.augment = None"
            )
