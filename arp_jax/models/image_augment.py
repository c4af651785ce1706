"""What happens to a camera's frames before a network sees them, at random or not.

In: uint8 frames [B, W, H, W, 3] and an `ImageAugment`. Out: uint8 frames of another size: masked,
cropped, resized, recoloured. One pure function serves training (with a key) and everything after it
(without): the deterministic version is the same code with every draw at its middle and the colours
left alone. Runs on the device inside whatever is compiled around it. Not here: scaling to floats,
which is each network's own; changes of whole batches (`arp_jax.data.augment`).
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.models.image_color import change_colors
from arp_jax.models.image_resize import resize_region

_COLORS = ("brightness", "contrast", "saturation", "hue")


@dataclasses.dataclass(frozen=True)
class ImageAugment:
    """Options of one camera, in the order in which they are applied; the default does nothing.

    Attributes:
        masks: regions (top, left, height, width) in the camera's pixels that are painted over.
        mask_value: grey level 0..255 of the paint.
        crop: the fixed region (top, left, height, width) that is kept; () keeps all.
        random_crop: (height, width) of a window at a random place, without padding; its place in
            evaluation is the centre, ((H - height) // 2, (W - width) // 2).
        scale: (least, most) share of the area of a random region that is then resized.
        ratio: (least, most) shape of that region, as its width / height over the picture's own; ()
            is (1, 1). A side that would be too long becomes the picture's.
        eval_scale: share of the area in evaluation, centred; 0 is the middle of `scale`.
        size: (height, width) that the policy sees; () is what is left of the above, and the
            picture's own size where there is a `scale`.
        brightness, contrast, saturation: x draws a factor from 1 - x .. 1 + x (see
            `image_color.change_colors`).
        hue: x draws a turn of the colours from -x .. x; 0.5 is all of them.
        per_frame: draw anew for each of the W frames of an example; otherwise they share one draw.
    """

    masks: tuple[tuple[int, int, int, int], ...] = ()
    mask_value: int = 0
    crop: tuple[int, ...] = ()
    random_crop: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    ratio: tuple[float, ...] = ()
    eval_scale: float = 0.0
    size: tuple[int, ...] = ()
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    per_frame: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming the option that makes no sense."""
        if any(not _is_region(region) for region in self.masks):
            raise ValueError(f"masks {self.masks}: give (top, left, height, width), each")
        if self.crop and not _is_region(self.crop):
            raise ValueError(f"crop {self.crop}: give (top, left, height, width)")
        for name in ("random_crop", "size"):
            pair = getattr(self, name)
            if pair and (len(pair) != 2 or min(pair) < 1):
                raise ValueError(f"{name} {pair}: give (height, width)")
        if self.scale and not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise ValueError(f"scale {self.scale}: give (least, most) within 0..1")
        if self.ratio and not (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1]):
            raise ValueError(f"ratio {self.ratio}: give (least, most) above 0")
        if self.scale and self.random_crop:
            raise ValueError("scale and random_crop are two ways to crop; choose one")
        if (self.ratio or self.eval_scale) and not self.scale:
            raise ValueError("ratio and eval_scale belong to scale, which is not given")
        if not 0 <= self.eval_scale <= 1 or not 0 <= self.mask_value <= 255:
            raise ValueError("eval_scale must be within 0..1 and mask_value within 0..255")
        for name in _COLORS:
            most = 0.5 if name == "hue" else 1.0
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name)} must be within 0..{most:g}")

    @property
    def changes_colors(self) -> bool:
        """Whether training changes colours."""
        return any(getattr(self, name) for name in _COLORS)

    @property
    def moves_pixels(self) -> bool:
        """Whether a thing in the picture may be elsewhere afterwards."""
        return bool(self.crop or self.random_crop or self.scale or self.size)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after everything, for frames of this size.

        Raises:
            ValueError: a region does not lie within the frame; named.
        """
        for name, regions in (("masks", self.masks), ("crop", (self.crop,) if self.crop else ())):
            for top, left, tall, wide in regions:
                if top + tall > height or left + wide > width:
                    found = (top, left, tall, wide)
                    raise ValueError(f"{name} {found} is not within {height} x {width} pixels")
        if self.crop:
            height, width = self.crop[2:]
        if self.random_crop:
            if self.random_crop[0] > height or self.random_crop[1] > width:
                raise ValueError(f"random_crop {self.random_crop} exceeds {height} x {width}")
            height, width = self.random_crop
        return (self.size[0], self.size[1]) if self.size else (height, width)


@functools.partial(jax.jit, static_argnames="config")
def augment_images(images: Array, config: ImageAugment, rng: Array | None = None) -> Array:
    """Frames as the policy sees them.

    Example i draws from fold_in(rng, i), so that its frames depend neither on its neighbours in the
    batch nor on the devices that share it (but for the rounding of sums, one level at most).

    Args:
        images: uint8 [B, W, H, W, 3].
        config: what is done.
        rng: key for training; None for evaluation: fixed and central regions, no change of colours.

    Returns:
        uint8 [B, W, h, w, 3] with (h, w) of `config.output_size`.

    Raises:
        ValueError: another shape or dtype, or a region outside the frame.
    """
    if images.ndim != 5 or images.shape[-1] != 3 or images.dtype != jnp.uint8:
        raise ValueError(f"expected uint8 [B, W, H, W, 3], found {images.dtype} {images.shape}")
    batch, window, height, width, _ = images.shape
    size = config.output_size(height, width)
    frames = _painted(images, config)
    if config.crop:
        top, left, tall, wide = config.crop
        frames = frames[:, :, top : top + tall, left : left + wide]
    if rng is None:
        return jax.vmap(lambda x: _fitted(x, config, size, None))(frames)
    if config.per_frame:
        frames = frames.reshape(batch * window, 1, *frames.shape[2:])
    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(len(frames)))
    frames = jax.vmap(lambda x, key: _fitted(x, config, size, key))(frames, keys)
    return frames.reshape(batch, window, *size, 3)


def _is_region(region: Any) -> bool:
    return len(region) == 4 and min(region[:2]) >= 0 and min(region[2:]) >= 1


def _painted(images: Array, config: ImageAugment) -> Array:
    """The masked regions of [..., H, W, 3] painted over."""
    if not config.masks:
        return images
    hidden = np.zeros(images.shape[-3:-1], bool)
    for top, left, tall, wide in config.masks:
        hidden[top : top + tall, left : left + wide] = True
    return jnp.where(hidden[..., None], jnp.uint8(config.mask_value), images)


def _fitted(frames: Array, config: ImageAugment, size: tuple[int, int], key: Array | None) -> Array:
    """Frames uint8 [F, H, W, 3] of one draw: cropped, resized to `size`, recoloured."""
    place_key, color_key = (None, None) if key is None else jax.random.split(key)
    if config.random_crop:
        frames = _window(frames, (config.random_crop[0], config.random_crop[1]), place_key)
    shape = (frames.shape[1], frames.shape[2])
    region = _region(shape, config, place_key) if config.scale else (0, 0, *shape)
    recolors = config.changes_colors and color_key is not None
    if (config.scale and place_key is not None) or shape != size or region != (0, 0, *shape):
        changed = resize_region(frames, region, size, stored=recolors)
    elif not recolors:
        return frames  # the very bytes that came in
    else:
        changed = frames.astype(jnp.float32)
    if color_key is not None and config.changes_colors:
        changed = change_colors(changed, *_colors(config, color_key))
    return jnp.round(jnp.clip(changed, 0, 255)).astype(jnp.uint8)


def _window(frames: Array, size: tuple[int, int], key: Array | None) -> Array:
    """A window of `size` at a random or the central place of [F, H, W, 3]."""
    slack = np.array(frames.shape[1:3]) - size
    if key is None:
        top, left = slack // 2
        return frames[:, top : top + size[0], left : left + size[1]]
    corner = jax.random.randint(key, (2,), 0, slack + 1)
    start = (0, corner[0], corner[1], 0)
    return jax.lax.dynamic_slice(frames, start, (len(frames), *size, 3))


def _region(shape: tuple[int, int], config: ImageAugment, key: Array | None) -> tuple[Any, ...]:
    """(top, left, height, width) of the random, or the middle, region; floats."""
    least, most = config.ratio or (1.0, 1.0)
    if key is None:
        area = config.eval_scale or sum(config.scale) / 2
        ratio = math.sqrt(least * most)
        tall, wide = min(math.sqrt(area / ratio), 1.0), min(math.sqrt(area * ratio), 1.0)
        sides = (shape[0] * tall, shape[1] * wide)
        return ((shape[0] - sides[0]) / 2, (shape[1] - sides[1]) / 2, *sides)
    draws = jax.random.uniform(key, (4,))
    drawn_area = config.scale[0] + draws[0] * (config.scale[1] - config.scale[0])
    drawn_ratio = jnp.exp(math.log(least) + draws[1] * (math.log(most) - math.log(least)))
    height = shape[0] * jnp.minimum(jnp.sqrt(drawn_area / drawn_ratio), 1.0)
    width = shape[1] * jnp.minimum(jnp.sqrt(drawn_area * drawn_ratio), 1.0)
    return draws[2] * (shape[0] - height), draws[3] * (shape[1] - width), height, width


def _colors(config: ImageAugment, key: Array) -> tuple[Array, ...]:
    """Factors of brightness, contrast, saturation, and the turn of the hue."""
    brightness, contrast, saturation, hue = jax.random.uniform(key, (4,), minval=-1, maxval=1)
    return (
        1 + config.brightness * brightness,
        1 + config.contrast * contrast,
        1 + config.saturation * saturation,
        config.hue * hue,
    )
