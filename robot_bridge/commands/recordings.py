"""A recorded episode or a script of key poses, as a source that fits this arm.

In: a file by its ending: `.arplog`, `.npz` (recordings) or `.toml` (key poses). Out: a
`TrajectorySource`, checked against the arm's limits before anything moves.
"""

from pathlib import Path

from robot_bridge.commands.assembly import specs_of
from robot_bridge.config import Config
from robot_bridge.key_poses import read_key_poses
from robot_bridge.replay import read_recording
from robot_bridge.trajectory import TrajectorySource


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
