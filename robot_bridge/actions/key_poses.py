"""Scripts: a list of key poses, joined by straight lines in joint space (mycobot.md a.2).

In: a TOML file for people (degrees, seconds). Out: a `Trajectory` in the bridge's units. In one
segment either the arm moves or the gripper: both at once lose gripper commands on the real arm
(R2), so a script that asks for it is refused unless it says so. No limits and no motion here.
"""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from robot_bridge.actions.trajectory import Trajectory
from robot_bridge.arm import JOINTS

_POSE_KEYS = {"angles_deg", "gripper", "seconds", "name"}
_FILE_KEYS = {"description", "pose", "move_together"}
JOINT_COUNT = len(JOINTS)


def read_key_poses(path: str | Path, with_gripper: bool) -> Trajectory:
    """Reads a script.

    Args:
        path: TOML with `[[pose]]` tables: `seconds` (to get there from the pose before; 0 and only
            0 for the first), `angles_deg` (6) and `gripper` (0 closed ... 1 open), each as before
            where absent; `name` is for people.
        with_gripper: whether the arm has one; without, a script that moves it is refused.

    Returns:
        Actions [N, 6] or [N, 7], rad and opening.

    Raises:
        ValueError: names the file, the pose and the key.
    """
    path = Path(path)
    table = _read_table(path)
    poses = table.get("pose", [])
    if not isinstance(poses, list) or len(poses) < 2:
        raise ValueError(f"{path}: a script needs at least two [[pose]] tables")
    rows: list[np.ndarray] = []
    times = [0]
    for number, pose in enumerate(poses):
        where = f"{path}: pose {number + 1}"
        before = rows[-1] if rows else None
        rows.append(_row(pose, before, where, with_gripper))
        seconds = _seconds(pose, number == 0, where)
        if number:
            times.append(times[-1] + round(seconds * 1e9))
        if before is not None and with_gripper and not table.get("move_together", False):
            _check_one_moves(before, rows[-1], where)
    return Trajectory(np.array(times, np.int64), np.stack(rows).astype(np.float32), str(path))


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML: {error}") from error
    if unknown := sorted(set(table) - _FILE_KEYS):
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known: {sorted(_FILE_KEYS)}")
    return table


def _row(pose: Any, before: np.ndarray | None, where: str, with_gripper: bool) -> np.ndarray:
    """float64 [6] or [7] of one pose; what it does not say is as before."""
    if not isinstance(pose, dict):
        raise ValueError(f"{where}: expected a [[pose]] table")
    if unknown := sorted(set(pose) - _POSE_KEYS):
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known: {sorted(_POSE_KEYS)}")
    if before is None and "angles_deg" not in pose:
        raise ValueError(f"{where}: the first pose needs angles_deg")
    if "angles_deg" in pose:
        angles = np.radians(_numbers(pose["angles_deg"], JOINT_COUNT, f"{where}: angles_deg"))
    else:
        angles = before[:JOINT_COUNT]  # type: ignore[index]
    if not with_gripper:
        if "gripper" in pose:
            raise ValueError(f"{where}: moves the gripper, and robot.tool has none")
        return angles
    if "gripper" in pose:
        opening = _numbers([pose["gripper"]], 1, f"{where}: gripper")
        if not 0.0 <= opening[0] <= 1.0:
            raise ValueError(f"{where}: gripper is 0 (closed) ... 1 (open), found {opening[0]}")
    elif before is None:
        raise ValueError(f"{where}: the first pose needs gripper (0 closed ... 1 open)")
    else:
        opening = before[JOINT_COUNT:]
    return np.concatenate([angles, opening])


def _numbers(value: Any, count: int, where: str) -> np.ndarray:
    """float64 [count]; a bool is no number here."""
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if not numbers or len(value) != count:
        raise ValueError(f"{where}: expected {count} number{'s' * (count > 1)}, found {value!r}")
    return np.array(value, np.float64)


def _seconds(pose: dict[str, Any], first: bool, where: str) -> float:
    seconds = _numbers([pose.get("seconds", 0.0)], 1, f"{where}: seconds")[0]
    if first and seconds != 0:
        raise ValueError(f"{where}: the first pose is where the script starts: no seconds")
    if not first and not 0.0 < seconds < 3600.0:
        raise ValueError(f"{where}: seconds must be above 0 (and below 3600), found {seconds}")
    return float(seconds)


def _check_one_moves(before: np.ndarray, after: np.ndarray, where: str) -> None:
    moved = before != after
    if moved[:JOINT_COUNT].any() and moved[JOINT_COUNT:].any():
        raise ValueError(
            f"{where}: arm and gripper move at once; make it two poses, one after the other, "
            "or set move_together = true in the file"
        )
