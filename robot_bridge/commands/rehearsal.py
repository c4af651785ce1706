"""The dry run before motion, as the commands do it: from where the arm stands, in the twin.

In: an opened machine and the source that is to move it. Out: a report on the terminal; a refusal is
an error. Without MuJoCo it says so and asks for the word that skips it. The rehearsal itself is
`preflight.py`'s.
"""

import importlib.util
import time

import numpy as np

from robot_bridge.commands.assembly import Machine
from robot_bridge.robots import Reading, Robot, RobotError
from robot_bridge.settings.config import Config
from robot_bridge.sources import ActionSource
from robot_bridge.twin.preflight import Rehearsal, SteppedClock, preflight
from robot_bridge.twin.preflight_report import PreflightReport

_READING_S = 5.0
_OR_WITHOUT = "; or say --no_preflight: then only safety stands between source and arm"


class NoDryRun(RobotError):
    """A dry run is not possible here; the message says what is missing."""


class PolicyClock(SteppedClock):
    """A policy's clock: moved by hand while it is rehearsed, then the computer's own.

    One policy serves both, so that an artifact is loaded and compiled once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rehearsing = False

    def __call__(self) -> int:
        """Monotonic ns."""
        return super().__call__() if self.rehearsing else time.monotonic_ns()


def rehearse(
    config: Config,
    machine: Machine,
    source: ActionSource,
    clock: PolicyClock,
    goal: np.ndarray | None,
    seconds: float,
) -> PreflightReport:
    """Lets the source drive the twin from where the arm stands.

    Args:
        clock: the source's, if it is a policy.
        goal: [6] rad or [7], start pose of the run; None: where the arm stands.
        seconds: that the source gets.

    Raises:
        RobotError: the arm does not answer.
        NoDryRun: MuJoCo or OpenGL is missing, or the machine has something that the twin has not.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise NoDryRun("no dry run without MuJoCo: pip install 'robot-bridge[twin]'")
    reading = first_reading(machine.robot)
    plan = Rehearsal(
        limits=config.safety.limits(config.robot.tool),
        observation=machine.observation,
        action=machine.action,
        rate_hz=config.loop.rate_hz,
        start=tuple(float(angle) for angle in reading.angles),
        opening=min(max(reading.gripper, 0.0), 1.0),
        goal=None if goal is None else tuple(float(angle) for angle in goal[:6]),
        goal_opening=float(goal[6]) if goal is not None and len(goal) > 6 else None,
        approach=config.approach.limits(),
        tool=config.robot.tool,
        seconds=seconds,
        views={c.name: c.twin_view for c in config.camera if c.twin_view},
    )
    clock.rehearsing = True
    try:
        return preflight(source, plan, clock)
    except (RuntimeError, ValueError) as error:
        raise NoDryRun(f"no dry run is possible: {error}") from error
    finally:
        clock.rehearsing = False


def first_reading(robot: Robot) -> Reading:
    """Connects the arm and waits for its first reading; nothing moves.

    Raises:
        RobotError: it is not ready, or gives no reading.
    """
    robot.connect()
    deadline = time.monotonic() + _READING_S
    while (reading := robot.read()) is None:
        if time.monotonic() > deadline:
            why = robot.health().last_error or "it does not say why"
            raise RobotError(f"{robot.name}: no reading within {_READING_S:.0f} s: {why}")
        time.sleep(0.01)
    return reading


def allow_motion(
    config: Config,
    machine: Machine,
    source: ActionSource,
    clock: PolicyClock,
    goal: np.ndarray | None,
    seconds: float,
) -> None:
    """Rehearses and prints what it showed; returns only if the arm may do the same.

    Args:
        clock, goal, seconds: see `rehearse`.

    Raises:
        RobotError: the arm does not answer, or a dry run is not possible.
        ValueError: the dry run refuses, with its reasons.
    """
    try:
        report = rehearse(config, machine, source, clock, goal, seconds)
    except NoDryRun as error:
        raise NoDryRun(f"{error}{_OR_WITHOUT}") from error
    print("\n".join(describe(report)), flush=True)
    if report.reasons:
        raise ValueError(f"the dry run refuses: {', '.join(report.reasons)}{_OR_WITHOUT}")


def describe(report: PreflightReport) -> list[str]:
    """A dry run in a few lines."""
    seconds = len(report.rows) * report.period_s
    speeds = np.degrees(report.speeds()["commanded"])
    lines = [
        f"dry run in the twin: {report.verdict}, {seconds:.1f} s simulated "
        f"in {report.wall_s:.1f} s; fastest joint {speeds.max():.0f} deg/s"
    ]
    for group, closest in report.closest.items():
        what = closest.what.partition(":")[2]
        lines.append(
            f"  nearest to {group}: {1000 * closest.distance_m:.0f} mm ({what}) "
            f"at {closest.time_s:.1f} s"
        )
    lines += [f"  {name}: {count} ticks" for name, count in report.interventions.items()]
    return lines + [f"  refused: {reason}" for reason in report.reasons]
