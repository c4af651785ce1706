"""Records episodes without a policy: a script of key poses, or a person at the page.

With --script the key poses are played (as `replay` does) as often as --episodes says; vary them for
a data set. With --page the arm stands at the start pose and you move it from the page, joint by
joint; press success or failure there (or y, n here) to end an episode. Convert the logs with
datasets/convert_bridge_log.py.

Examples:
    robot-bridge record --script=pick.toml --episodes=10 --out=demos
    robot-bridge record --script=pick.toml --robot=serial:/dev/mycobot --instruction="pick the cube"
    robot-bridge record --page --config=my_arm.toml
"""

import argparse

from robot_bridge.commands.assembly import make_parts, open_machine, start_pose
from robot_bridge.commands.flags import (
    add_config_flags,
    add_log_flags,
    add_motion_flags,
    config_of,
)
from robot_bridge.commands.recordings import open_course
from robot_bridge.commands.replay import add_course_flags, play
from robot_bridge.commands.session import Plan, run_session
from robot_bridge.loop.manual import Jogged
from robot_bridge.settings.config import Config


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--script", metavar="FILE", help="key poses, .toml")
    who.add_argument("--page", action="store_true", help="a person moves the arm from the page")
    parser.add_argument("--episodes", type=int, default=1, help="how often the script is played")
    add_course_flags(parser)
    add_config_flags(parser)
    add_motion_flags(parser)
    add_log_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config = config_of(flags)
    if not config.log.enabled:
        raise ValueError("log.enabled is false: there is nothing to record to")
    if flags.page:
        return _record_page(flags, config)
    if flags.episodes < 1:
        raise ValueError(f"--episodes={flags.episodes}: must be at least 1")
    source = open_course(flags.script, config, flags.speed)
    return play(flags, config, source, flags.episodes)


def _record_page(flags: argparse.Namespace, config: Config) -> int:
    if not config.web.enabled:
        raise ValueError("--page needs the page: leave --no_web and web.enabled = false away")
    with open_machine(config) as machine:
        # Holds the start pose until the take-over begins, and between two.
        source = Jogged(machine.action.dims, config.robot.gripper)
        plan = Plan(
            question=f"The page will move {machine.robot.name}. Is its space clear?",
            yes=flags.yes,
            seconds=flags.seconds,
            at_start=("takeover", {"how": "jog"}),
        )
        return run_session(make_parts(config, machine, source, start_pose(config)), config, plan)
