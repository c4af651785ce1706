"""Cameras through OpenCV: declared picture, age, and the way back after the source was lost."""

import sys
import time
from contextlib import closing

import cv2
import numpy as np
import pytest

from arp_jax.specs import CameraSpec
from robot_bridge.cameras.camera_devices import find_source, list_devices
from robot_bridge.cameras.camera_view import apply_view
from robot_bridge.cameras.capture import LONGEST_PAUSE_S, Capture, OpenCvCamera, pause_s

HEIGHT, WIDTH = 48, 64
SPEC = CameraSpec("top", HEIGHT, WIDTH)
PATIENCE_S = 30.0


def picture(number: int) -> np.ndarray:
    """BGR: blue tells the number, green grows to the right, red downwards."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 10 * number
    image[..., 1] = 4 * np.arange(WIDTH)
    image[..., 2] = 5 * np.arange(HEIGHT)[:, None]
    return image


def write_pictures(folder, count=4):
    """PNG files as a numbered sequence; the name that OpenCV opens them by."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / f"{number:03d}.png"), picture(number))
    return str(folder / "%03d.png")


def write_video(path, count=5, fps=20.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return str(path)


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.005)


def open_camera(source, spec=SPEC, **options):
    return closing(OpenCvCamera(spec, Capture(str(source), **options)))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_colors_are_in_the_declared_order(tmp_path, order):
    spec = CameraSpec("top", HEIGHT, WIDTH, order)
    with open_camera(write_pictures(tmp_path), spec, fps=200) as camera:
        wait_for(lambda: camera.health().frames == 4, "all four pictures")
        image = camera.latest().image
    expected = picture(3) if order == "bgr" else picture(3)[..., ::-1]
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous


def test_a_file_ends_with_its_last_picture_which_grows_old(tmp_path):
    with open_camera(write_pictures(tmp_path), fps=200) as camera:
        wait_for(lambda: camera.health().frames == 4 and not camera.health().connected, "the end")
        age = camera.age_s()
        time.sleep(0.05)
        assert camera.age_s() >= age + 0.05
        assert camera.health().opened == 1


def test_a_video_plays_at_its_own_rate_and_again(tmp_path):
    source, began = write_video(tmp_path / "a.avi"), time.monotonic()
    with open_camera(source, loop=True) as camera:
        wait_for(lambda: camera.health().frames >= 11, "the third round")
        health = camera.health()
        assert health.connected
        assert health.opened >= 3
        # A loaded machine makes it slower, nothing may make it faster.
        assert health.frames <= 20.0 * (time.monotonic() - began) + 1
        assert health.fps > 0
        assert camera.latest().image.shape == (HEIGHT, WIDTH, 3)


def test_times_rise_and_are_of_the_given_clock(tmp_path):
    clock = iter(range(1000, 100_000, 1000))
    source = write_pictures(tmp_path)
    capture = Capture(source, fps=200)
    with closing(OpenCvCamera(SPEC, capture, now_ns=lambda: next(clock))) as camera:
        wait_for(lambda: camera.health().frames == 4, "all four pictures")
        frame = camera.latest()
        assert frame is not None
        assert frame.time_ns == 4000


def test_a_source_that_appears_later_is_found(tmp_path):
    folder = tmp_path / "later"
    folder.mkdir()
    with open_camera(folder / "%03d.png", fps=200) as camera:
        wait_for(lambda: camera.health().last_error, "the first failure")
        assert "cannot be opened" in camera.health().last_error
        assert camera.latest() is None
        assert camera.age_s() is None
        write_pictures(folder)
        wait_for(lambda: camera.latest() is not None, "a picture")
        assert camera.health().last_error == ""


def test_a_lost_source_is_opened_again(tmp_path):
    """The folder vanishes while it plays round and round, and comes back."""
    folder = tmp_path / "frames"
    with open_camera(write_pictures(folder), fps=200, loop=True) as camera:
        wait_for(lambda: camera.health().frames >= 4, "the first round")
        folder.rename(tmp_path / "gone")
        wait_for(lambda: not camera.health().connected, "the loss")
        last = camera.latest()
        (tmp_path / "gone").rename(folder)
        wait_for(lambda: camera.latest() is not last, "a new picture")
        newest = camera.latest()
        assert newest is not None
        assert last is not None
        assert newest.time_ns > last.time_ns
        assert camera.health().connected


