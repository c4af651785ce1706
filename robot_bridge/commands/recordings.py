"""A recorded episode, a script of key poses or the built-in example, as a source for this arm.

In: a file by its ending: `.arplog`, `.npz` (recordings) or `.toml` (key poses). Out: a
`TrajectorySource`, checked against the arm's limits before anything moves.
"""

import math
from pathlib import Path

import numpy as np

from robot_bridge.actions.key_poses import read_key_poses
from robot_bridge.actions.replay import read_recording
from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.commands.assembly import specs_of
from robot_bridge.commands.calibrate import swing
from robot_bridge.settings.config import Config

_EXAMPLE_HZ = 10.0
# A joint or gripper that stands still must be found: more than `replay_check.Tolerances`.
_SWING_RAD, _SWING_S = math.radians(12.0), 3.0
# Opening and seconds, after the joints.
_GRIPS = ((0.2, 2.0), (0.2, 1.5), (1.0, 2.0), (1.0, 1.0))


def open_course(path: str | Path, config: Config, speed: float) -> TrajectorySource:
    """The file as a source.

    Args:
        speed: 1: as recorded; below 1: slower. Above is not possible.

    Raises:
        ValueError: names the file and what does not fit.
    """
    path = Path(path).expanduser()
    _, action = specs_of(config)
    if path.suffix == ".toml":
        kind, course = "script", read_key_poses(path, config.robot.gripper)
        course.check_limits(action)
    else:
        kind, course = "replay", read_recording(path, action)
    return TrajectorySource(course.slowed(speed), f"{kind} of {path.name}", kind)


def example_course(config: Config, speed: float) -> TrajectorySource:
    """Without a file: each joint swings a little about the start pose, then the gripper closes.

    Raises:
        ValueError: no start pose is configured, or it is too near to a limit.
    """
    if not config.robot.start_rad:
        raise ValueError("--example swings about robot.start_deg, which is []; give a FILE instead")
    _, action = specs_of(config)
    start = np.array([*config.robot.start_rad, *([1.0] if config.robot.gripper else [])])
    course = swing(start, _EXAMPLE_HZ, _SWING_RAD, _SWING_S)
    times, rows = course.times_ns, course.actions
    for opening, seconds in _GRIPS if config.robot.gripper else ():
        times = np.append(times, times[-1] + round(seconds * 1e9))
        rows = np.vstack([rows, np.append(rows[0, :-1], np.float32(opening))])
    course = Trajectory(times, rows, "the example")
    course.check_limits(action)
    return TrajectorySource(course.slowed(speed), "the example", "script")
