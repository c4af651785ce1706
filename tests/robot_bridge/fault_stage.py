"""One run of the whole bridge against an arm in which something goes wrong.

Real parts only: the bridge's daemon, safety, recorder, a scripted course, either driver, a
pseudo-terminal or the vendor's TCP server, the emulated arm. `play` goes through a case of
`fault_cases.py` and asserts everything that the case documents; the bridge is driven by what a
person has: commands and status.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from arp_jax.specs import ObservationSpec
from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.arm import action_spec, state_spec
from robot_bridge.emulator import (
    AuditLimits,
    Emulator,
    EmulatorConfig,
    Faults,
    PtyPort,
    TcpPort,
    audit,
)
from robot_bridge.log.episode_log import Step, read_log
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.parts import Parts
from robot_bridge.robots import Robot, RobotError
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.wire.ports import open_robot
from tests.robot_bridge.fault_cases import Case
from tests.robot_bridge.wired_arm import WiredArm

START = (10.0, 20.0, -30.0, 40.0, -50.0, 60.0)
MOVING = ("approach", "running")
MOTION_COMMANDS = ("start", "resume")
BEFORE_S = 0.8  # healthy motion before the fault
STEPS_AFTER = 6  # that must follow when it goes on
RECOVERY_S = 15.0
# A command that left just before the mode changed may arrive this much later.
UNDER_WAY_NS = 300_000_000


def course() -> Trajectory:
    """Two minutes: joint 2 swings by 25 degrees, the others less, the gripper opens and closes."""
    seconds = np.arange(0.0, 120.0, 0.1)
    swing = np.sin(2 * np.pi * seconds / 8.0)
    degrees = np.array(START) + swing[:, None] * np.array([8.0, 25.0, 5.0, 5.0, 5.0, 5.0])
    opening = 0.55 + 0.35 * np.cos(2 * np.pi * seconds / 4.0)
    actions = np.concatenate([np.radians(degrees), opening[:, None]], axis=1)
    times = np.round(seconds * 1e9).astype(np.int64)
    return Trajectory(times, actions.astype(np.float32), "fault campaign")


class Violated(AssertionError):
    """Something that may not happen however busy the machine is: unsafe, or a step is lost."""


class StallMeter:
    """Measures how long this machine keeps a thread waiting that only sleeps."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="stall-meter")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(0.005):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - 0.005)
            before = now


class CountedRobot:
    """A robot that counts the targets it was given: what the log must hold."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.targets = 0

    def write(self, angles: np.ndarray, gripper: float | None) -> None:
        self._robot.write(angles, gripper)
        self.targets += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._robot, name)


@dataclasses.dataclass
class Stage:
    """An arm, its port, a bridge, and when the arm had to stand."""

    arm: Emulator
    port: PtyPort | TcpPort
    robot: CountedRobot
    bridge: Bridge
    forbidden: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    modes: list[str] = dataclasses.field(default_factory=list)
    still_since_ns: int | None = None

    def look(self) -> dict[str, Any]:
        """The bridge's status; keeps account of modes."""
        status = self.bridge.status()
        mode = status["mode"]
        if not self.modes or self.modes[-1] != mode:
            self.modes.append(mode)
            if mode not in MOVING and self.still_since_ns is None:
                self.still_since_ns = status["time_ns"]
        return status

    def until(self, wanted: Callable[[dict[str, Any]], object], what: str, seconds: float) -> None:
        """Waits for a status."""
        end = time.monotonic() + seconds
        while not wanted(status := self.look()):
            if time.monotonic() > end:
                shown = {key: status[key] for key in ("mode", "reason", "robot", "ages_ms")}
                raise AssertionError(f"not within {seconds} s: {what}; modes {self.modes}; {shown}")
            time.sleep(0.01)

    def watch(self, seconds: float) -> None:
        """Lets time pass, looking."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.01)

    def command(self, name: str) -> None:
        """A person's command, given again until the bridge was ready for it and did it."""
        end = time.monotonic() + RECOVERY_S
        while trouble := self.attempt(name):
            assert time.monotonic() < end, f"{name}: {trouble}; modes {self.modes}"
            self.watch(0.1)

    def attempt(self, name: str) -> str:
        """A person's command; why it was not done, "" when it was."""
        self.look()
        told_ns = time.monotonic_ns()
        try:
            self.bridge.command(name)
        except ValueError as error:
            return str(error)
        if name not in MOTION_COMMANDS:
            return ""
        if not self._moves():
            return self.bridge.status()["reason"]
        self.modes.append(f"({name})")
        if self.still_since_ns is not None:
            self.forbidden.append((self.still_since_ns + UNDER_WAY_NS, told_ns))
            self.still_since_ns = None
        return ""

    def _moves(self) -> bool:
        """Whether a command to move takes effect; by the status alone."""
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            status = self.bridge.status()
            if status["mode"] in MOVING:
                return True
            if status["reason"].startswith("not "):  # the loop itself refused
                return False
            time.sleep(0.01)
        return False

    def steps_follow(self) -> bool:
        """Waits for logged steps; False when it holds instead."""
        steps, count = self.look()["recorder"]["steps"], 0
        end = time.monotonic() + RECOVERY_S
        while count < STEPS_AFTER:
            status = self.look()
            if status["mode"] not in MOVING:
                return False
            count += status["recorder"]["steps"] != steps
            steps = status["recorder"]["steps"]
            assert time.monotonic() < end, f"no steps: {status['reason']}, {status['robot']}"
            time.sleep(0.02)
        return True


