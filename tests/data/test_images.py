"""Decoding is Pillow's to the bit, into memory that is given, and says what is no picture."""

import io

import numpy as np
import pytest
from PIL import Image

from arp_jax.data.images import decode_image, encode_image, image_size, resize_image


def picture(height=48, width=64, seed=0):
    """A smooth texture with sharp, colorful edges: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    pixels[10:20, 15:30] = (255, 0, 30)
    return pixels


def saved(image, image_format="jpeg", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    "data",
    [
        *(
            pytest.param(
                saved(Image.fromarray(picture(47, 61)), quality=q, subsampling=s), id=f"{q}-{s}"
            )
            for q, s in [(50, "4:2:0"), (75, "4:2:2"), (95, "4:4:4"), (100, "4:2:0")]
        ),
        pytest.param(saved(Image.fromarray(picture()), progressive=True), id="progressive"),
        pytest.param(saved(Image.fromarray(picture()).convert("L")), id="gray jpeg"),
        pytest.param(saved(Image.fromarray(picture()).convert("CMYK")), id="cmyk jpeg"),
        pytest.param(saved(Image.fromarray(picture()), "png"), id="png"),
        pytest.param(saved(Image.fromarray(picture()).convert("P"), "png"), id="palette png"),
    ],
)
def test_decodes_to_the_bit_as_pillow(data):
    expected = by_pillow(data)
    np.testing.assert_array_equal(decode_image(data), expected)
    frames = np.zeros((3, *expected.shape), np.uint8)
    decode_image(memoryview(data), frames[1])
    np.testing.assert_array_equal(frames[1], expected)
    assert not frames[[0, 2]].any()
    assert image_size(data) == expected.shape[:2]


def test_an_orientation_flag_turns_nothing():
    # Cameras on robots are mounted as they are; other readers of the dataset do not turn either.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture()), exif=exif)
    assert decode_image(data).shape == (48, 64, 3)


@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_broken_pictures_are_refused(image_format):
    data = encode_image(picture(), image_format)
    for broken in (data[: len(data) // 2], b"", b"not a picture", data[:3]):
        with pytest.raises(ValueError, match="image cannot be decoded"):
            decode_image(broken)
    with pytest.raises(ValueError, match="image is 64x48 pixels, expected 32x32"):
        decode_image(data, np.zeros((32, 32, 3), np.uint8))


def test_resizing_keeps_a_picture_of_that_size():
    pixels = picture()
    assert resize_image(pixels, 48, 64) is pixels
    small = resize_image(pixels, 12, 16)
    assert small.shape == (12, 16, 3)
    assert abs(small.mean() - pixels.mean()) < 2
