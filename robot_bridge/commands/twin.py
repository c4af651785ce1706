"""Runs a policy, a script or a recording in simulation only, and reports.

Nothing real is opened. The source drives the digital twin through the same safety filter as on the
arm; time is simulated, so it takes as long as the source thinks. The report says whether the arm
would be allowed to do the same: clearances, speeds, what safety changed.

Examples:
    robot-bridge twin pick.toml
    robot-bridge twin episodes/20261121-101500.arplog --report=report --set safety.table_z_m=0.02
    robot-bridge twin --policy=~/policies/pick_place --simulated_seconds=30 --report=report
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from robot_bridge.commands.assembly import open_machine, open_policy, specs_of, start_pose
from robot_bridge.commands.flags import add_config_flags, config_of
from robot_bridge.commands.recordings import open_course
from robot_bridge.commands.rehearsal import PolicyClock, describe, rehearse
from robot_bridge.settings.config import Config
from robot_bridge.sources import ActionSource
from robot_bridge.twin.preflight_report import PreflightReport, save_picture

REFUSED_STATUS = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="an .arplog, .npz or .toml")
    parser.add_argument("--policy", metavar="URL|DIR", help="instead of FILE")
    parser.add_argument("--speed", type=float, default=1.0, help="of FILE, at most 1")
    parser.add_argument(
        "--simulated_seconds", type=float, default=30.0, metavar="S", help="for a policy (30)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="writes report.json and report.png there"
    )
    add_config_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 5 when the arm would not be allowed to."""
    if flags.robot not in (None, "sim", "sim:"):
        raise ValueError(f"twin: --robot={flags.robot} is real; this command only simulates")
    config = _simulated(config_of(flags))
    clock = PolicyClock()
    if flags.file is not None:
        if flags.policy is not None:
            raise ValueError("twin: FILE and --policy are both given; which one drives?")
        course = open_course(flags.file, config, flags.speed)
        source: ActionSource = course
        goal: np.ndarray | None = course.start
        seconds = course.trajectory.seconds + 1.0
    else:
        source = open_policy(config, clock, lambda line: print(line, flush=True))
        goal, seconds = start_pose(config), flags.simulated_seconds
    try:
        report = _rehearsed(config, source, clock, goal, seconds)
    finally:
        source.close()
    print("\n".join(describe(report)))
    if flags.report is not None:
        _write(report, flags.report)
    return REFUSED_STATUS if report.reasons else 0


def _simulated(config: Config) -> Config:
    """The same settings with the twin for the arm; its cameras are drawn by the dry run itself."""
    return dataclasses.replace(config, robot=dataclasses.replace(config.robot, url="sim:"))


def _rehearsed(
    config: Config,
    source: ActionSource,
    clock: PolicyClock,
    goal: np.ndarray | None,
    seconds: float,
) -> PreflightReport:
    blind = dataclasses.replace(config, camera=())
    with open_machine(blind) as machine:
        seeing = dataclasses.replace(machine, observation=specs_of(config)[0])
        return rehearse(config, seeing, source, clock, goal, seconds)


def _write(report: PreflightReport, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    written = [str(path)]
    if save_picture(report, folder / "report.png"):
        written.append(str(folder / "report.png"))
    print(f"wrote {' and '.join(written)}")