@contextlib.contextmanager
def opened_port(line: str, arm: Emulator) -> Iterator[WiredArm]:
    """The arm on a line of its own."""
    with PtyPort(arm) if line == "serial" else TcpPort(arm) as port:
        yield WiredArm(line, arm, port)


def new_stage(wired: WiredArm, driver: str, log: Path) -> Stage:
    """A bridge that is not open yet."""
    robot = CountedRobot(open_robot(wired.url, driver))
    parts = Parts(
        robot=robot,
        source=TrajectorySource(course(), "swing", "script"),
        limits=Limits(),
        observation=ObservationSpec(features=(state_spec(True),), cameras=()),
        action=action_spec(True),
        log_folder=log,
    )
    return Stage(wired.arm, wired.port, robot, Bridge(parts, real_time=False))


def play(case: Case, line: str, driver: str, log: Path) -> None:
    """Goes through a case; AssertionError for everything that is not as documented."""
    outcome = case.expected(line, driver)
    config = dataclasses.replace(
        case.config or EmulatorConfig(newest_only=True), degrees=START, turnaround_s=0.005
    )
    arm = Emulator(config)
    with opened_port(line, arm) as wired:
        if outcome.state == ("refused",):
            _refused(case, new_stage(wired, driver, log))
            arm.faults = Faults()
        stage = new_stage(wired, driver, log)
        if outcome.recovery == "power, connect again":
            stage.robot.set_power(True)
        with started(stage):
            if outcome.state != ("refused",):
                stage.watch(BEFORE_S)
                struck_ns = time.monotonic_ns()
                strike(case, stage)
                _check_state(case, stage, outcome.state)
                healed_ns = time.monotonic_ns()
                heal(stage)
                _recover(stage, outcome.recovery)
    judge(stage, log, case.audit)
    if case.flag:
        during = [s for s in _steps(log) if struck_ns < s.command_time_ns < healed_ns]
        assert case.flag in during[-1].flags, f"the last step has flags {during[-1].flags}"
        assert case.flag not in _steps(log)[0].flags, "flagged before the fault"


@contextlib.contextmanager
def started(stage: Stage) -> Iterator[None]:
    """The bridge runs an episode; at the end it is stopped, then closed."""
    with stage.bridge:
        stage.command("start")
        assert stage.steps_follow(), stage.look()["reason"]
        yield
        stage.bridge.command("stop")
        stage.until(lambda status: status["mode"] == "idle", "idle", 5.0)


def judge(stage: Stage, log: Path, limits: AuditLimits) -> None:
    """What must hold whatever happened; raises Violated."""
    try:
        _judge_safety(stage, limits)
        _judge_logs(stage, log)
    except AssertionError as error:
        raise Violated(str(error)) from error


def _refused(case: Case, stage: Stage) -> None:
    stage.arm.faults = case.faults
    with pytest.raises(RobotError, match=case.reason):
        stage.bridge.open()
    stage.bridge.close()


