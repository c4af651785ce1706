"""Pictures of the twin: the declared ones, of the twin as it stands, from a thread of their own."""

import time
from contextlib import closing

import numpy as np
import pytest

from arp_jax.specs import CameraSpec
from robot_bridge.cameras.synthetic_camera import SyntheticCamera
from robot_bridge.twin.twin_renderer import TwinRenderer
from robot_bridge.twin.twin_robot import TwinRobot

FRONT = CameraSpec("front", 48, 64)
TURNED = (0.8, 0.2, 0.3, 0.0, -1.5, 0.3)


@pytest.fixture(scope="module")
def twin():
    """A twin that stands still: its clock does."""
    twin = TwinRobot(real_time=False, now_ns=lambda: 0)
    twin.connect()
    with closing(twin):
        yield twin


@pytest.fixture(scope="module")
def pictures(twin):
    """Draws one camera's picture."""

    def draw(spec, positions=None, **options):
        with TwinRenderer(twin.model, [spec], **options) as renderer:
            return renderer.render(twin.positions() if positions is None else positions, spec)

    return draw


def test_pictures_show_the_arm_where_it_is(pictures, twin):
    image = pictures(FRONT)
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert image.std() > 20
    np.testing.assert_array_equal(image, pictures(FRONT))
    moved = twin.positions()
    moved[:6] = TURNED
    changed = (pictures(FRONT, moved) != image).any(-1)
    assert 0.02 < changed.mean() < 0.6


def test_color_order_crop_and_mask_are_as_declared(pictures):
    rgb = pictures(FRONT)
    np.testing.assert_array_equal(pictures(CameraSpec("front", 48, 64, "bgr")), rgb[..., ::-1])
    masked = pictures(CameraSpec("front", 48, 64, keep=((8, 4, 40, 30),)))
    np.testing.assert_array_equal(masked[4:30, 8:40], rgb[4:30, 8:40])
    assert masked.sum() == masked[4:30, 8:40].sum()
    whole = pictures(CameraSpec("front", 480, 640))
    part = pictures(CameraSpec("front", 100, 200, crop=(40, 60, 240, 160)))
    np.testing.assert_array_equal(part, whole[60:160, 40:240])


def test_a_camera_of_another_name_gets_a_view(pictures):
    named = CameraSpec("cam_high", 48, 64)
    np.testing.assert_array_equal(pictures(named, views={"cam_high": "front"}), pictures(FRONT))
    with pytest.raises(ValueError, match=r"'cam_high': the twin has no view 'cam_high', only"):
        pictures(named)


def test_the_camera_draws_in_its_thread(twin):
    clock = iter(range(1, 10**9))
    spec = CameraSpec("high", 48, 64)
    camera = SyntheticCamera(twin, spec, view="front", rate_hz=200, now_ns=lambda: next(clock))
    with closing(camera):
        first = newest = camera.latest()
        assert first is not None  # there is a picture from the start
        deadline = time.monotonic() + 30
        while newest is None or newest.time_ns < first.time_ns + 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
            newest = camera.latest()
        np.testing.assert_array_equal(newest.image, first.image)
        assert camera.name == "high"
    assert not camera._thread.is_alive()
    camera.close()


def test_a_view_that_is_not_there_is_an_error_at_once(twin):
    with pytest.raises(ValueError, match="no view 'roof'"):
        SyntheticCamera(twin, CameraSpec("roof", 48, 64))
