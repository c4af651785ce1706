"""Views of a point cloud against a slow description of them, and the vote for a point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.orthographic_views import most_likely_point, pixel_places, project, render_views
from arp_jax.models.token_embeddings import sample_feature_grid

VIEWS = ("top", "left", "front")
POINTS = 300

render = jax.jit(render_views, static_argnums=3)
vote = jax.jit(most_likely_point)


def test_projection_by_hand():
    pixels = np.asarray(project(jnp.asarray([0.5, -0.25, 0.75]), 224)) + 1 / 224
    np.testing.assert_allclose(pixels, [[168, 140], [84, 28], [56, 28]], atol=1e-4)


def _place(view: str, point: np.ndarray, size: int) -> tuple[float, float, float]:
    """Column, row and depth of a point, view by view as the specification lists them."""
    x, y, z = point
    half = size / 2
    if view == "top":
        return (1 + x) * half, (1 - y) * half, 1 - z
    if view == "left":
        return (1 + y) * half, (1 - z) * half, 1 - x
    return (1 - x) * half, (1 - z) * half, 0.5 - y


def _slow_view(view, points, colours, valid, size):
    """One view, point by point and pixel by pixel: [size, size, 7]."""
    nearest = {}
    for i, point in enumerate(points):
        column, row, depth = _place(view, point, size)
        cell = int(np.floor(row)), int(np.floor(column))
        step = int(max(np.float32(depth) * np.float32(1000), 0))
        if valid[i] and min(cell) >= 0 and max(cell) < size:
            nearest[cell] = min(nearest.get(cell, (step, i)), (step, i))
    radius = 0.012 * size / 2
    seen = {}
    around = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if np.hypot(dx, dy) < radius]
    cells = {(row + dy, column + dx) for row, column in nearest for dx, dy in around}
    for row, column in {cell for cell in cells if min(cell) >= 0 and max(cell) < size}:
        best = nearest.get((row, column))
        if best is None or best[0] > 0:
            for dx, dy in around:  # later ones win among equally near
                other = nearest.get((row + dy, column + dx))
                if other and other[0] > 0 and (best is None or other[0] <= best[0]):
                    best = other
        seen[row, column] = best
    seen = {cell: best for cell, best in seen.items() if best is not None}
    largest = np.abs(points[valid]).max() if valid.any() else 1.0
    picture = np.zeros((size, size, 7))
    picture[..., 6] = -1
    mean = np.mean([step / 1000 for step, _ in seen.values()]) if seen else 0.0
    for cell, (step, i) in seen.items():
        picture[cell] = [*points[i] / largest, *colours[i], step / 1000 - mean]
    return picture


@pytest.mark.parametrize(
    ("size", "spread"),
    [(20, 1.0), (224, 1.0), (224, 3.0)],
    ids=["no splat", "splat", "zoomed: some behind a camera, some beside the cube"],
)
def test_rendering_equals_the_slow_description(size, spread):
    rng = np.random.RandomState(0)
    points = rng.uniform(-spread, spread, (POINTS, 3)).astype(np.float32)
    # Neighbours and equal depths, so that covering and its ties matter.
    points[150:] = points[:150] + rng.choice([0, 0.0095], (150, 3)).astype(np.float32)
    colours = rng.uniform(0, 1, (POINTS, 3)).astype(np.float32)
    valid = rng.uniform(size=POINTS) < 0.9
    found = np.asarray(render(points, colours, valid, size))
    assert found.shape == (3, size, size, 10)
    for i, view in enumerate(VIEWS):
        expected = _slow_view(view, points, colours, valid, size)
        np.testing.assert_allclose(found[i, ..., :7], expected, atol=2e-6, err_msg=view)
        assert expected[..., :3].any(-1).sum() > 20
    np.testing.assert_array_equal(found[..., 7:], pixel_places(size))


def test_no_point_at_all():
    nothing = np.zeros((POINTS, 3), np.float32)
    found = np.asarray(render(nothing, nothing, np.zeros(POINTS, bool), 20))
    np.testing.assert_array_equal(found[..., :6], 0.0)
    np.testing.assert_array_equal(found[..., 6], -1.0)


def test_points_that_are_not_numbers_are_left_out():
    points, colours = np.full((POINTS, 3), 0.3, np.float32), np.ones((POINTS, 3), np.float32)
    points[:, 0] = np.linspace(-0.5, 0.5, POINTS)
    valid = np.ones(POINTS, bool)
    expected = render(points, colours, valid, 20)
    for gap in (slice(0, 1), slice(5, 7)):
        broken, rest = points.copy(), valid.copy()
        broken[gap], rest[gap] = np.nan, False
        found = np.asarray(render(broken, colours, rest, 20))
        assert np.isfinite(found).all()
    # The neighbours of the last gap fill its pixel, so only the exact point differs there.
    np.testing.assert_array_equal(found[..., 3:6], expected[..., 3:6])


def test_pixel_places():
    places = pixel_places(5)
    np.testing.assert_array_equal(places[:, 0, 0, 0], [-1, 0, 1])
    np.testing.assert_array_equal(places[1, :, 2, 1], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(places[1, 2, :, 2], [-1, -0.5, 0, 0.5, 1])


def test_vote_equals_scoring_every_grid_point():
    size = 11
    heatmaps = jax.random.uniform(jax.random.key(size), (3, 3, size, size))
    line = -1 + (2 * np.arange(size) + 1) / size
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    places = project(jnp.asarray(grid, jnp.float32), size).transpose(1, 0, 2)  # [V, S^3, 2]
    read_maps = jax.jit(lambda maps, at: sample_feature_grid(maps, at, (1, 1), "xy"))
    for maps, found in zip(heatmaps, vote(heatmaps), strict=True):
        read = read_maps(maps[..., None], places)[..., 0]
        best = grid[int(read.mean(0).argmax())]
        np.testing.assert_allclose(found, best, atol=1e-6)


def test_vote_finds_the_point_that_the_views_point_at():
    size, point = 56, np.array([[0.3, -0.55, 0.12]])
    pixels = np.asarray(project(jnp.asarray(point), size))[0]  # [V, 2]
    column = np.arange(size) - pixels[:, :1]
    row = np.arange(size) - pixels[:, 1:]
    heatmaps = np.exp(-(column[:, None, :] ** 2 + row[:, :, None] ** 2) / 2)
    # Half a cell of the grid, plus the shift that inverse-distance reading may cause.
    found = vote(jnp.asarray(heatmaps[None], jnp.float32))
    np.testing.assert_allclose(found, point, atol=1.5 / size)