def strike(case: Case, stage: Stage) -> None:
    """The fault comes."""
    arm, port = stage.arm, stage.port
    arm.faults = case.faults
    if case.event == "power off":
        arm.set_power(False)
    elif case.event == "reboot":
        arm.reboot()
    elif case.event == "disconnect":
        port.disconnect()
    elif case.event == "drop connection":
        port.disconnect() if isinstance(port, PtyPort) else port.reset()
        port.connect()
    elif case.event == "forget mode":
        arm.forget_mode()


def heal(stage: Stage) -> None:
    """The fault goes."""
    stage.arm.faults = Faults()
    stage.port.connect()


def _check_state(case: Case, stage: Stage, states: tuple[str, ...]) -> None:
    """While the fault lasts, the bridge is where it should be."""
    if "running" in states:
        stage.watch(case.seconds)
    else:
        began = time.monotonic()
        stage.until(lambda status: status["mode"] in states, f"{states}", case.seconds + 3.0)
        reason = stage.look()["reason"]
        assert case.reason in reason, f"reason {reason!r} does not say {case.reason!r}"
        if states == ("hold",):
            stage.watch(max(0.0, case.seconds - (time.monotonic() - began)))
    status = stage.look()
    assert status["mode"] in states, f"{status['mode']} ({status['reason']}), expected {states}"
    if states == ("running",):
        assert stage.modes == ["idle", "(start)", "running"], f"did not go on: {stage.modes}"


def _recover(stage: Stage, recovery: str) -> None:
    """What the table says that a person does; then it runs, at the latest after a second time."""
    for _ in range(3):
        if stage.look()["mode"] not in MOVING:
            for name in recovery.split(", "):
                if name == "power":
                    _switch_on(stage.robot)
                else:
                    stage.command(name)
        # What was under way when the fault ended may still cost a hold.
        if stage.steps_follow():
            return
    raise AssertionError(f"it does not go on: {stage.modes}, {stage.look()['reason']}")


def _switch_on(robot: CountedRobot) -> None:
    """As `robot-bridge check` and the page do; an arm that restarts needs a moment."""
    end = time.monotonic() + RECOVERY_S
    while True:
        try:
            robot.set_power(True)
            return
        except RobotError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _judge_safety(stage: Stage, limits: AuditLimits) -> None:
    """By what reached the arm, not by our own code."""
    entries = stage.arm.journal.entries()
    assert stage.arm.journal.dropped == 0, "the journal is not whole"
    assert stage.arm.state().gripper_lost == 0, "a gripper command came too soon"
    violations = audit(entries, limits, stage.forbidden)
    assert not violations, "\n".join(map(str, violations[:5]))


def _steps(log: Path) -> list[Step]:
    """Of all episodes."""
    return [step for path in sorted(log.iterdir()) for step in read_log(path).steps]


def _judge_logs(stage: Stage, log: Path) -> None:
    """Every target that was commanded is in a log, and so is every one that reached the arm."""
    status = stage.bridge.status()
    logs = [read_log(path) for path in sorted(log.iterdir())]
    for episode in logs:
        assert episode.state.endswith("complete"), episode.state
    assert status["recorder"]["lost_steps"] == 0, "steps lost"
    assert len(logs) == status["episode"]["number"], f"{len(logs)} logs"
    written, taken = len(logs[-1].steps), status["recorder"]["steps"]
    assert written == taken, f"{written} steps in the log, {taken} taken over"
    # A tick at which the target stays is logged with the time at which that was sent.
    sent = {step.command_time_ns: step.command for step in _steps(log) if step.command_time_ns}
    given = stage.robot.targets
    assert len(sent) == given, f"{len(sent)} targets in the logs, {given} given to the robot"
    commanded = np.degrees([command[:6] for command in sent.values()])
    targets = [entry.target for entry in stage.arm.journal.entries() if entry.target]
    assert len(targets) >= STEPS_AFTER // 2, "too few targets reached the arm"
    for target in targets:
        away = np.abs(commanded - target).max(axis=1).min()
        assert away < 0.02, f"{target} reached the arm and is in no log"
