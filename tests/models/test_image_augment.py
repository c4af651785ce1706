"""What happens to camera frames: each operation beside numpy's and Pillow's, and what must hold."""

import ast
import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from arp_jax.models.image_augment import ImageAugment, augment_images
from arp_jax.models.image_color import LUMA, change_colors
from arp_jax.models.image_resize import resize_region

KEY = jax.random.key(3)
EVERYTHING = ImageAugment(
    masks=((0, 0, 5, 7),),
    crop=(2, 3, 30, 40),
    scale=(0.5, 0.9),
    ratio=(0.8, 1.25),
    size=(16, 20),
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
)


def pictures(batch: int = 2, window: int = 2, height: int = 36, width: int = 48) -> np.ndarray:
    """Smooth random pictures: resizing noise would hide mistakes in rounding."""
    coarse = np.random.default_rng(0).integers(0, 256, (batch * window, 7, 9, 3), np.uint8)
    frames = [Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack(frames).reshape(batch, window, height, width, 3)


def difference(found: np.ndarray, expected: np.ndarray) -> int:
    """Largest difference of two uint8 pictures."""
    return int(np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max())


# Resizing


@pytest.mark.parametrize("size", [(36, 48), (7, 11), (50, 61), (20, 90)])
def test_resize_is_that_of_pillow_and_jax(size: tuple[int, int]) -> None:
    images = pictures()
    found = np.asarray(augment_images(images, ImageAugment(size=size)))
    assert found.shape == (2, 2, *size, 3)
    frames = images.reshape(-1, 36, 48, 3)
    expected = [
        np.asarray(Image.fromarray(f).resize(size[::-1], Image.Resampling.BILINEAR)) for f in frames
    ]
    # Pillow rounds between its two passes.
    assert difference(found.reshape(-1, *size, 3), np.stack(expected)) <= 1
    by_jax = jax.image.resize(frames.astype(np.float32), (4, *size, 3), "bilinear")
    ours = resize_region(jnp.asarray(frames), (0, 0, 36, 48), size)
    np.testing.assert_allclose(ours, by_jax, atol=2e-3)
    # Compiled with the region as values of the program: (20, 90) has pixels whose edges fall on
    # those of the input, where rounding decides, and must decide once.
    drawn = jax.jit(lambda x: resize_region(x, (0, 0, jnp.float32(36), jnp.float32(48)), size))
    np.testing.assert_allclose(drawn(frames), by_jax, atol=2e-3)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0, 20), st.floats(0, 20), st.floats(4, 16), st.floats(4, 28), st.integers(0, 2**31)
)
def test_resizing_a_region_is_pillows_box(
    top: float, left: float, tall: float, wide: float, seed: int
) -> None:
    frame = pictures(1, 1)[0, 0]
    box = (left, top, left + wide, top + tall)
    expected = Image.fromarray(frame).resize((13, 12), Image.Resampling.BILINEAR, box=box)
    found = _region_12_13(frame[None], jnp.asarray([top, left, tall, wide]))
    assert difference(np.round(found[0]), np.asarray(expected)) <= 1


@jax.jit
def _region_12_13(frames: jax.Array, region: jax.Array) -> jax.Array:
    return resize_region(frames, tuple(region), (12, 13))


# Colours


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_colors_are_pillows(name: str, enhancer: type, factor: float) -> None:
    frame = pictures(1, 1)[0, 0]
    found = change_colors(jnp.float32(frame[None]), **{name: factor})
    found = np.round(np.clip(found[0], 0, 255))
    expected = np.asarray(enhancer(Image.fromarray(frame)).enhance(factor))
    assert difference(found, expected) <= 1  # Pillow's grey is an integer


def rotated(frame: np.ndarray, turn: float) -> np.ndarray:
    """Hue by the textbook: RGB -> YIQ, rotate (I, Q), back, in double precision."""
    yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.0] * 3])
    yiq[2] = 0.211456, -0.522591, 0.311135
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.solve(yiq, rotation @ yiq @ frame.reshape(-1, 3).T).T.reshape(frame.shape)


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.25, 0.5])
def test_hue_is_a_rotation_that_keeps_luma(turn: float) -> None:
    frame = pictures(1, 1)[0, 0].astype(np.float32)
    found = np.asarray(change_colors(frame[None], hue=turn)[0])
    np.testing.assert_allclose(found, rotated(frame, turn), atol=2e-3)
    np.testing.assert_allclose(found @ LUMA, frame @ LUMA, atol=1e-3)
    grey = np.full((1, 2, 2, 3), 93.0, np.float32)
    np.testing.assert_allclose(change_colors(grey, hue=turn, saturation=1.4), grey, atol=1e-3)


