"""Recorded episodes as a course of actions: what was commanded then, at the times of then.

In: an episode log (`.arplog`), or a NumPy archive (`.npz`) with `action` [T, A] and `time_s` [T] or
`rate_hz`. Out: a `Trajectory` that goes through safety like any other wish. Comparing what the arm
achieved with what was commanded is `replay_check.py`'s business; RLDS needs no reader here.
"""

from pathlib import Path

import numpy as np

from arp_jax.specs import ActionSpec, check_match
from robot_bridge.actions.trajectory import Trajectory
from robot_bridge.log.episode_log import SUFFIX, read_log


def read_recording(path: str | Path, spec: ActionSpec) -> Trajectory:
    """The commands of an episode, for an arm that takes `spec`.

    Raises:
        ValueError: names the file and what is wrong: no such file, no steps, another arm's actions
            (the field that differs), an action outside the arm's limits.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        trajectory = _read_log(path, spec)
    elif path.suffix == ".npz":
        trajectory = _read_arrays(path)
    else:
        raise ValueError(f"{path}: expected a log (*{SUFFIX}) or arrays (*.npz)")
    trajectory.check_limits(spec)
    return trajectory


def _read_log(path: Path, spec: ActionSpec) -> Trajectory:
    log = read_log(path)
    _check_same_meaning(spec, log.header.action, path)
    # A step at which the arm was not commanded (a hold) has no time of its own.
    steps = [step for step in log.steps if step.command_time_ns > 0]
    if not steps:
        raise ValueError(f"{path}: no commands to replay ({log.state})")
    times = np.array([step.command_time_ns for step in steps], np.int64)
    actions = np.stack([step.command for step in steps])
    rising = np.concatenate([[True], np.diff(times) > 0])
    return Trajectory(times[rising] - times[0], actions[rising], str(path))


def _check_same_meaning(robot: ActionSpec, recorded: ActionSpec, path: Path) -> None:
    """Names, units and conventions must agree; limits and rate may differ: both are checked."""
    for name in ("dims", "unit", "frame", "absolute", "gripper"):
        where = f"the robot and the recording {path}"
        check_match(getattr(robot, name), getattr(recorded, name), f"{where}, action.{name},")


def _read_arrays(path: Path) -> Trajectory:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a NumPy archive ({error})") from error
    if "action" not in arrays or not {"time_s", "rate_hz"} & set(arrays):
        raise ValueError(
            f"{path}: has {sorted(arrays)}; needs 'action' [T, A] and 'time_s' [T] or 'rate_hz'"
        )
    actions = arrays["action"]
    if actions.ndim != 2 or actions.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: action is {actions.dtype} {actions.shape}; expected numbers [T, A]"
        )
    if "time_s" in arrays:
        seconds = arrays["time_s"].astype(np.float64)
        times = np.round((seconds - seconds[:1]) * 1e9)
    else:
        rate = np.asarray(arrays["rate_hz"], np.float64)
        if rate.shape or not rate > 0:
            raise ValueError(f"{path}: rate_hz must be one number above 0, found {rate}")
        times = np.round(np.arange(len(actions)) * 1e9 / rate)
    return Trajectory(times.astype(np.int64), actions.astype(np.float32), str(path))
