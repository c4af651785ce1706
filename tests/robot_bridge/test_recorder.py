"""The recorder on real files: order, pictures, a disk that fails and comes back, nothing lost."""

import contextlib
import dataclasses
import resource
import threading
import time

import numpy as np
import pytest
import simplejpeg

from robot_bridge.log.episode_log import SUFFIX, read_log
from robot_bridge.log.recorder import Recorder
from robot_bridge.observations import Frame
from tests.robot_bridge.log_steps import HEADER, make_step

PATIENCE_S = 30.0


def frames_at(number):
    """The pictures of step `number`: even rows of the first one are red."""
    images = {"image": np.zeros((8, 12, 3), np.uint8), "wrist_image": np.zeros((6, 6, 3), np.uint8)}
    images["image"][:, :, 0] = 10 * (number % 25)
    # The wrist camera delivers every second step only.
    times = {"image": number, "wrist_image": number // 2}
    return {name: Frame(1 + times[name], images[name]) for name in images}


def steps(recorder, count, first=0):
    for number in range(first, first + count):
        step = dataclasses.replace(make_step(number), frames={}, frame_times_ns={})
        recorder.step(step, frames_at(number))


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(tmp_path / "logs", 10_000_000)
    yield made
    made.close()


def logs(recorder_folder):
    return [read_log(path) for path in sorted(recorder_folder.glob(f"*{SUFFIX}"))]


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.01)


