"""Push-T pictures in pure JAX: the 96x96 view that gym-pusht draws with pygame and OpenCV.

Agent position and block pose flow in, uint8 RGB flows out. The reference draws 512x512 and shrinks
with cv2's INTER_LINEAR, which reads 2x2 source pixels per output pixel and nothing else; so only
those source pixels are coloured here. Boxes and disc are exact shapes, which agree with
pygame's integer polygons up to their edges (mean error about 0.2 grey levels).
Not a renderer for other tasks.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.push_t import geometry

IMAGE_SIZE = 96
OUTLINE_HALF_WIDTH = 2.0  # px, drawn around each box
# pygame fills a disc of integer radius r out to about r + 0.3 px.
DISC_MARGIN = 0.3
INNER_DISC_RADIUS = geometry.AGENT_RADIUS - 4.0

WHITE = (255, 255, 255)
LIGHT_GREEN = (144, 238, 144)
LIGHT_GRAY = (211, 211, 211)
ROYAL_BLUE = (65, 105, 225)
LIGHT_SLATE_GRAY = (119, 136, 153)


def _lighter(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """pymunk's debug colour for fills: 1.2 times brighter, saturating."""
    red, green, blue = (int(min(1.2 * channel, 255)) for channel in color)
    return red, green, blue


def _packed(color: tuple[int, int, int]) -> int:
    """A colour as one integer, so that painting moves one array and not three."""
    return color[0] + 256 * color[1] + 65536 * color[2]


def _taps() -> tuple[np.ndarray, np.ndarray]:
    """Source coordinates that INTER_LINEAR reads along an axis and their weights, [2, 96] each."""
    scale = geometry.WORLD_SIZE / IMAGE_SIZE
    center = (np.arange(IMAGE_SIZE) + 0.5) * scale - 0.5
    first = np.floor(center)
    share = center - first
    positions, weights = np.stack([first, first + 1]), np.stack([1 - share, share])
    return positions.astype(np.float32), weights.astype(np.float32)


def _inside_box(local_x: np.ndarray, local_y: np.ndarray, box: Any, margin: float) -> np.ndarray:
    """Whether body-frame points lie within `margin` (max norm) of a box."""
    (x0, y0), (x1, y1) = box
    return (
        (local_x >= x0 - margin)
        & (local_x <= x1 + margin)
        & (local_y >= y0 - margin)
        & (local_y <= y1 + margin)
    )


def _static_layers(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Packed background with the goal, and the mask of the walls, at columns x rows: [96, 96]."""
    x, y = columns[None, :].astype(np.float64), rows[:, None].astype(np.float64)
    goal_x, goal_y, angle = geometry.GOAL_POSE
    cos, sin = np.cos(angle), np.sin(angle)
    local_x = cos * (x - goal_x) + sin * (y - goal_y)
    local_y = -sin * (x - goal_x) + cos * (y - goal_y)
    background = np.full(local_x.shape, _packed(WHITE), np.int32)
    for box in geometry.BOXES:
        # pygame's polygon includes the pixels that its edges touch.
        background[_inside_box(local_x, local_y, box, 0.5)] = _packed(LIGHT_GREEN)
    low, high, radius = geometry.WALL_LOW, geometry.WALL_HIGH, geometry.WALL_RADIUS
    spans = (x >= low - radius) & (x <= high + radius) & (y >= low - radius) & (y <= high + radius)
    within = (x > low + radius) & (x < high - radius) & (y > low + radius) & (y < high - radius)
    return background, spans & ~within


_POSITIONS, _WEIGHTS = _taps()


def render(agent: ArrayLike, block: ArrayLike) -> Array:
    """Draws the scene.

    Each of the 2x2 source pixels behind an output pixel is painted as a [96, 96] picture of its
    own: one fused loop over contiguous memory, where a [192, 192] canvas would be read in strides.

    Args:
        agent: [..., 2] px.
        block: [..., 3] body-origin pose, px, px, rad.

    Returns:
        uint8 [..., 96, 96, 3] RGB.
    """
    agent, block = jnp.asarray(agent, jnp.float32), jnp.asarray(block, jnp.float32)
    channels = [jnp.float32(0.0)] * 3
    for tap_y, tap_x in np.ndindex(2, 2):
        colors = _paint(agent, block, _POSITIONS[tap_x], _POSITIONS[tap_y])  # [..., 96, 96]
        weight = _WEIGHTS[tap_y][:, None] * _WEIGHTS[tap_x]  # [96, 96]
        channels = [
            total + weight * ((colors >> shift) & 255).astype(jnp.float32)
            for total, shift in zip(channels, (0, 8, 16), strict=True)
        ]
    return jnp.round(jnp.stack(channels, -1)).astype(jnp.uint8)


def _paint(agent: Array, block: Array, columns: np.ndarray, rows: np.ndarray) -> Array:
    """Packed colours [..., 96, 96] of the source pixels columns x rows."""
    background, walls = _static_layers(columns, rows)
    canvas = _paint_disc(jnp.asarray(background), agent, columns, rows)
    canvas = _paint_block(canvas, block, columns, rows)
    return jnp.where(jnp.asarray(walls), _packed(LIGHT_GRAY), canvas)


def _grid(columns: Any, rows: Any) -> Array:
    """Sum of a function of x [..., 96] and one of y [..., 96] at every sample.

    Distances and rotations split like this, which leaves one addition a sample instead of four
    operations: drawing is bound by them.
    """
    return columns[..., None, :] + rows[..., :, None]


def _paint_disc(canvas: Array, agent: Array, columns: np.ndarray, rows: np.ndarray) -> Array:
    """Paints the agent: a dark disc with a lighter one inside."""
    # The reference rounds the disc's centre to whole pixels.
    center = jnp.round(agent)
    distance2 = _grid((columns - center[..., :1]) ** 2, (rows - center[..., 1:]) ** 2)
    for radius, color in (
        (geometry.AGENT_RADIUS, ROYAL_BLUE),
        (INNER_DISC_RADIUS, _lighter(ROYAL_BLUE)),
    ):
        canvas = jnp.where(distance2 < (radius + DISC_MARGIN) ** 2, _packed(color), canvas)
    return canvas


def _paint_block(canvas: Array, block: Array, columns: np.ndarray, rows: np.ndarray) -> Array:
    """Paints each box: outline, then the lighter inside, the bar before the stem."""
    cos, sin = jnp.cos(block[..., 2:]), jnp.sin(block[..., 2:])  # [..., 1]
    dx, dy = columns - block[..., :1], rows - block[..., 1:2]  # [..., 96]
    local_x, local_y = _grid(cos * dx, sin * dy), _grid(-sin * dx, cos * dy)
    for (x0, y0), (x1, y1) in geometry.BOXES:
        # How far outside the box a sample lies (max norm); negative inside.
        outside = jnp.maximum(
            jnp.abs(local_x - (x0 + x1) / 2) - (x1 - x0) / 2,
            jnp.abs(local_y - (y0 + y1) / 2) - (y1 - y0) / 2,
        )
        for margin, color in (
            (OUTLINE_HALF_WIDTH, LIGHT_SLATE_GRAY),
            (-OUTLINE_HALF_WIDTH, _lighter(LIGHT_SLATE_GRAY)),
        ):
            canvas = jnp.where(outside <= margin, _packed(color), canvas)
    return canvas
