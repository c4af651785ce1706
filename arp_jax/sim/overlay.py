"""Drawings over pictures: planned paths, points and captions.

In: a uint8 RGB picture [h, w, 3] and pixel positions as `cameras.project` gives them, or world
points and a `Camera`. Out: a new picture of the same size; drawn with pillow, on the host. What is
planned is the caller's business.
"""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from arp_jax.sim.cameras import Camera, project

Color = tuple[int, int, int]

PATH_START: Color = (255, 220, 60)
PATH_END: Color = (200, 40, 160)
LEFT: Color = (60, 180, 255)
RIGHT: Color = (255, 120, 60)


def draw_path(
    image: np.ndarray,
    pixels: ArrayLike,
    visible: ArrayLike | None = None,
    colors: tuple[Color, Color] = (PATH_START, PATH_END),
    width: int = 2,
) -> np.ndarray:
    """A polyline whose color fades from its first point's to its last one's.

    Args:
        image: uint8 [h, w, 3].
        pixels: [N, 2], (u, v).
        visible: bool [N]; a segment with an invisible or non-finite end is left out.
        colors: of the start and the end.
        width: of the line, pixels.
    """
    pixels = np.asarray(pixels, np.float64)
    shown = _finite(pixels, visible)
    canvas, pen = _canvas(image)
    for k in range(len(pixels) - 1):
        if shown[k] and shown[k + 1]:
            share = k / max(len(pixels) - 2, 1)
            pen.line([*pixels[k], *pixels[k + 1]], fill=_mixed(*colors, share), width=width)
    return np.asarray(canvas)


def draw_dots(
    image: np.ndarray,
    pixels: ArrayLike,
    colors: Sequence[Color],
    visible: ArrayLike | None = None,
    radius: float = 3.0,
) -> np.ndarray:
    """Discs with a dark rim at pixels [N, 2], one color each: grippers and waypoints.

    Raises:
        ValueError: the numbers of points and colors differ.
    """
    pixels = np.asarray(pixels, np.float64)
    if len(pixels) != len(colors):
        raise ValueError(
            f"draw_dots: {len(pixels)} points need as many colors, found {len(colors)}"
        )
    canvas, pen = _canvas(image)
    for (u, v), color, shown in zip(pixels, colors, _finite(pixels, visible), strict=True):
        if shown:
            box = [u - radius, v - radius, u + radius, v + radius]
            pen.ellipse(box, fill=color, outline=(20, 20, 20))
    return np.asarray(canvas)


def draw_caption(image: np.ndarray, text: str) -> np.ndarray:
    """A line of text on a dark strip along the upper edge; text too long for it is cut."""
    canvas, pen = _canvas(image)
    size = max(10, canvas.height // 20)
    font = ImageFont.load_default(size)
    while text and pen.textlength(text, font=font) > canvas.width - 8:
        text = text[:-1]
    pen.rectangle([0, 0, canvas.width, size + 6], fill=(20, 20, 20))
    pen.text((4, 2), text, fill=(255, 255, 255), font=font)
    return np.asarray(canvas)


def draw_plan(
    image: np.ndarray,
    camera: Camera,
    points: ArrayLike,
    colors: tuple[Color, Color] = (PATH_START, PATH_END),
    dots: bool = False,
) -> np.ndarray:
    """Planned world points [N, 3] in metres (a chunk's tool positions, way-points) as a path.

    Args:
        image: uint8 [h, w, 3], seen by `camera`.
        dots: whether to mark each point, too.

    Raises:
        ValueError: the picture is not of the camera's size.
    """
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"draw_plan: a picture of {image.shape[:2]} does not belong to a camera of "
            f"{(camera.height, camera.width)}"
        )
    pixels, depth = (np.asarray(value) for value in project(points, camera))
    image = draw_path(image, pixels, depth > 0, colors)
    if not dots:
        return image
    steps = np.linspace(0.0, 1.0, len(pixels))
    return draw_dots(image, pixels, [_mixed(*colors, s) for s in steps], depth > 0)


def _canvas(image: np.ndarray) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 picture [h, w, 3], found {image.dtype} {image.shape}")
    canvas = Image.fromarray(image)
    return canvas, ImageDraw.Draw(canvas)


def _finite(pixels: np.ndarray, visible: ArrayLike | None) -> np.ndarray:
    finite = np.isfinite(pixels).all(-1)
    return finite if visible is None else finite & np.asarray(visible, bool)


def _mixed(first: Color, second: Color, share: float) -> Color:
    r, g, b = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return r, g, b
