"""Camera images as bytes and as pixels.

In: PNG or JPEG bytes as datasets store them, or uint8 pixels [H, W, 3] (RGB). Out: the other, a
size, a resized picture. Video is `video.py`'s business, augmentation `augment.py`'s.
"""

import io

import numpy as np
from PIL import Image

IMAGE_FORMATS = ("png", "jpeg")
# Artifacts of JPEG are below the noise of a camera at this quality, and files 5 times below PNG's.
JPEG_QUALITY = 95
# Pillow modes by number of channels, for 8-bit images.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BROKEN = (OSError, SyntaxError, Image.DecompressionBombError)


def decode_image(data: bytes) -> np.ndarray:
    """RGB pixels uint8 [H, W, 3] of a PNG or JPEG.

    Raises:
        ValueError: the bytes are no picture, or a truncated one.
    """
    return decode_pixels(data, 3, "uint8")


def decode_pixels(data: bytes, channels: int, dtype: str) -> np.ndarray:
    """Pixels [H, W, channels] of a PNG or JPEG, in the forms that TFDS stores.

    Args:
        data: the encoded picture.
        channels: 1, 3 or 4; for uint8.
        dtype: "uint8"; "uint16" (one channel); "float32" (TFDS stores its bits as RGBA).

    Raises:
        ValueError: the bytes are no picture, or a truncated one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = _MODES[channels] if dtype == "uint8" else image.mode
            pixels = np.array(image.convert(mode))
    except _BROKEN as error:
        raise ValueError(f"image cannot be decoded ({type(error).__name__})") from error
    if dtype == "float32":
        pixels = pixels.view(np.float32)
    return pixels.reshape(*pixels.shape[:2], -1).astype(dtype, copy=False)


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of an encoded picture, read from its header.

    Raises:
        ValueError: the bytes are no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except _BROKEN as error:
        raise ValueError(f"image cannot be decoded ({type(error).__name__})") from error


def encode_image(pixels: np.ndarray, image_format: str, quality: int = JPEG_QUALITY) -> bytes:
    """An image uint8 [H, W, 3] (RGB) as PNG or JPEG; `quality` is JPEG's."""
    check_format(image_format)
    buffer = io.BytesIO()
    options = {"quality": quality} if image_format == "jpeg" else {}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def resize_image(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] (Lanczos, antialiased); the same size is returned."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def check_format(image_format: str) -> None:
    """Raises ValueError unless the format is one of `IMAGE_FORMATS`."""
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"image format {image_format!r} is unknown; choose one of {IMAGE_FORMATS}")