def test_a_view_that_does_not_fit_is_said_and_no_picture_is_given(tmp_path):
    spec = CameraSpec("top", 50, 50)
    with open_camera(write_pictures(tmp_path), spec) as camera:
        wait_for(lambda: camera.health().last_error, "the refusal")
        assert "64 x 48 captured does not scale to 50 x 50" in camera.health().last_error
        assert camera.latest() is None


def test_another_size_than_asked_for_is_refused(tmp_path):
    with open_camera(write_pictures(tmp_path), width=640, height=480) as camera:
        wait_for(lambda: camera.health().last_error, "the refusal")
        assert "delivers 64 x 48, not the 640 x 480" in camera.health().last_error


def test_closing_twice_and_while_the_source_is_missing(tmp_path):
    with open_camera(tmp_path / "none.avi") as camera:
        camera.close()
    assert not camera._thread.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="names of devices are Linux'")
def test_a_device_that_is_not_there_is_named():
    with open_camera("77") as camera:
        wait_for(lambda: camera.health().last_error, "the failure")
        assert camera.health().last_error == "77: there is no /dev/video77; is it plugged in?"


def test_pauses_grow_to_a_limit():
    pauses = [pause_s(failures) for failures in (1, 2, 3, 50, 5000)]
    assert pauses == [0.1, 0.2, 0.4, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_crop_scale_and_mask():
    spec = CameraSpec("top", 20, 30, crop=(2, 4, 62, 44), keep=((3, 5, 10, 12), (20, 0, 30, 2)))
    image = apply_view(picture(3), spec)
    whole = apply_view(picture(3), CameraSpec("top", 20, 30, crop=(2, 4, 62, 44)))
    averages = picture(3)[4:44, 2:62].reshape(20, 2, 30, 2, 3).mean((1, 3))
    np.testing.assert_allclose(whole, averages, atol=0.5)
    inside = np.zeros((20, 30), bool)
    inside[5:12, 3:10] = inside[0:2, 20:30] = True
    np.testing.assert_array_equal(image[inside], whole[inside])
    assert not image[~inside].any()


def test_an_untouched_picture_is_not_copied():
    image = picture(1)
    assert apply_view(image, SPEC) is image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "no color picture"),
        (np.zeros((4, 4, 3), np.float32), "no color picture"),
        (np.zeros((40, 60, 3), np.uint8), r"crop \(2, 4, 62, 44\) leaves the 60 x 40 captured"),
    ],
)
def test_pictures_that_do_not_fit_are_named(image, message):
    with pytest.raises(ValueError, match=f"camera 'top': .*{message}"):
        apply_view(image, CameraSpec("top", 20, 30, crop=(2, 4, 62, 44)))


@pytest.fixture
def devices(tmp_path):
    """The kernel's list: one webcam with two devices, two equal ones with one each."""
    rows = {0: ("HD Pro Webcam C920", "a"), 1: ("HD Pro Webcam C920", "a")}
    rows |= {2: ("Arducam", "b"), 10: ("Arducam", "c")}
    for number, (name, hardware) in rows.items():
        folder = tmp_path / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(name + "\n")
        (tmp_path / hardware).mkdir(exist_ok=True)
        (folder / "device").symlink_to(tmp_path / hardware)
    return tmp_path


def test_sources(devices, tmp_path):
    assert list(list_devices(devices)) == [0, 1, 2, 10]
    assert find_source("3") == 3
    assert find_source("c920", devices) == 0
    assert find_source("rtsp://camera/1") == "rtsp://camera/1"
    assert find_source("frames/%03d.png") == "frames/%03d.png"
    video = tmp_path / "a.avi"
    video.touch()
    assert find_source(str(video)) == str(video)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("Arducam", "ambiguous, use a path in /dev/v4l/by-id"),
        ("Brio", r"not connected; there are: 'HD Pro Webcam C920' \(/dev/video0\)"),
        ("/dev/video77", "no such file or device"),
        ("absent.mp4", "no such file or device"),
    ],
)
def test_sources_that_are_not_there(devices, source, message):
    with pytest.raises(ValueError, match=message):
        find_source(source, devices)