def test_colors_in_order() -> None:
    """Brightness, contrast, saturation, hue: the same as one after the other, without clipping."""
    frames = pictures(1, 2)[0].astype(np.float32)
    steps = {"brightness": 0.8, "contrast": 1.3, "saturation": 0.5, "hue": 0.1}
    one_by_one = frames
    for name, value in steps.items():
        one_by_one = change_colors(one_by_one, **{name: value})
    np.testing.assert_allclose(change_colors(frames, **steps), one_by_one, atol=1e-2)


# Places


def test_fixed_crop_and_masks_are_exact() -> None:
    images = pictures()
    config = ImageAugment(masks=((1, 2, 3, 4), (30, 40, 6, 8)), mask_value=77, crop=(0, 1, 36, 40))
    expected = images.copy()
    expected[:, :, 1:4, 2:6] = 77
    expected[:, :, 30:36, 40:48] = 77
    for rng in (None, KEY):
        found = augment_images(images, config, rng)
        np.testing.assert_array_equal(found, expected[:, :, :, 1:41])


def test_random_crop_is_a_window_and_reaches_all_places() -> None:
    row, column = np.mgrid[:6, :7].astype(np.uint8)
    one = np.stack([row, column, 0 * row], -1)
    images = np.broadcast_to(one, (600, 2, 6, 7, 3))
    config = ImageAugment(random_crop=(4, 4))
    found = np.asarray(augment_images(images, config, KEY))
    corners = found[:, :, 0, 0, :2]
    np.testing.assert_array_equal(corners[:, 0], corners[:, 1])  # frames share their draw
    for example, (top, left) in zip(found[:, 0], corners[:, 0], strict=True):
        np.testing.assert_array_equal(example, one[top : top + 4, left : left + 4])
    counts = np.unique(corners[:, 0], axis=0, return_counts=True)
    assert counts[0].tolist() == [[t, c] for t in range(3) for c in range(4)]
    assert counts[1].min() > 25  # 50 are expected at each of the 12 places
    centre = augment_images(images[:1], config)
    np.testing.assert_array_equal(centre[0, 0], one[1:5, 1:5])


def test_random_regions_have_the_asked_areas_and_shapes() -> None:
    """Regions are read back from a picture whose values are its coordinates."""
    row, column = np.mgrid[:200, :240].astype(np.uint8)
    images = np.broadcast_to(np.stack([row, column, 0 * row], -1), (200, 1, 200, 240, 3))
    config = ImageAugment(scale=(0.4, 0.8), ratio=(0.8, 1.25), size=(40, 40))
    found = np.asarray(augment_images(images, config, KEY))[:, 0].astype(float)
    tall = (found[:, -1, 0, 0] - found[:, 0, 0, 0]) * 40 / 39
    wide = (found[:, 0, -1, 1] - found[:, 0, 0, 1]) * 40 / 39
    area, shape = tall * wide / (200 * 240), wide / tall / (240 / 200)
    assert 0.38 < area.min() < 0.42
    assert 0.78 < area.max() < 0.82
    assert abs(area.mean() - 0.6) < 0.02
    assert 0.78 < shape.min() < 0.84
    assert 1.19 < shape.max() < 1.28
    # Every corner of the picture comes into view, nothing outside does.
    assert found[..., 0].min() < 4
    assert found[..., 0].max() > 194
    # In evaluation the region is the middle one.
    still = np.asarray(augment_images(images[:1], config))[0, 0].astype(float)
    side = np.sqrt(0.6)
    np.testing.assert_allclose(
        still[0, 0, :2], ((1 - side) * 100 + 2, (1 - side) * 120 + 2), atol=2
    )
    whole = augment_images(images[:1], dataclasses.replace(config, eval_scale=1.0))
    assert difference(whole[0, 0, 0, 0, 0], np.uint8(2)) <= 1


# Properties


def test_the_default_is_the_identity() -> None:
    images = pictures()
    for config in (ImageAugment(), ImageAugment(scale=(1.0, 1.0)), ImageAugment(size=(36, 48))):
        for rng in (None, KEY):
            np.testing.assert_array_equal(augment_images(images, config, rng), images)


