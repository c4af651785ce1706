"""Measures this arm: camera rates, reading rate, lag of each joint, and its zeros; prints settings.

Cameras and readings are only watched. For the lag each joint in turn swings a few degrees about
where the arm stands, after a question, through every safety check (--no_motion leaves it out). The
joint zeros are checked by forward kinematics: the flange that follows from the measured angles must
be where the controller says it is. The settings that follow are printed, or written with --write.

Examples:
    robot-bridge calibrate --robot=serial:/dev/mycobot
    robot-bridge calibrate --config=my_arm.toml --write=measured.toml
    robot-bridge calibrate --config=my_arm.toml --no_motion
"""

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.arm import JOINTS
from robot_bridge.commands.assembly import Machine, is_simulated, make_parts, open_machine
from robot_bridge.commands.check_cameras import picture_rate, watch
from robot_bridge.commands.check_zero import check_zero
from robot_bridge.commands.flags import add_config_flags, config_of
from robot_bridge.commands.lag_fit import Lag, fit_lag
from robot_bridge.commands.rehearsal import first_reading
from robot_bridge.commands.session import Plan, run_session
from robot_bridge.log.episode_log import SUFFIX, EpisodeLog, read_log
from robot_bridge.settings.config import Config

_SWING_RAD = math.radians(6.0)
_SWING_S = 2.0
# The vendor's advice for streamed targets ends here.
_MOST_HZ = 20.0


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        readings_hz: complete readings a second; longest_gap_s: between two.
        cameras_hz: pictures a second, by name.
        lags: by joint; {} where nothing was moved.
    """

    readings_hz: float
    longest_gap_s: float
    cameras_hz: dict[str, float]
    lags: dict[str, Lag]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--yes", action="store_true", help="moves without asking first")
    parser.add_argument("--no_motion", action="store_true", help="does not measure the lag")
    parser.add_argument("--watch", type=float, default=5.0, metavar="S", help="seconds (5)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="writes the settings there")
    add_config_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    config = config_of(flags)
    if not flags.watch > 0:
        raise ValueError(f"--watch={flags.watch}: must be above 0")
    print("\n".join(str(finding) for finding in check_zero(config)))
    with open_machine(config) as machine:
        first_reading(machine.robot)
        measured = _watch(machine, flags.watch)
        print(
            f"readings: {measured.readings_hz:.1f} a second, longest gap "
            f"{1000 * measured.longest_gap_s:.0f} ms"
        )
        for name, rate in measured.cameras_hz.items():
            print(f"camera {name}: {rate:.1f} pictures a second")
        if not flags.no_motion:
            lags = _swing(flags, config, machine)
            measured = dataclasses.replace(measured, lags=lags)
    snippet = settings(config, measured, time.strftime("%Y-%m-%d %H:%M"))
    print(f"\n{snippet}")
    if flags.write is not None:
        with flags.write.open("x") as file:  # never over somebody's settings
            file.write(snippet)
        print(f"wrote {flags.write}")
    return 0


def _watch(machine: Machine, seconds: float) -> Measured:
    """Readings and pictures, for a while; the arm is connected."""
    before, begin = machine.robot.health().reads, time.monotonic()
    longest = _longest_gap(machine, seconds)
    passed = time.monotonic() - begin
    frames = watch(machine.cameras, seconds if machine.cameras else 0.0)
    return Measured(
        readings_hz=(machine.robot.health().reads - before) / (time.monotonic() - begin),
        longest_gap_s=min(longest, passed),
        cameras_hz={name: picture_rate(seen) for name, seen in frames.items()},
        lags={},
    )


def _longest_gap(machine: Machine, seconds: float) -> float:
    times: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reading = machine.robot.read()
        if reading is not None and (not times or reading.time_ns != times[-1]):
            times.append(reading.time_ns)
        time.sleep(0.002)
    return float(np.max(np.diff(times))) / 1e9 if len(times) > 1 else seconds


def swing(
    start: np.ndarray, rate_hz: float, angle: float = _SWING_RAD, seconds: float = _SWING_S
) -> Trajectory:
    """One joint after the other swings about `start` [A] and comes back; 10 Hz rows are enough.

    Args:
        angle: rad, to each side; seconds: for one joint.
    """
    steps = round(seconds * rate_hz)
    wave = angle * np.sin(2 * np.pi * np.arange(1, steps + 1) / steps)
    rows = [start]
    for joint in range(len(JOINTS)):
        for offset in wave:
            row = start.copy()
            row[joint] += offset
            rows.append(row)
    times = np.round(np.arange(len(rows)) * 1e9 / rate_hz).astype(np.int64)
    return Trajectory(times, np.array(rows, np.float32), "calibration")


def _swing(flags: argparse.Namespace, config: Config, machine: Machine) -> dict[str, Lag]:
    """Moves the arm and fits what its log says; {} where that cannot be."""
    reading = machine.robot.read()
    assert reading is not None  # it was waited for
    gripper = [reading.gripper] if config.robot.gripper else []
    course = swing(np.array([*reading.angles, *gripper]), config.loop.rate_hz)
    course.check_limits(machine.action)
    degrees = math.degrees(_SWING_RAD)
    plan = Plan(
        question=f"Each joint of {machine.robot.name} will swing {degrees:.0f} degrees. "
        "Is its space clear?",
        yes=flags.yes or is_simulated(config),
        episodes=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        quiet = dataclasses.replace(
            config,
            web=dataclasses.replace(config.web, enabled=False),
            log=dataclasses.replace(config.log, enabled=True, folder=Path(folder)),
        )
        source = TrajectorySource(course, "calibration", "script")
        status = run_session(make_parts(quiet, machine, source, None), quiet, plan)
        logs = sorted(Path(folder).glob(f"*{SUFFIX}"))
        if status or not logs:
            print("the lag was not measured: the swing was stopped", file=sys.stderr)
            return {}
        return lags_of(read_log(logs[-1]))


def lags_of(log: EpisodeLog) -> dict[str, Lag]:
    """The lag of each joint that the log's commands moved; prints them."""
    sent = [step for step in log.steps if step.command_time_ns > 0]
    read = {s.achieved_time_ns: s.achieved for s in log.steps if s.achieved is not None}
    if not sent or not read:
        return {}
    commands = np.array([step.command for step in sent], np.float64)
    command_s = np.array([step.command_time_ns for step in sent]) / 1e9
    reading_s = np.array(list(read)) / 1e9
    readings = np.array(list(read.values()), np.float64)
    origin = command_s[0]
    found = {}
    for joint, name in enumerate(JOINTS):
        try:
            lag = fit_lag(
                command_s - origin, commands[:, joint], reading_s - origin, readings[:, joint]
            )
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        found[name] = lag
        print(
            f"{name}: {1000 * lag.delay_s:.0f} ms dead time, time constant "
            f"{1000 * lag.tau_s:.0f} ms, {math.degrees(lag.rms):.2f} deg rms left"
        )
    return found


