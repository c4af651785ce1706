"""The fused cloud: points on the scene's surfaces, with their colors, cropped, of fixed size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.orthographic_views import render_views
from arp_jax.sim.cameras import camera_at
from arp_jax.sim.point_cloud import evenly_among, fuse_views
from arp_jax.sim.render import OffscreenRenderer
from tests.sim import primitive_scene

SIZE = 64
BOUNDS = (-0.4, -0.4, 0.05, 0.4, 0.4, 0.6)
POINTS = 2000

fuse = jax.jit(fuse_views, static_argnames=("bounds", "size", "origin"))
choose = jax.jit(evenly_among, static_argnames="size")


@pytest.fixture(scope="module")
def views():
    """Pictures by MuJoCo and the cameras that took them."""
    model, data = primitive_scene.load()
    pictures, cameras = {}, {}
    with OffscreenRenderer(model, SIZE, SIZE) as renderer:
        for name in ("front", "side"):
            rgb, depth = renderer.render(data.qpos, name, depth=True)
            pictures |= {name: rgb, f"{name}_depth": depth}
            cameras[name] = camera_at(
                model, primitive_scene.readings(data), name, height=SIZE, width=SIZE
            )
    return pictures, cameras


def test_points_of_the_ball_lie_on_the_ball(views):
    cloud, present = fuse(*views, BOUNDS, POINTS)
    assert cloud.shape == (POINTS, 6)
    cloud = np.asarray(cloud)[np.asarray(present)]
    red, green, blue = cloud[:, 3:].T
    ball = (green > 0.3) & (red < 0.25) & (blue < 0.25) & (cloud[:, 0] > 0)
    distance = np.linalg.norm(cloud[ball, :3] - [0.2, 0.3, 0.2], axis=-1)
    assert ball.sum() > 50
    # MuJoCo's ball is a polyhedron inside the sphere; edge pixels mix colors.
    assert np.median(np.abs(distance - 0.1)) < 1e-3
    assert np.quantile(np.abs(distance - 0.1), 0.9) < 5e-3


def test_only_the_workspace_is_kept_and_absent_points_are_nan(views):
    cloud, present = fuse(*views, BOUNDS, 2 * SIZE * SIZE)
    cloud, present = np.asarray(cloud), np.asarray(present)
    assert 0 < present.sum() < len(present)
    points = cloud[present, :3]
    assert (points >= np.array(BOUNDS[:3]) - 1e-6).all()
    assert (points <= np.array(BOUNDS[3:]) + 1e-6).all()
    assert np.isnan(cloud[~present, :3]).all()
    assert (cloud[~present, 3:] == 0).all()
    assert (cloud[:, 3:] >= 0).all()
    assert (cloud[:, 3:] <= 1).all()


def test_origin_moves_the_cloud_into_the_workspaces_frame(views):
    everything = (-5, -5, 0.05, 5, 5, 5)
    cloud, present = fuse(*views, everything, 500)
    moved, _ = fuse(*views, (-6, -5, 0.05, 4, 5, 5), 500, origin=(1.0, 0.0, 0.0))
    assert present.all()
    np.testing.assert_allclose(moved[:, 0], cloud[:, 0] - 1.0, atol=1e-5)


def test_orthographic_views_take_the_cloud(views):
    cloud, present = fuse(*views, BOUNDS, POINTS)
    center, scale = jnp.array([0.0, 0.0, 0.325]), 2 / 0.8
    seen = jax.jit(render_views, static_argnums=3)(
        (cloud[:, :3] - center) * scale, cloud[:, 3:], present, 32
    )
    assert np.isfinite(seen).all()
    covered = np.asarray(seen[..., 3:6].max(-1) > 0).sum((1, 2))
    assert (covered > 30).all()


def test_a_missing_or_wrong_picture_is_named(views):
    pictures, cameras = views
    with pytest.raises(ValueError, match=r"pictures\['side_depth'\]: expected .* found nothing"):
        fuse({k: v for k, v in pictures.items() if k != "side_depth"}, cameras, BOUNDS, 10)
    with pytest.raises(ValueError, match=r"pictures\['front'\]: expected shape"):
        fuse({**pictures, "front": pictures["front"][:5]}, cameras, BOUNDS, 10)
    with pytest.raises(ValueError, match="three minima below three maxima"):
        fuse(pictures, cameras, (0, 0, 0, 1, 1, -1), 10)


@pytest.mark.parametrize(("total", "wanted", "size"), [(50, 50, 10), (1000, 700, 64), (40, 5, 8)])
def test_selection_is_even_ordered_and_without_repeats(total, wanted, size):
    mask = np.zeros(total, bool)
    mask[np.random.default_rng(0).permutation(total)[:wanted]] = True
    index, present = (np.asarray(x) for x in choose(jnp.asarray(mask), size))
    kept = index[present]
    assert len(kept) == min(wanted, size)
    assert mask[kept].all()
    assert (np.diff(kept) > 0).all()
    if wanted > size:
        ranks = np.cumsum(mask)[kept]
        assert set(np.diff(ranks)) <= {wanted // size, wanted // size + 1}


def test_no_wanted_element_gives_none():
    _, present = choose(jnp.zeros(20, bool), 4)
    assert not present.any()