def test_same_key_same_pictures_whatever_the_neighbours() -> None:
    images = pictures(4)
    found = np.asarray(augment_images(images, EVERYTHING, KEY))
    assert found.shape == (4, 2, 16, 20, 3)
    np.testing.assert_array_equal(found, augment_images(images, EVERYTHING, KEY))
    assert difference(found[:2], augment_images(images[:2], EVERYTHING, KEY)) <= 1
    other = augment_images(images, EVERYTHING, jax.random.key(4))
    assert all(difference(a, b) > 5 for a, b in zip(found, other, strict=True))


def test_frames_share_a_draw_unless_told_otherwise() -> None:
    images = np.repeat(pictures(4, 1), 2, axis=1)
    shared = np.asarray(augment_images(images, EVERYTHING, KEY))
    np.testing.assert_array_equal(shared[:, 1:], shared[:, :-1])
    assert difference(shared[0], shared[1]) > 5
    config = dataclasses.replace(EVERYTHING, per_frame=True)
    own = np.asarray(augment_images(images, config, KEY))
    assert all(difference(first, second) > 5 for first, second in own)


def test_evaluation_draws_nothing() -> None:
    images = pictures(4)
    still = augment_images(images, EVERYTHING)
    expected = ImageAugment(
        masks=EVERYTHING.masks,
        crop=EVERYTHING.crop,
        scale=(0.7, 0.7),  # the middle of (0.5, 0.9)
        size=EVERYTHING.size,
    )
    np.testing.assert_array_equal(still, augment_images(images, expected))
    assert "random" not in str(jax.make_jaxpr(lambda x: augment_images(x, EVERYTHING))(images))


def test_under_vmap() -> None:
    images, config = pictures(4), ImageAugment(scale=(0.5, 0.9), size=(8, 9))
    each = jax.vmap(lambda x: augment_images(x[None], config)[0])(images)
    np.testing.assert_array_equal(each, augment_images(images, config))


def collectives_and_difference(config: ImageAugment) -> tuple[list[str], int]:
    """On a mesh of all devices: what they exchange, and how far the result is from one device's."""
    images, rows = pictures(8), jax.sharding.PartitionSpec(("data", "fsdp"))
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "fsdp"))
    cut = jax.sharding.NamedSharding(mesh, rows)
    program = jax.jit(
        lambda x, key: augment_images(x, config, key), in_shardings=(cut, None), out_shardings=cut
    ).lower(images, KEY)
    compiled = program.compile()
    words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    exchanged = [word for word in words if word in compiled.as_text()]
    found = compiled(jax.device_put(images, cut), KEY)
    return exchanged, difference(found, augment_images(images, config, KEY))


@pytest.mark.slow
def test_devices_that_share_a_batch_exchange_nothing() -> None:
    code = (
        f"from {__name__} import *; print([collectives_and_difference(c) for c in "
        "(EVERYTHING, dataclasses.replace(EVERYTHING, per_frame=True), "
        "ImageAugment(random_crop=(20, 20)))])"
    )
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    exchanged, differences = zip(*ast.literal_eval(finished.stdout), strict=True)
    assert exchanged == ([], [], [])
    assert max(differences) <= 1  # another order of sums, rounded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": ((0, 0, 0, 1),)}, "masks"),
        ({"crop": (0, 0, 3)}, r"crop \(0, 0, 3\): give"),
        ({"size": (0, 3)}, r"size \(0, 3\): give \(height, width\)"),
        ({"scale": (0.5, 1.2)}, "within 0..1"),
        ({"scale": (0.5, 1.0), "random_crop": (3, 3)}, "choose one"),
        ({"ratio": (1.0, 1.0)}, "belong to scale"),
        ({"scale": (0.5, 1.0), "ratio": (0.0, 1.0)}, "ratio"),
        ({"hue": 0.6}, r"hue 0.6 must be within 0..0.5"),
        ({"brightness": -0.1}, "brightness"),
        ({"mask_value": 256}, "mask_value"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugment(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": ((0, 40, 3, 9),)}, r"masks \(0, 40, 3, 9\) is not within 36 x 48"),
        ({"crop": (0, 0, 37, 8)}, "crop .* is not within 36 x 48"),
        ({"crop": (0, 0, 20, 20), "random_crop": (21, 3)}, "random_crop .* exceeds 20 x 20"),
    ],
)
def test_regions_outside_the_picture_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment_images(pictures(), ImageAugment(**options))


def test_only_uint8_windows_of_pictures() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[B, W, H, W, 3\], found float32"):
        augment_images(pictures().astype(np.float32), ImageAugment())
    with pytest.raises(ValueError, match="expected uint8"):
        augment_images(pictures()[0], ImageAugment())
