"""Recordings as courses: logs and arrays give their commands back, another arm's are refused."""

import dataclasses

import numpy as np
import pytest

from robot_bridge.actions.replay import read_recording
from robot_bridge.log.episode_log import EpisodeLogWriter
from tests.robot_bridge.log_steps import ACTION, HEADER, make_step, write_log

# The toy arm's steps are drawn from -1 ... 1, the gripper too.
WIDE = dataclasses.replace(ACTION, low=(-3.0,) * 3)


def test_a_log_gives_its_commands_at_their_times(tmp_path):
    course = read_recording(write_log(tmp_path / "a.arplog"), WIDE)
    steps = [make_step(number) for number in range(6)]
    np.testing.assert_array_equal(course.actions, np.stack([s.command for s in steps]))
    times = [s.command_time_ns - steps[0].command_time_ns for s in steps]
    assert course.times_ns.tolist() == times


def test_steps_without_a_command_are_left_out(tmp_path):
    path = tmp_path / "held.arplog"
    with EpisodeLogWriter(path, HEADER) as log:
        for number in range(5):
            sent = 0 if number in (1, 2) else number * 100 + 7
            log.step(dataclasses.replace(make_step(number), command_time_ns=sent))
    assert read_recording(path, WIDE).times_ns.tolist() == [0, 300, 400]


def test_an_empty_log_is_refused(tmp_path):
    path = tmp_path / "empty.arplog"
    EpisodeLogWriter(path, HEADER).close()
    with pytest.raises(ValueError, match=r"empty.arplog: no commands to replay \(0 steps"):
        read_recording(path, ACTION)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "deg"}, r"action.unit, disagree .* expected 'deg', found 'rad'"),
        ({"dims": ("a", "j2", "gripper")}, r"action.dims, disagree on tuple\[0\]: expected 'a'"),
        ({"gripper": "open=0"}, "action.gripper"),
        ({"high": (3.0, 0.1, 1.0)}, r"j2 .* is outside"),
    ],
)
def test_recordings_of_another_arm_are_refused(tmp_path, change, message):
    spec = dataclasses.replace(ACTION, **change)
    path = write_log(tmp_path / "a.arplog", count=20)
    with pytest.raises(ValueError, match=message):
        read_recording(path, spec)


def test_a_recording_may_have_another_rate(tmp_path):
    spec = dataclasses.replace(WIDE, rate_hz=20.0)
    assert len(read_recording(write_log(tmp_path / "a.arplog"), spec).actions) == 6


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays_need_no_log(tmp_path):
    actions = np.linspace(0, 1, 15).reshape(5, 3)
    by_rate = read_recording(save(tmp_path / "r.npz", action=actions, rate_hz=10), ACTION)
    by_time = read_recording(
        save(tmp_path / "t.npz", action=actions, time_s=7 + 0.1 * np.arange(5)), ACTION
    )
    for course in (by_rate, by_time):
        assert course.times_ns.tolist() == [i * 100_000_000 for i in range(5)]
        np.testing.assert_allclose(course.actions, actions, atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"action": np.zeros((3, 3))}, "needs 'action'"),
        ({"action": np.zeros(3), "rate_hz": 10}, r"float64 \(3,\)"),
        ({"action": np.zeros((3, 3)), "time_s": np.zeros(3)}, "must rise from 0"),
        ({"action": np.zeros((3, 3)), "time_s": np.zeros(2)}, "expected"),
        ({"action": np.zeros((3, 3)), "rate_hz": 0}, "rate_hz"),
        ({"action": np.array([[None] * 3]), "rate_hz": 1}, "cannot be read as a NumPy archive"),
    ],
)
def test_arrays_that_are_refused(tmp_path, arrays, message):
    path = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"bad.npz: .*{message}"):
        read_recording(path, ACTION)


def test_other_files_are_named(tmp_path):
    (tmp_path / "x.arplog").write_bytes(b"hello")
    for name, message in (("x.arplog", "no episode log"), ("x.hdf5", "expected a log")):
        with pytest.raises(ValueError, match=message):
            read_recording(tmp_path / name, ACTION)
