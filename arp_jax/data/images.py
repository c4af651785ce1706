"""Camera images as bytes and as pixels.

In: PNG or JPEG bytes as datasets store them, or uint8 pixels [H, W, 3] (RGB). Out: the other, a
size, a resized picture. Video is `video.py`'s business, augmentation `augment.py`'s.

JPEG is decoded by libjpeg-turbo through simplejpeg: bit for bit what Pillow decodes by default
(accurate integer DCT, smooth chroma upsampling) in two thirds of the time, while other threads
run. The faster, inexact DCT would save a twentieth more and is not offered. Pillow does the rest.
"""

import io

import numpy as np
import simplejpeg
from PIL import Image

IMAGE_FORMATS = ("png", "jpeg")
# Artifacts of JPEG are below the noise of a camera at this quality, and files 5 times below PNG's.
JPEG_QUALITY = 95
# Pillow modes by number of channels, for 8-bit images.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BROKEN = (OSError, SyntaxError, Image.DecompressionBombError)
_JPEG_MAGIC = b"\xff\xd8\xff"
# Libraries mix the inks of CMYK differently; those are left to Pillow.
_PLAIN_COLORS = ("RGB", "YCbCr", "Gray")


def decode_image(data: bytes | memoryview, out: np.ndarray | None = None) -> np.ndarray:
    """RGB pixels uint8 [H, W, 3] of a PNG or JPEG.

    Args:
        data: the encoded picture.
        out: uint8 [H, W, 3] to decode into; None makes a new array.

    Raises:
        ValueError: the bytes are no picture, a truncated one, or one of another size than `out`.
    """
    pixels = _decode_jpeg(data, out)
    if pixels is None:
        pixels = _decode_by_pillow(data, "RGB")
        if out is not None:
            if pixels.shape != out.shape:
                (height, width), (h, w) = pixels.shape[:2], out.shape[:2]
                raise ValueError(f"image is {width}x{height} pixels, expected {w}x{h}")
            out[:] = pixels
    return pixels


def decode_pixels(data: bytes, channels: int, dtype: str) -> np.ndarray:
    """Pixels [H, W, channels] of a PNG or JPEG, in the forms that TFDS stores.

    Args:
        data: the encoded picture.
        channels: 1, 3 or 4; for uint8.
        dtype: "uint8"; "uint16" (one channel); "float32" (TFDS stores its bits as RGBA).

    Raises:
        ValueError: the bytes are no picture, or a truncated one.
    """
    if (channels, dtype) == (3, "uint8"):
        return decode_image(data)
    pixels = _decode_by_pillow(data, _MODES[channels] if dtype == "uint8" else None)
    if dtype == "float32":
        pixels = pixels.view(np.float32)
    return pixels.reshape(*pixels.shape[:2], -1).astype(dtype, copy=False)


def _decode_jpeg(data: bytes | memoryview, out: np.ndarray | None) -> np.ndarray | None:
    """Pixels of an ordinary JPEG (of `out`'s size); None leaves the matter to Pillow."""
    if bytes(data[:3]) != _JPEG_MAGIC:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in _PLAIN_COLORS or (out is not None and out.shape != (height, width, 3)):
            return None
        return simplejpeg.decode_jpeg(data, buffer=out)
    except ValueError:
        return None  # truncated, or with a flaw that Pillow puts up with


def _decode_by_pillow(data: bytes | memoryview, mode: str | None) -> np.ndarray:
    """Pixels [H, W] or [H, W, channels] in a Pillow mode; None takes the picture's own."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert(mode or image.mode))
    except _BROKEN as error:
        raise ValueError(f"image cannot be decoded ({type(error).__name__})") from error


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
