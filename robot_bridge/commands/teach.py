"""Records what a hand does with the free arm: drag-teach.

The servos let go: THE ARM FALLS unless somebody holds it. You are asked before that. Move it with
your hand; the joints are read and logged at the control rate, the cameras watch. ENTER grips the
joints again and holds, r goes on, y or n ends the episode as a success or failure, q ends. Replay
what was taught with `robot-bridge replay`.

Examples:
    robot-bridge teach --robot=serial:/dev/mycobot --instruction="open the drawer"
    robot-bridge teach --config=my_arm.toml --out=demos/drawer
    robot-bridge teach --yes --seconds=20 --no_web       # on the twin: its arm stays where it is
"""

import argparse

from robot_bridge.commands.assembly import is_simulated, make_parts, open_machine
from robot_bridge.commands.flags import (
    add_config_flags,
    add_log_flags,
    add_motion_flags,
    config_of,
)
from robot_bridge.commands.session import Plan, run_session
from robot_bridge.loop.manual import HandGuided


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--once", action="store_true", help="ends with the first episode")
    add_config_flags(parser)
    add_motion_flags(parser)
    add_log_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config = config_of(flags)
    if not config.log.enabled:
        raise ValueError("log.enabled is false: there is nothing to record to")
    with open_machine(config) as machine:
        falls = "" if is_simulated(config) else " THE ARM WILL FALL: hold it now."
        plan = Plan(
            question=f"The servos of {machine.robot.name} will let go.{falls} Are you ready?",
            yes=flags.yes,
            episodes=1 if flags.once else None,
            seconds=flags.seconds,
        )
        # No approach: the hand begins where the arm stands.
        return run_session(make_parts(config, machine, HandGuided(), None), config, plan)
