"""Two harder plays than single faults: an e-stop in the middle of one, and many of them at random.

Same stage, same judges as `fault_stage.py`.
"""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np

from robot_bridge.emulator import AuditLimits, Emulator, EmulatorConfig, Faults
from robot_bridge.robots import RobotError
from tests.robot_bridge.fault_cases import CASES, Case
from tests.robot_bridge.fault_stage import (
    START,
    Stage,
    heal,
    judge,
    new_stage,
    opened_port,
    started,
    strike,
)

CONFIG = EmulatorConfig(newest_only=True, degrees=START, turnaround_s=0.005)
# Two waits for a reply, one of the server, and what a busy machine adds.
STANDS_WITHIN_S, QUIET_S = 1.5, 0.4
# Not for these: the arm hears nothing, stands anyway, or the bridge does not even start.
DEAF = ("silence", "power off", "disconnected", "reboot", "mode stuck", "no power at the start")
STOPPABLE = tuple(case for case in CASES if case.name not in DEAF)
STORMY = tuple(case for case in CASES if case.expected("", "").state != ("refused",))
STORM_S = 25.0
PERSON = {"hold": "resume", "fault": "reset", "idle": "start"}


def stop_despite(case: Case, line: str, driver: str, log: Path) -> None:
    """An e-stop during the fault: the arm truly stands soon, and until somebody starts it again."""
    arm = Emulator(dataclasses.replace(case.config or CONFIG, degrees=START))
    with opened_port(line, arm) as wired:
        stage = new_stage(wired, driver, log)
        with started(stage):
            strike(case, stage)
            stage.watch(0.7)
            stage.bridge.command("estop")
            # What the controller had already received it may still begin.
            told = moved = time.monotonic()
            while time.monotonic() - moved < QUIET_S:
                assert moved < told + STANDS_WITHIN_S, "the arm does not stand"
                moved = time.monotonic() if arm.state().moving else moved
                stage.watch(0.02)
            at = arm.state().degrees
            stage.watch(0.8)
            away = np.abs(arm.state().degrees - at).max()
            assert away < 0.1, f"it moved by {away:.2f} degrees after the e-stop"
            assert stage.look()["mode"] == "estop"
            heal(stage)
            stage.command("reset")
            stage.command("start")
            stage.steps_follow()
    judge(stage, log, case.audit)


def storm(seed: int, line: str, driver: str, log: Path) -> None:
    """Random faults one after the other, with a stubborn person who always goes on."""
    random = np.random.default_rng(seed)
    arm = Emulator(dataclasses.replace(CONFIG, seed=seed))
    with opened_port(line, arm) as wired:
        stage = new_stage(wired, driver, log)
        with started(stage):
            end = time.monotonic() + STORM_S
            while time.monotonic() < end:
                if random.random() < 0.4:
                    heal(stage)
                else:
                    strike(STORMY[random.integers(len(STORMY))], stage)
                _live_on(stage, random.uniform(0.3, 1.5))
            heal(stage)
            end = time.monotonic() + 20.0
            while stage.look()["mode"] != "running" or not stage.steps_follow():
                assert time.monotonic() < end, f"does not recover: {stage.look()['reason']}"
                _live_on(stage, 0.3)
    judge(stage, log, AuditLimits(queued=20))


def _live_on(stage: Stage, seconds: float) -> None:
    """A person presses whatever leads back to running, as soon as it stops."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = stage.look()
        if status["mode"] in PERSON:
            stage.attempt(PERSON[status["mode"]])
        reading = status["reading"]
        if reading is not None and not reading["powered"] and stage.arm.faults == Faults():
            # It may still restart, or be gone: then later.
            with contextlib.suppress(RobotError):
                stage.robot.set_power(True)
        stage.watch(0.1)
