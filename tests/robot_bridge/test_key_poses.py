"""Scripts of key poses: what a file means, and which files are refused."""

import re

import numpy as np
import pytest

from robot_bridge.actions.key_poses import read_key_poses
from robot_bridge.arm import action_spec

HOME = "[-3.07, 33.39, 32.78, 6.94, -88.33, -1.58]"
SCRIPT = f"""
description = "down, close, up"
[[pose]]
name = "home"
angles_deg = {HOME}
gripper = 0.7
[[pose]]
angles_deg = [-3.07, 43.39, 32.78, 6.94, -88.33, -1.58]
seconds = 1.0
[[pose]]
gripper = 0.2
seconds = 1.5
[[pose]]
angles_deg = {HOME}
seconds = 2
"""


def script(folder, text):
    path = folder / "script.toml"
    path.write_text(text)
    return path


def test_poses_become_rad_and_keep_what_they_do_not_say(tmp_path):
    course = read_key_poses(script(tmp_path, SCRIPT), with_gripper=True)
    assert course.times_ns.tolist() == [0, 1_000_000_000, 2_500_000_000, 4_500_000_000]
    np.testing.assert_allclose(
        np.degrees(course.actions[:, 1]), [33.39, 43.39, 43.39, 33.39], atol=1e-4
    )
    np.testing.assert_allclose(course.actions[:, 6], [0.7, 0.7, 0.2, 0.2], atol=1e-6)
    course.check_limits(action_spec(True))
    # The one-arm project's frames: arm and gripper never move in the same one.
    frames = course.at(np.arange(46) * 100_000_000)
    moves = np.abs(np.diff(frames, axis=0)) > 1e-6
    assert not np.any(moves[:, :6].any(axis=1) & moves[:, 6])
    assert moves.any(axis=1).all()


def test_without_a_gripper(tmp_path):
    text = re.sub(r"gripper = 0\.\d", "", SCRIPT)
    assert read_key_poses(script(tmp_path, text), with_gripper=False).actions.shape == (4, 6)
    with pytest.raises(ValueError, match=r"pose 1: moves the gripper, and robot.tool has none"):
        read_key_poses(script(tmp_path, SCRIPT), with_gripper=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seconds = 1.5", "second = 1.5", "pose 3: unknown key 'second'"),
        ("seconds = 1.5", "", r"pose 3: seconds must be above 0"),
        ("gripper = 0.7", "gripper = 70", r"pose 1: gripper is 0 \(closed\) ... 1 \(open\)"),
        ("gripper = 0.7", "", "pose 1: .* needs gripper"),
        ("gripper = 0.7", "gripper = 0.7\nseconds = 1", "pose 1: .* no seconds"),
        ("-1.58]\nseconds = 2", "-1.58, 0]\nseconds = 2", "pose 4: angles_deg: expected 6 numbers"),
        ("-1.58]\nseconds = 2", "-1.58]\nseconds = true", "pose 4: seconds: expected 1 number, "),
        ("seconds = 2", "gripper = 1\nseconds = 2", "pose 4: arm and gripper move at once"),
        ("description", "title", "unknown key 'title'"),
        ("[[pose]]", "[[pose", "no TOML"),
        (SCRIPT, "", "at least two"),
    ],
)
def test_files_that_are_refused(tmp_path, old, new, message):
    path = script(tmp_path, SCRIPT.replace(old, new))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        read_key_poses(path, with_gripper=True)


def test_moving_together_must_be_said(tmp_path):
    text = SCRIPT.replace("seconds = 2", "gripper = 1\nseconds = 2")
    course = read_key_poses(script(tmp_path, "move_together = true\n" + text), with_gripper=True)
    assert course.actions[-1, 6] == 1.0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.toml: cannot be read"):
        read_key_poses(tmp_path / "none.toml", with_gripper=True)
