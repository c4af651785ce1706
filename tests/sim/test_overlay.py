"""Drawings over pictures land where they should and nowhere else."""

import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim import overlay
from arp_jax.sim.cameras import Camera, intrinsics


@pytest.fixture
def blank():
    return np.zeros((60, 80, 3), np.uint8)


@pytest.fixture
def camera():
    return Camera(jnp.zeros(3), jnp.eye(3), intrinsics(60.0, 60, 80), height=60, width=80)


def test_path_fades_from_first_to_last_color(blank):
    drawn = overlay.draw_path(
        blank, [[5, 30], [40, 30], [75, 30]], colors=((250, 0, 0), (0, 0, 250)), width=2
    )
    np.testing.assert_array_equal(drawn[30, 20], [250, 0, 0])
    np.testing.assert_array_equal(drawn[30, 60], [0, 0, 250])
    assert drawn[:25].max() == 0
    assert blank.max() == 0  # the given picture is left as it was


def test_hidden_and_infinite_points_break_the_path(blank):
    pixels = [[5, 30], [20, 30], [40, 30], [60, 30], [np.nan, 0], [79, 30]]
    drawn = overlay.draw_path(blank, pixels, visible=[True, True, False, True, True, True])
    columns = np.flatnonzero(drawn.max((0, 2)))
    assert columns.min() >= 4
    assert columns.max() <= 21


def test_dots_have_their_colors(blank):
    drawn = overlay.draw_dots(blank, [[20, 20], [60, 40]], [overlay.LEFT, overlay.RIGHT])
    np.testing.assert_array_equal(drawn[20, 20], overlay.LEFT)
    np.testing.assert_array_equal(drawn[40, 60], overlay.RIGHT)
    with pytest.raises(ValueError, match="2 points need as many colors"):
        overlay.draw_dots(blank, [[20, 20], [60, 40]], [overlay.LEFT])


def test_plan_in_the_world_is_drawn_where_the_camera_sees_it(blank, camera):
    points = np.array([[0, 0, 1], [0.2, 0, 1], [0.2, 0, -1]])  # the last one is behind the camera
    drawn = overlay.draw_plan(blank, camera, points, dots=True)
    focal = 30 / np.tan(np.deg2rad(30))
    assert drawn[30, 41:49].max(-1).min() > 0
    assert drawn[30, int(40 + 0.2 * focal) + 6 :].max() == 0
    with pytest.raises(ValueError, match="does not belong to a camera"):
        overlay.draw_plan(blank[:40], camera, points)


def test_caption_stays_on_its_strip(blank):
    drawn = overlay.draw_caption(blank, "a sentence that is far too long for such a small picture")
    assert drawn[:16].max() > 200
    assert drawn[20:].max() == 0
    with pytest.raises(ValueError, match="expected a uint8 picture"):
        overlay.draw_caption(blank / 255.0, "text")
