"""Plays a recorded episode or a script of key poses on the arm, once, and checks that it followed.

The course first drives the digital twin (a dry run); the arm then goes slowly to the first pose and
plays it through every safety check. At the end the recorded commands are compared with what the arm
achieved, joint by joint: an arm that does not follow a recording will not follow a policy either.
What came of it is kept (replay_check.folder): `robot-bridge run` asks for it before a policy moves
a real arm. --example needs no file: each joint swings 12 degrees about robot.start_deg, and the
gripper closes almost.

Examples:
    robot-bridge replay --example --config=my_arm.toml
    robot-bridge replay episodes/20261121-101500.arplog
    robot-bridge replay episodes/20261121-101500.arplog --robot=serial:/dev/mycobot --speed=0.5
    robot-bridge replay pick.toml --config=my_arm.toml
    robot-bridge replay actions.npz --yes --no_web     # arrays: action [T, A], rate_hz or time_s

A script of key poses (.toml), degrees and seconds:
    [[pose]]
    angles_deg = [-3.07, 33.39, 32.78, 6.94, -88.33, -1.58]
    gripper = 0.7
    [[pose]]
    angles_deg = [-3.07, 60.0, 32.78, 6.94, -88.33, -1.58]
    seconds = 1.5
    [[pose]]
    gripper = 0.2
    seconds = 1.0
"""

import argparse
from pathlib import Path

import numpy as np

from robot_bridge.actions.trajectory import TrajectorySource
from robot_bridge.commands.assembly import is_simulated, make_parts, open_machine
from robot_bridge.commands.flags import (
    add_config_flags,
    add_log_flags,
    add_motion_flags,
    config_of,
)
from robot_bridge.commands.recordings import example_course, open_course
from robot_bridge.commands.rehearsal import PolicyClock, allow_motion
from robot_bridge.commands.replay_gate import forget_verdict, keep_verdict
from robot_bridge.commands.session import Plan, run_session
from robot_bridge.log.episode_log import SUFFIX, read_log
from robot_bridge.settings.config import Config
from robot_bridge.twin.replay_check import ReplayReport, check_log

_LONGEST_REHEARSAL_S = 600.0
NOT_FOLLOWED_STATUS = 4


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", nargs="?", help="an .arplog, .npz or .toml (poses)")
    what.add_argument("--example", action="store_true", help="a short built-in motion, no file")
    add_course_flags(parser)
    add_config_flags(parser)
    add_motion_flags(parser)
    add_log_flags(parser)


def add_course_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of everything that plays a fixed course."""
    parser.add_argument(
        "--speed", type=float, default=1.0, help="1 as recorded (default), 0.5 half as fast"
    )
    parser.add_argument("--no_preflight", action="store_true", help="skips the dry run in the twin")


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 4 when the arm did not follow."""
    config = config_of(flags)
    if flags.example:
        source = example_course(config, flags.speed)
    else:
        source = open_course(flags.file, config, flags.speed)
    earlier = logs_in(config.log.folder)
    status = play(flags, config, source)
    simulated = is_simulated(config)
    if status and not simulated:
        print(forget_verdict(config))  # whatever stopped it, the arm did not follow to the end
    if status:
        return status
    if not config.log.enabled:
        print("not checked whether the arm followed: log.enabled is false")
        return 0
    log = read_log(_new_log(config.log.folder, earlier))
    report = check_log(log)
    print("\n".join(describe(report)))
    finished = log.end == f"{source.name} has finished"
    if not simulated and (finished or report.reasons):
        print(keep_verdict(config, report, log, "the example" if flags.example else flags.file))
    elif not simulated:
        print(f"the verdict is not kept for `robot-bridge run`: ended early ({log.end})")
    return NOT_FOLLOWED_STATUS if report.reasons else 0


def play(
    flags: argparse.Namespace, config: Config, source: TrajectorySource, episodes: int = 1
) -> int:
    """Rehearses a course once and plays it `episodes` times; returns the session's exit status."""
    seconds = source.trajectory.seconds
    print(f"{source.name}: {seconds:.1f} s")
    with open_machine(config) as machine:
        if not is_simulated(config) and not flags.no_preflight:
            length = min(seconds + 1.0, _LONGEST_REHEARSAL_S)
            allow_motion(config, machine, source, PolicyClock(), source.start, length)
        plan = Plan(
            question=f"{source.name} will move {machine.robot.name}. Is its space clear?",
            yes=flags.yes or is_simulated(config),
            episodes=episodes,
            seconds=flags.seconds,
        )
        return run_session(make_parts(config, machine, source, source.start), config, plan)


def logs_in(folder: Path) -> set[Path]:
    """All logs of a folder; none where there is no folder."""
    return set(folder.glob(f"*{SUFFIX}"))


def _new_log(folder: Path, earlier: set[Path]) -> Path:
    """The log that was written since; raises ValueError when there is none."""
    logs = sorted(logs_in(folder) - earlier, key=lambda path: path.stat().st_mtime_ns)
    if not logs:
        raise ValueError(f"{folder}: no log was written: nothing was played, nothing is shown")
    return logs[-1]


def describe(report: ReplayReport) -> list[str]:
    """How well the arm followed, in a few lines."""
    lag = "unknown" if np.isnan(report.lag_s) else f"{report.lag_s:.2f} s"
    lines = [f"followed: {report.verdict}; lag {lag}, {report.samples} readings"]
    for name, rms, largest in zip(report.names, report.rms, report.largest, strict=True):
        if name == "gripper":
            lines.append(f"  {name}: {rms:.2f} rms, {largest:.2f} at most, of 0 ... 1")
        else:
            shown = f"{np.degrees(rms):.2f} deg rms, {np.degrees(largest):.2f} at most"
            lines.append(f"  {name}: {shown}")
    return lines + [f"  not allowed: {reason}" for reason in report.reasons]