def settings(config: Config, measured: Measured, when: str) -> str:
    """Settings that follow from the measurements, as TOML that `config.py` reads."""
    rate = math.floor(min(measured.readings_hz / 1.5, _MOST_HZ, *measured.cameras_hz.values()))
    wait = max(config.watchdog.reading_s[0], round(2.5 * measured.longest_gap_s, 2))
    hold = max(config.watchdog.reading_s[1], 2 * wait)
    fault = max(config.watchdog.reading_fault_s, 2 * hold)
    lines = [
        f"# measured {when} on {config.robot.url} ({config.robot.driver})",
        "[loop]",
        f"# {measured.readings_hz:.1f} readings a second"
        + "".join(f", camera {n} {hz:.1f} a second" for n, hz in measured.cameras_hz.items()),
        f"rate_hz = {float(max(5, rate))}",
        "",
        "[watchdog]",
        f"# longest gap between two readings: {1000 * measured.longest_gap_s:.0f} ms",
        f"reading_s = [{wait}, {hold}]",
        f"reading_fault_s = {fault}",
    ]
    if measured.lags:
        slowest = max(measured.lags.values(), key=lambda lag: lag.total_s)
        lead = math.degrees(1.5 * slowest.total_s * config.safety.speed_rad_s)
        wanted = min(max(math.degrees(config.safety.lag_rad), math.ceil(lead)), 45.0)
        lines += [
            "",
            "[safety]",
            *(
                f"# {name}: {1000 * lag.delay_s:.0f} ms dead time, {1000 * lag.tau_s:.0f} ms "
                "time constant"
                for name, lag in measured.lags.items()
            ),
            f"lag_deg = {wanted:.1f}",
        ]
    return "\n".join(lines) + "\n"
