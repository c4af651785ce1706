"""Runs a policy: a server's, or an exported artifact on this computer.

A real arm must have followed a recording first: `robot-bridge replay --example`, every
replay_check.valid_days (7). The policy then drives the digital twin from where the arm stands (a
dry run). You are asked once, the arm goes slowly to the start pose, and the policy takes over,
through every safety check, until you stop it. Each episode is written to a log; the page shows
everything and has the stop button.

Examples:
    robot-bridge run --policy=ws://192.168.1.20:8765
    robot-bridge run --policy=~/policies/pick_place --robot=serial:/dev/mycobot
    robot-bridge run --config=my_arm.toml --instruction="put the cube in the box"
    robot-bridge run --config=my_arm.toml --wait_for_start      # a service: starts on the page
    robot-bridge run --policy=runs/a/artifact --yes --seconds=60 --no_web
"""

import argparse
import dataclasses
import sys

from robot_bridge.actions.policy import RemotePolicy
from robot_bridge.commands.assembly import (
    Machine,
    is_simulated,
    make_parts,
    open_machine,
    open_policy,
    start_pose,
)
from robot_bridge.commands.flags import (
    add_config_flags,
    add_log_flags,
    add_motion_flags,
    config_of,
)
from robot_bridge.commands.rehearsal import PolicyClock, allow_motion
from robot_bridge.commands.replay_gate import check_followed, use_record
from robot_bridge.commands.session import Plan, run_session
from robot_bridge.settings.config import Config

_REHEARSED_S = 10.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument(
        "--policy", metavar="URL|DIR", help="ws://HOST:PORT, or the folder of an artifact"
    )
    parser.add_argument("--once", action="store_true", help="ends with the first episode")
    parser.add_argument(
        "--wait_for_start",
        action="store_true",
        help="connects and waits: start by key or page (asks nothing before)",
    )
    parser.add_argument("--no_preflight", action="store_true", help="skips the dry run in the twin")
    parser.add_argument(
        "--no_replay_check",
        action="store_true",
        help="runs although no replay showed that the arm follows; the log says so",
    )
    parser.add_argument(
        "--preflight_seconds",
        type=float,
        default=_REHEARSED_S,
        metavar="S",
        help=f"length of the dry run ({_REHEARSED_S:g})",
    )
    add_config_flags(parser)
    add_motion_flags(parser)
    add_log_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config = config_of(flags)
    if not flags.preflight_seconds > 0:
        raise ValueError(f"--preflight_seconds={flags.preflight_seconds}: must be above 0")
    if flags.wait_for_start and not (config.web.enabled or sys.stdin.isatty()):
        raise ValueError("--wait_for_start: there is neither a page nor a terminal to start from")
    remarks = _replay_check(flags, config)
    clock = PolicyClock()
    with open_machine(config) as machine:
        source = open_policy(config, clock, lambda line: print(line, flush=True))
        try:
            return _run(flags, config, machine, source, clock, remarks)
        finally:
            source.close()


def _replay_check(flags: argparse.Namespace, config: Config) -> dict[str, str]:
    """What log and status say about it; ValueError where the policy may not move the arm."""
    if is_simulated(config):
        return {}
    if flags.no_replay_check:
        print("replay check: skipped (--no_replay_check)", flush=True)
        return {"replay_check": "skipped by --no_replay_check"}
    known = check_followed(flags, config)
    print(f"replay check: the arm {known}", flush=True)
    return {"replay_check": known}


def _run(
    flags: argparse.Namespace,
    config: Config,
    machine: Machine,
    source: RemotePolicy,
    clock: PolicyClock,
    remarks: dict[str, str],
) -> int:
    pose = start_pose(config)
    if is_simulated(config):
        print("the arm is the twin: nothing real moves, no dry run")
    elif not flags.no_preflight:
        allow_motion(config, machine, source, clock, pose, flags.preflight_seconds)
    plan = Plan(
        question=f"{source.name} will move {machine.robot.name}. Is its space clear?",
        yes=flags.yes or flags.wait_for_start or is_simulated(config),
        start=not flags.wait_for_start,
        episodes=1 if flags.once else None,
        seconds=flags.seconds,
    )
    if not is_simulated(config):
        use_record(config)
    parts = make_parts(config, machine, source, pose)
    return run_session(dataclasses.replace(parts, remarks=remarks), config, plan)