def test_an_episode_is_written_as_it_happened(recorder, tmp_path):
    path = recorder.begin(HEADER)
    steps(recorder, 4)
    recorder.marker("intervention_begin", "grasp")
    steps(recorder, 2, first=4)
    recorder.marker("intervention_end")
    recorder.marker("success")
    recorder.end("it is done")
    assert recorder.flush(PATIENCE_S)
    log = read_log(path)
    assert (log.state, log.end, log.outcome) == ("6 steps, complete", "it is done", True)
    assert log.intervened.tolist() == [False] * 4 + [True] * 2
    for number, step in enumerate(log.steps):
        expected = make_step(number)
        np.testing.assert_array_equal(step.command, expected.command)
        np.testing.assert_array_equal(step.vectors["state"], expected.vectors["state"])
        assert step.frame_times_ns == {"image": 1 + number, "wrist_image": 1 + number // 2}
    assert recorder.status().episodes == 1
    assert recorder.status().queued_bytes == 0


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pictures_show_the_right_colors(recorder, order):
    cameras = tuple(
        dataclasses.replace(camera, color_order=order) for camera in HEADER.observation.cameras
    )
    observation = dataclasses.replace(HEADER.observation, cameras=cameras)
    path = recorder.begin(dataclasses.replace(HEADER, observation=observation))
    steps(recorder, 20)
    recorder.end("done")
    assert recorder.flush(PATIENCE_S)
    seen = simplejpeg.decode_jpeg(read_log(path).steps[19].frames["image"])  # always RGB
    red, blue = seen[..., 0].mean(), seen[..., 2].mean()
    assert abs((red if order == "rgb" else blue) - 190) < 6
    assert (blue if order == "rgb" else red) < 6


def test_episodes_of_the_same_second_have_files_of_their_own(recorder):
    paths = []
    for number in range(3):
        paths.append(recorder.begin(HEADER))
        steps(recorder, number + 1)
        recorder.end("done")
    assert recorder.flush(PATIENCE_S)
    assert [len(read_log(path).steps) for path in paths] == [1, 2, 3]


def test_closing_writes_everything_and_ends_the_episode(tmp_path):
    recorder = Recorder(tmp_path, 10_000_000)
    path = recorder.begin(HEADER)
    steps(recorder, 200)
    assert recorder.close() == 0
    log = read_log(path)
    assert len(log.steps) == 200
    assert log.end == "the bridge was closed"
    with pytest.raises(ValueError, match="no episode is running"):
        steps(recorder, 1)


def test_wrong_use_is_refused(recorder):
    with pytest.raises(ValueError, match="no episode is running"):
        steps(recorder, 1)
    recorder.marker("note", "outside of an episode nothing is marked")
    recorder.begin(HEADER)
    with pytest.raises(ValueError, match="end it first"):
        recorder.begin(HEADER)
    with pytest.raises(ValueError, match="'applause' is unknown"):
        recorder.marker("applause")


@contextlib.contextmanager
def full_disk(limit_bytes):
    """No file of this process may grow beyond `limit_bytes`: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_trouble_and_no_step_is_lost_when_it_ends(recorder):
    path = recorder.begin(HEADER)
    steps(recorder, 3)
    assert recorder.flush(PATIENCE_S)
    assert recorder.trouble() == ""
    with full_disk(path.stat().st_size + 100):
        steps(recorder, 20, first=3)
        wait_for(recorder.trouble)
        assert "the log cannot be written" in recorder.trouble()
        assert str(path) in recorder.trouble()
        state = recorder.status()
        assert state.steps == 23
        assert state.queued_bytes > 0
        assert len(read_log(path).steps) >= 3  # what is there stays readable
    assert recorder.flush(PATIENCE_S)
    assert recorder.trouble() == ""
    recorder.end("the disk came back")
    assert recorder.flush(PATIENCE_S)
    log = read_log(path)
    assert log.state == "23 steps, complete"
    for number, step in enumerate(log.steps):
        np.testing.assert_array_equal(step.command, make_step(number).command)


def test_a_queue_above_its_limit_is_trouble_until_it_is_written(tmp_path):
    recorder = Recorder(tmp_path, queue_bytes=20_000)
    try:
        path = recorder.begin(HEADER)
        assert recorder.flush(PATIENCE_S)
        with full_disk(path.stat().st_size + 1):
            steps(recorder, 50)
            wait_for(recorder.trouble)
            # Each step was taken over, trouble or not.
            assert recorder.status().steps == 50
            assert recorder.status().queued_bytes > 20_000
        wait_for(lambda: not recorder.trouble())
        recorder.end("done")
        assert recorder.flush(PATIENCE_S)
        assert len(read_log(path).steps) == 50
    finally:
        assert recorder.close() == 0


def test_a_flood_of_notes_is_bounded_and_steps_are_not_among_what_is_dropped(tmp_path):
    recorder = Recorder(tmp_path, queue_bytes=20_000)
    try:
        path = recorder.begin(HEADER)
        assert recorder.flush(PATIENCE_S)
        with full_disk(path.stat().st_size + 1):
            for _ in range(1000):
                recorder.marker("note", "x" * 1000)
            recorder.marker("success")
            steps(recorder, 3)
            assert recorder.status().queued_bytes < 60_000
        recorder.end("done")
        assert recorder.flush(PATIENCE_S)
        log = read_log(path)
        assert (len(log.steps), log.outcome) == (3, True)
        assert 10 < len(log.markers) < 100
    finally:
        assert recorder.close() == 0


def test_a_folder_that_vanished_is_trouble(tmp_path):
    folder = tmp_path / "stick"
    recorder = Recorder(folder, 10_000_000)
    try:
        folder.rmdir()
        recorder.begin(HEADER)
        steps(recorder, 2)
        wait_for(recorder.trouble)
        assert "No such file or directory" in recorder.trouble()
        folder.mkdir()
        wait_for(lambda: not recorder.trouble())
        recorder.end("done")
        assert recorder.flush(PATIENCE_S)
        assert [log.state for log in logs(folder)] == ["2 steps, complete"]
    finally:
        assert recorder.close() == 0


def test_a_step_that_cannot_be_written_is_counted_and_stays_trouble(recorder):
    path = recorder.begin(HEADER)
    steps(recorder, 1)
    wrong = dataclasses.replace(make_step(1), command=np.zeros(99, np.float32), frames={})
    recorder.step(wrong, frames_at(1))
    steps(recorder, 1, first=2)
    wait_for(lambda: recorder.status().lost_steps)
    assert "command has shape (99,)" in recorder.trouble()
    recorder.end("broken")
    assert recorder.flush(PATIENCE_S)
    assert recorder.trouble() == ""  # the next episode can be whole
    assert len(read_log(path).steps) == 2


def test_handing_over_does_not_wait_for_the_disk(recorder):
    """While the thread cannot write at all, 500 steps are taken over at once."""
    recorder.begin(HEADER)
    assert recorder.flush(PATIENCE_S)
    with full_disk(1):
        done = threading.Event()
        caller = threading.Thread(target=lambda: (steps(recorder, 500), done.set()))
        caller.start()
        assert done.wait(PATIENCE_S)
        caller.join()
        assert recorder.status().steps == 500
    assert recorder.flush(PATIENCE_S)
