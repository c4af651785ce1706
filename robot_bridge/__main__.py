"""`robot-bridge`: from a policy to a moving myCobot 320, safely.

Commands:
    check      is everything wired, permitted, in the right mode and fast enough?
    calibrate  measures camera rates, read rate, lag and joint zeros; prints settings
    teach      records what a hand does with the free arm
    record     records a script of key poses, or a person at the web page
    replay     plays a recorded episode or script on the arm
    run        runs a policy (a server's or an exported artifact)
    twin       runs a policy, script or recording in simulation only, with a report

Start with `robot-bridge check`, on the simulated arm unless --robot names a real one. Each command
has --help with examples. The way from the box to the first run: docs/mycobot.md.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from robot_bridge.commands import calibrate, check, record, replay, run, teach, twin
from robot_bridge.robots import RobotError
from robot_bridge.settings.config import default_text

COMMANDS = {
    "check": check,
    "calibrate": calibrate,
    "teach": teach,
    "record": record,
    "replay": replay,
    "run": run,
    "twin": twin,
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("robot-bridge", description=__doc__, formatter_class=form)
    parser.add_argument(
        "--write_config", metavar="FILE", type=Path, help="writes the commented default settings"
    )
    parser.add_argument("--traceback", action="store_true", help="shows where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        first_line = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(
            name, help=first_line, description=module.__doc__, formatter_class=form
        )
        module.add_flags(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 2, after one line, for what a person can mend."""
    parser = make_parser()
    flags = parser.parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        if flags.write_config is not None:
            return _write_config(flags.write_config)
        if flags.command is None:
            parser.print_help()
            return 2
        return int(COMMANDS[flags.command].main(flags))
    except (ValueError, RobotError, OSError) as error:
        if flags.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _write_config(path: Path) -> int:
    with path.open("x") as file:  # never over somebody's settings
        file.write(default_text())
    print(f"wrote {path}; use it with --config={path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
