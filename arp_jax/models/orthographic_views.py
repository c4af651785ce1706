"""A coloured point cloud in the cube [-1, 1]^3 and its three orthographic views: there and back.

In: points and colours. Out: pictures of 10 channels seen from three faces of the cube (top, left,
front); and from one heat-map per view back to the likeliest point of the cube. Pure and jittable.
Where the cube lies in the world is the policy's business.

The pictures follow the hard z-buffer that the published RLBench models were trained on (RVT-2's
point renderer), read off its description, not run here: it needs CUDA.
"""

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.token_embeddings import sample_feature_grid

VIEWS = ("top", "left", "front")
CHANNELS = 10  # xyz, rgb, depth, place of the pixel (view, row, column)

# Per view, (axis, sign): right in the picture, up in the picture, and towards the camera.
_RIGHT = ((0, 1.0), (1, 1.0), (0, -1.0))
_UP = ((1, 1.0), (2, 1.0), (2, 1.0))
_TOWARDS = ((2, 1.0), (0, 1.0), (1, 1.0))
# Distance of the cameras from the centre. The third one stands inside the cube, as published.
_EYE = (1.0, 1.0, 0.5)
# A point covers the pixels whose centres are nearer than this, in cube units.
_SPLAT_RADIUS = 0.012
_DEPTH_STEPS = 1000.0  # depths are compared, and stored, in whole thousandths
_FAR = np.int32(2**30)
_BACKGROUND_DEPTH = -1.0


def _components(points: jax.Array, axes: tuple[tuple[int, float], ...]) -> jax.Array:
    """points [..., 3] -> [..., V], one signed coordinate per view."""
    return jnp.stack([sign * points[..., axis] for axis, sign in axes], axis=-1)


def _picture_place(points: jax.Array, size: int) -> jax.Array:
    """points [..., 3] -> continuous (column, row) [..., V, 2] in [0, size] within the cube."""
    half = size / 2
    return jnp.stack(
        [(1 + _components(points, _RIGHT)) * half, (1 - _components(points, _UP)) * half], axis=-1
    )


def project(points: jax.Array, size: int) -> jax.Array:
    """Pixel coordinates (x, y) [..., V, 2] of points [..., 3] in every view.

    Whole numbers are pixels. The published offset 1/size (not half a pixel) is kept: heat-map
    labels, and so trained weights, depend on it.
    """
    return _picture_place(points, size) - 1 / size


def render_views(points: jax.Array, colours: jax.Array, valid: jax.Array, size: int) -> jax.Array:
    """Pictures of one cloud, nearest point first.

    Args:
        points: [P, 3] in cube units; what lies beside the cube is not seen, what lies behind a
            camera is drawn at its very front (as published).
        colours: [P, 3], nominally in [0, 1].
        valid: [P] bool; False leaves a point out.
        size: height and width in pixels.

    Returns:
        [V, size, size, 10] float32: xyz divided by the cloud's largest |coordinate|, rgb, depth
        minus its mean over covered pixels, and the pixel's place in [-1, 1] (view, row, column).
        Where nothing is seen xyz and rgb are 0 and the depth is -1.
    """
    points = jnp.where(valid[:, None], points, 0.0)
    winner, steps = _nearest_points(points, valid, size)
    winner, steps = _splat(winner, steps, size)
    covered = steps < _FAR  # [V, S, S]
    largest = jnp.max(jnp.abs(points))
    scaled = points / jnp.where(valid.any(), largest, 1.0)
    features = jnp.concatenate([scaled, colours], axis=-1)  # [P, 6]
    seen = jnp.where(covered[..., None], features[jnp.where(covered, winner, 0)], 0.0)
    depth = jnp.where(covered, steps / _DEPTH_STEPS, 0.0)
    count = jnp.maximum(covered.sum((1, 2), keepdims=True), 1)
    depth = depth - depth.sum((1, 2), keepdims=True) / count
    depth = jnp.where(covered, depth, _BACKGROUND_DEPTH)
    return jnp.concatenate([seen, depth[..., None], pixel_places(size)], axis=-1)


def pixel_places(size: int) -> np.ndarray:
    """[V, size, size, 3] float32: view, row and column, each from -1 to 1."""
    view, line = np.linspace(-1, 1, len(VIEWS)), np.linspace(-1, 1, size)
    grid = np.meshgrid(view, line, line, indexing="ij")
    return np.stack(grid, axis=-1).astype(np.float32)


