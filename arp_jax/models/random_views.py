"""Random views of camera frames, for learning that two views show the same thing (BYOL).

In: uint8 frames [B, h, w, 3], options, a key. Out: float32 frames in [0, 255], each with its own
crop, colours, mirror image and blur. Every change but the crop has a probability. For what a policy
sees in training and afterwards, see `image_augment.py`: here nothing is meant to be recognisable.

The defaults are the changes of the implementation with which VINN was published in Mobile ALOHA.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.image_color import change_colors
from arp_jax.models.image_resize import resize_region

_SHARES = ("jitter", "grey", "flip", "blur")
_COLORS = ("brightness", "contrast", "saturation", "hue")


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """How views differ from the frame, in the order in which it is changed.

    Attributes:
        area: (least, most) share of the frame that is kept.
        ratio: (least, most) width / height of the kept region over the frame's own.
        jitter: probability that colours change.
        brightness, contrast, saturation: x draws a factor from max(0, 1 - x) .. 1 + x.
        hue: x draws a turn of the colours from -x .. x; 0.5 is all of them.
        grey: probability of no colour at all.
        flip: probability of the mirror image; 0 where left and right are different things.
        blur: probability of a 3 x 3 Gaussian blur.
        blur_sigma: (least, most) standard deviation in pixels.
    """

    area: tuple[float, ...] = (0.08, 1.0)
    ratio: tuple[float, ...] = (0.75, 4 / 3)
    jitter: float = 0.3
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    flip: float = 0.5
    blur: float = 0.2
    blur_sigma: tuple[float, ...] = (1.0, 2.0)

    def __post_init__(self) -> None:
        """Raises ValueError naming the option that makes no sense."""
        for name, most in (("area", 1.0), ("ratio", math.inf), ("blur_sigma", math.inf)):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
                raise ValueError(f"policy.views.{name} {pair}: give (least, most) above 0")
        for name in (*_SHARES, *_COLORS):
            most = 0.5 if name == "hue" else 1.0
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"policy.views.{name} {getattr(self, name)} must be within 0..{most:g}"
                )


def random_views(frames: Array, options: ViewOptions, rng: Array) -> Array:
    """One view of each frame.

    Frame i draws from fold_in(rng, i), so that its view does not depend on its neighbours in the
    batch, nor on the devices that share it.

    Args:
        frames: uint8 [B, h, w, 3].
        options: how views differ.
        rng: key.

    Returns:
        float32 [B, h, w, 3] in [0, 255].
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(len(frames)))
    return jax.vmap(lambda frame, key: _view(frame[None], options, key)[0])(frames, keys)


def _view(frame: Array, options: ViewOptions, key: Array) -> Array:
    """[1, h, w, 3] uint8 to float32."""
    crop_key, color_key, chance_key, blur_key = jax.random.split(key, 4)
    height, width = frame.shape[1:3]
    jitter, grey, flip, blur = (
        jax.random.bernoulli(k, getattr(options, name))
        for name, k in zip(_SHARES, jax.random.split(chance_key, 4), strict=True)
    )
    view = resize_region(frame, _random_region(height, width, options, crop_key), (height, width))
    draws = jax.random.uniform(color_key, (4,), minval=-1, maxval=1)
    brightness, contrast, saturation = (
        jnp.where(jitter, 1 + getattr(options, name) * draw, 1.0)
        for name, draw in zip(_COLORS[:3], draws[:3], strict=True)
    )
    hue = jnp.where(jitter, options.hue * draws[3], 0.0)
    saturation = jnp.where(grey, 0.0, saturation)
    view = jnp.clip(change_colors(view, brightness, contrast, saturation, hue), 0, 255)
    view = jnp.where(flip, view[:, :, ::-1], view)
    least, most = options.blur_sigma
    sigma = jax.random.uniform(blur_key, minval=least, maxval=most)
    return jnp.where(blur, _blurred(view, sigma), view)


def _random_region(
    height: int, width: int, options: ViewOptions, key: Array
) -> tuple[Array, Array, Array, Array]:
    """(top, left, height, width) that is kept; a side too long becomes the frame's."""
    draws = jax.random.uniform(key, (4,))
    area = options.area[0] + draws[0] * (options.area[1] - options.area[0])
    least, most = math.log(options.ratio[0]), math.log(options.ratio[1])
    ratio = jnp.exp(least + draws[1] * (most - least))
    tall = height * jnp.minimum(jnp.sqrt(area / ratio), 1.0)
    wide = width * jnp.minimum(jnp.sqrt(area * ratio), 1.0)
    return draws[2] * (height - tall), draws[3] * (width - wide), tall, wide


def _blurred(frames: Array, sigma: Array) -> Array:
    """[F, h, w, 3] under a 3 x 3 Gaussian; edges are mirrored."""
    side = jnp.exp(-0.5 / sigma**2)
    middle = 1 / (1 + 2 * side)
    for axis in (1, 2):
        pads = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(frames, pads, mode="reflect")
        size = frames.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, s, s + size, axis=axis) for s in (0, 2))
        frames = middle * (frames + side * (before + after))
    return frames
