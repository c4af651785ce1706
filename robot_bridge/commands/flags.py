"""Flags that several subcommands share; nothing is opened here."""

import argparse
from pathlib import Path

from robot_bridge.settings.config import Config, read_config


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Which arm and which settings: --config, --robot, --set."""
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--config", metavar="FILE", help="TOML file; without, the packaged defaults (the twin)"
    )
    group.add_argument(
        "--robot",
        metavar="URL",
        help="sim (default), serial:/dev/ttyACM0 or tcp:HOST:9000; instead of the file's robot.url",
    )
    group.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="changes one setting of the file, e.g. --set loop.rate_hz=20; can be repeated",
    )


def add_motion_flags(parser: argparse.ArgumentParser) -> None:
    """For commands that move the arm: --yes, --seconds, --no_web, --quiet."""
    group = parser.add_argument_group("motion")
    group.add_argument("--yes", action="store_true", help="moves without asking first")
    group.add_argument("--seconds", type=float, metavar="S", help="ends by itself after S seconds")
    group.add_argument("--no_web", action="store_true", help="serves no page")


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """For commands that record: --out, --instruction."""
    group = parser.add_argument_group("recording")
    group.add_argument("--out", type=Path, metavar="DIR", help="folder of the episode logs")
    group.add_argument("--instruction", metavar="TEXT", help="the task in words")


def config_of(flags: argparse.Namespace) -> Config:
    """The configuration that the flags describe; raises ValueError naming file or flag."""
    changes = list(flags.set)
    if flags.robot is not None:
        changes.append(f"robot.url={_quoted(flags.robot)}")
    if getattr(flags, "no_web", False):
        changes.append("web.enabled=false")
    if getattr(flags, "out", None) is not None:
        changes.append(f"log.folder={_quoted(str(flags.out))}")
    if getattr(flags, "instruction", None) is not None:
        changes.append(f"policy.instruction={_quoted(flags.instruction)}")
    if (policy := getattr(flags, "policy", None)) is not None:
        remote = policy.startswith(("ws://", "wss://"))
        changes.append(f"policy.server={_quoted(policy if remote else '')}")
        changes.append(f"policy.artifact={_quoted('' if remote else policy)}")
    seconds = getattr(flags, "seconds", None)
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds={seconds}: must be above 0")
    return read_config(flags.config, changes)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
