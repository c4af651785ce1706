"""Random places keep their distance; layouts and colors name things."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.areas import Area
from arp_jax.sim.tabletop import palette
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.tabletop.placement import (
    distractor_factor,
    place_factors,
    scatter,
    scatter_poses,
)

AREA = Area((0.1, 0.4), (-0.3, 0.3))
SPACING = (0.12, 0.1)


def test_things_keep_their_spacing_and_stay_in_the_area():
    keys = jax.random.split(jax.random.key(0), 500)
    places = np.asarray(jax.vmap(lambda key: scatter(key, AREA, (2, 3), 4, SPACING))(keys))
    assert places.shape == (500, 4, 2)
    assert places[..., 0].min() >= 0.1 - 1e-6
    assert places[..., 0].max() <= 0.4 + 1e-6
    assert np.abs(places[..., 1]).max() <= 0.3 + 1e-6
    # The whole area is used, and the first thing may lie anywhere.
    np.testing.assert_allclose(np.ptp(places[:, 0, 0]), 0.3, atol=0.02)
    np.testing.assert_allclose(np.ptp(places[:, 0, 1]), 0.6, atol=0.02)
    for i in range(4):
        for j in range(i):
            apart = np.abs(places[:, i] - places[:, j]) >= np.array(SPACING) - 1e-6
            assert apart.any(-1).all()


def test_yaws_are_within_the_turn():
    poses = scatter_poses(jax.random.key(1), AREA, (2, 3), 6, (0.05, 0.05), 0.5)
    assert poses.shape == (6, 3)
    assert np.abs(poses[:, 2]).max() <= 0.5
    assert np.ptp(poses[:, 2]) > 0.1


@pytest.mark.parametrize(("count", "spacing"), [(7, (0.1, 0.1)), (2, (0.1, 0.9))])
def test_what_does_not_fit_is_refused(count, spacing):
    with pytest.raises(ValueError, match="do not fit"):
        scatter(jax.random.key(0), AREA, (2, 3), count, spacing)


def test_quadrants_are_named_from_the_robots_view():
    factor, _ = place_factors(AREA, lambda initial: initial[None])
    corners = {"near right": (0.1, -0.3), "far left": (0.4, 0.3), "near left": (0.1, 0.3)}
    for name, corner in corners.items():
        assert factor.values[int(factor.classify(jnp.array(corner)))] == name


def test_distractor_factor_looks_at_the_nearest_one():
    rows = jnp.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.13, 0.0]])
    factor = distractor_factor(lambda initial: initial, slice(1, None), near=0.14)
    assert factor.values[int(factor.classify(rows))] == "near"
    assert factor.values[int(factor.classify(rows.at[2, 1].set(0.15)))] == "far"


def test_layout_packs_and_unpacks():
    layout = Layout((("things", pose_names("a", "b")), ("colors", ("a", "b"))))
    initial = layout.pack(things=np.arange(6.0).reshape(2, 3), colors=np.array([7, 8]))
    assert layout.names[:4] == ("things_a_x", "things_a_y", "things_a_yaw", "things_b_x")
    np.testing.assert_array_equal(layout.poses(initial, "things"), [[0, 1, 2], [3, 4, 5]])
    # Numbers of domain randomisation may follow.
    longer = jnp.append(initial, 9.0)
    np.testing.assert_array_equal(layout.part(longer, "colors"), [7, 8])
    with pytest.raises(ValueError, match="things needs 6"):
        layout.pack(things=np.ones(1), colors=np.array([7, 8]))
    with pytest.raises(ValueError, match="no part 'size'"):
        layout.part(initial, "size")


def test_colors_of_one_draw_differ():
    keys = jax.random.split(jax.random.key(2), 200)
    drawn = np.asarray(jax.vmap(lambda key: palette.draw(key, 4))(keys))
    assert (np.diff(np.sort(drawn, -1), axis=-1) > 0).all()
    assert set(np.unique(drawn)) == set(range(len(palette.NAMES)))
    rgba = np.asarray(palette.rgba(jnp.arange(len(palette.NAMES))))
    distance = np.linalg.norm(rgba[:, None] - rgba[None], axis=-1) + np.eye(len(rgba))
    assert distance.min() > 0.3
