"""The replay check as the commands use it: `replay` keeps what it found, `run` asks for it (R5).

In: settings, flags, the verdict on a replay. Out: a record in `replay_check.folder`, or one line
that refuses and names the command that mends it. The twin follows by itself and is never asked.
The files are `replay_record.py`'s business.
"""

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path

from robot_bridge.log.episode_log import EpisodeLog
from robot_bridge.settings.config import Config
from robot_bridge.twin.replay_check import ReplayReport
from robot_bridge.twin.replay_record import ReplayRecord, read_record, remove_record, write_record
from robot_bridge.wire.ports import arm_line

# A record from the future: two computers' clocks may differ by as much.
_CLOCKS_DAYS = 600.0 / 86400.0
# With valid_days = 0 a record serves one run, and not one that comes much later.
_ONE_RUN_DAYS = 1.0


def keep_verdict(
    config: Config, report: ReplayReport, log: EpisodeLog, file: str, now: datetime | None = None
) -> str:
    """Writes the arm's record, or removes it where the arm did not follow; says so in a line.

    Args:
        log: of the replay; file: that was replayed.
        now: with time zone; None: the computer's time.
    """
    if report.reasons:
        return forget_verdict(config)
    address, tool = _arm(config)
    record = ReplayRecord(
        address=address,
        tool=tool,
        time=now or datetime.now(UTC),
        file=file,
        log=str(log.path),
        robot=dict(log.header.robot),
        report=report.to_json(),
    )
    path = write_record(config.replay_check.folder, record)
    valid = config.replay_check.valid_days
    how_long = f"for {valid:g} days" if valid else "once"
    return f"a policy may move {address} with tool {tool} {how_long}: {path}"


def forget_verdict(config: Config) -> str:
    """Removes the arm's record, if there is one; says what follows."""
    address, tool = _arm(config)
    remove_record(config.replay_check.folder, address, tool)
    return f"no policy may move {address} with tool {tool} before a replay that it follows"


def check_followed(flags: argparse.Namespace, config: Config, now: datetime | None = None) -> str:
    """What is known about how the arm follows, for the log; returns only if a policy may move it.

    Args:
        flags: of `run`, for the command that is advised.
        now: see `keep_verdict`.

    Raises:
        ValueError: it was not shown that this arm follows, or too long ago.
    """
    address, tool = _arm(config)
    settings, now = config.replay_check, now or datetime.now(UTC)
    try:
        record = read_record(settings.folder, address, tool)
        if record is None:
            raise ValueError("no replay has shown yet that it goes where it is sent")
        age = record.age_days(now)
        if age < -_CLOCKS_DAYS:
            raise ValueError(f"its replay check is {-age:.1f} days in the future (clock set back?)")
        if age >= (settings.valid_days or _ONE_RUN_DAYS):
            raise ValueError(
                f"its replay check is {age:.1f} days old, "
                f"replay_check.valid_days is {settings.valid_days:g}"
            )
    except ValueError as error:
        raise ValueError(
            f"{address} with tool {tool}: {error}; run: {_advice(flags, config)} "
            "(or say --no_replay_check)"
        ) from error
    return f"followed {record.file} {age:.1f} days ago"


def use_record(config: Config) -> None:
    """A run begins: with `valid_days = 0` the record is used up by it."""
    if config.replay_check.valid_days == 0:
        remove_record(config.replay_check.folder, *_arm(config))


def _arm(config: Config) -> tuple[str, str]:
    """Address, in the form that `Robot.name` has, and tool."""
    return arm_line(config.robot.url).name, config.robot.tool


def _advice(flags: argparse.Namespace, config: Config) -> str:
    words = ["robot-bridge", "replay", "--example" if config.robot.start_rad else "FILE"]
    if flags.config is not None:
        words.append(f"--config={Path(flags.config)}")
    if flags.robot is not None:
        words.append(f"--robot={flags.robot}")
    return shlex.join([*words, *(f"--set={change}" for change in flags.set)])