def _nearest_points(points: jax.Array, valid: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Index of the nearest point of each pixel and its depth in thousandths, [V, S, S] int32.

    Pixels without a point have depth ``_FAR``. Of equally near points the first one wins.
    """
    place = jnp.floor(_picture_place(points, size)).astype(jnp.int32)  # [P, V, 2]
    inside = ((place >= 0) & (place < size)).all(-1) & valid[:, None]  # [P, V]
    views = jnp.arange(len(VIEWS))
    pixel = (views * size + place[..., 1]) * size + place[..., 0]
    pixels = len(VIEWS) * size * size
    pixel = jnp.where(inside, pixel, pixels)  # beyond the end: dropped
    depth = np.asarray(_EYE, np.float32) - _components(points, _TOWARDS)  # [P, V]
    steps = jnp.maximum(depth * _DEPTH_STEPS, 0.0).astype(jnp.int32)
    nearest = jnp.full(pixels, _FAR).at[pixel].min(steps, mode="drop")
    is_nearest = inside & (steps == nearest[jnp.minimum(pixel, pixels - 1)])
    index = jnp.broadcast_to(jnp.arange(len(points), dtype=jnp.int32)[:, None], pixel.shape)
    target = jnp.where(is_nearest, pixel, pixels)
    winner = jnp.full(pixels, _FAR).at[target].min(index, mode="drop")
    shape = (len(VIEWS), size, size)
    return winner.reshape(shape), nearest.reshape(shape)


def _splat(winner: jax.Array, steps: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Let each point cover its neighbours: a pixel takes the nearest point around it.

    Among equally near ones the rightmost column, then the lowest row, wins; points at depth 0
    cover only their own pixel. Both are the published renderer's behaviour.
    """
    radius = _SPLAT_RADIUS * size / 2
    reach = int(np.ceil(radius))
    span = range(reach, -reach - 1, -1)
    offsets = [(dx, dy) for dx in span for dy in span if np.hypot(dx, dy) < radius]

    def shifted(picture: jax.Array, dx: int, dy: int) -> jax.Array:
        padded = jnp.pad(picture, [(0, 0), (reach, reach), (reach, reach)], constant_values=_FAR)
        return padded[:, reach + dy :, reach + dx :][:, :size, :size]

    near = jnp.stack([shifted(jnp.where(steps > 0, steps, _FAR), *o) for o in offsets])
    index = jnp.stack([shifted(winner, *o) for o in offsets])
    best = jnp.argmin(near, axis=0)[None]  # the first of equals
    near = jnp.take_along_axis(near, best, axis=0)[0]
    index = jnp.take_along_axis(index, best, axis=0)[0]
    at_front = steps == 0
    return jnp.where(at_front, winner, index), jnp.where(at_front, steps, near)


def most_likely_point(heatmaps: jax.Array) -> jax.Array:
    """The cube's grid point with the largest mean probability over its places in the views.

    Args:
        heatmaps: [B, V, S, S] probabilities.

    Returns:
        [B, 3]: of the S^3 points with coordinates -1 + (2 i + 1) / S, the best one. Maps are read
        by inverse-distance sampling; a point whose place lies beyond a map's last pixel gets 0
        there.
    """
    batch, views, size, _ = heatmaps.shape
    cells = (np.arange(size, dtype=np.float32) + 0.5) - 1 / size
    column, row = np.meshgrid(cells, cells)
    places = jnp.broadcast_to(jnp.stack([column, row], -1).reshape(-1, 2), (batch, size * size, 2))
    read = [
        sample_feature_grid(heatmaps[:, v, ..., None], places, (1, 1), "xy") for v in range(views)
    ]
    # [row, column] of each view as a table of the two coordinates that it depends on.
    top, left, front = (r.reshape(batch, size, size)[:, ::-1] for r in read)
    tables = (
        top.transpose(0, 2, 1),  # [x, y]
        left.transpose(0, 2, 1),  # [y, z]
        front[:, :, ::-1].transpose(0, 2, 1),  # [x, z]
    )
    index = jax.vmap(_argmax_of_sum)(*tables)  # [B, 3]
    return -1 + (2 * index.astype(jnp.float32) + 1) / size


def _argmax_of_sum(xy: jax.Array, yz: jax.Array, xz: jax.Array) -> jax.Array:
    """(x, y, z) that maximises xy[x, y] + yz[y, z] + xz[x, z]; the first one of equals.

    One slice of x at a time, so the S^3 scores are never held at once.
    """

    def best_of_slice(tables: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        over_y, over_z = tables
        scores = (over_y[:, None] + yz + over_z[None, :]).reshape(-1)
        place = jnp.argmax(scores)
        return scores[place], place

    best, place = jax.lax.map(best_of_slice, (xy, xz))
    x = jnp.argmax(best)
    size = xy.shape[0]
    return jnp.stack([x, place[x] // size, place[x] % size])
