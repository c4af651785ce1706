"""A `MyCobot` on an emulated arm, with what tests ask of both."""

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from robot_bridge.emulator import AuditLimits, audit
from robot_bridge.robots import Reading
from robot_bridge.wire.frames import Command
from robot_bridge.wire.mycobot import MyCobot
from robot_bridge.wire.mycobot_config import MyCobotConfig
from robot_bridge.wire.ports import arm_driver
from tests.robot_bridge.wired_arm import START, WiredArm, wired_arm

MOTION = {Command.SEND_ANGLES, Command.SET_GRIPPER}


class Session:
    """A wired arm and its robot."""

    def __init__(self, wired: WiredArm, robot: MyCobot) -> None:
        self.wired, self.arm, self.robot = wired, wired.arm, robot
        self.wished = 0

    @property
    def reading(self) -> Reading:
        reading = self.robot.read()
        assert reading is not None
        return reading

    def stream(self, seconds: float, joint: int = 0, opening: float | None = None) -> None:
        """Targets at 10 Hz, each its own, 1 degree a step away from the start."""
        for _ in range(int(10 * seconds)):
            self.wished += 1
            target = START.copy()
            target[joint] += np.deg2rad(1.0) * min(self.wished, 9)
            target[5] += np.deg2rad(0.02) * self.wished  # makes it unique
            self.robot.write(target, opening)
            time.sleep(0.1)

    def assert_safe(self) -> None:
        """Nothing unsafe, and nothing twice."""
        assert audit(self.arm.journal.entries(), AuditLimits()) == []
        targets = [tuple(target) for target in self.wired.targets()]
        assert len(set(targets)) == len(targets)

    def motions_since(self, time_ns: int) -> list[int]:
        entries = self.arm.journal.entries(time_ns)
        return [entry.command for entry in entries if entry.command in MOTION]

    def last(self, event: str) -> int:
        """When the event happened last."""
        return [e for e in self.arm.journal.entries() if e.event == event][-1].time_ns


@contextlib.contextmanager
def session(
    kind: str = "serial",
    driver: str = "wire",
    config: MyCobotConfig | None = None,
    connect: bool = True,
    powered: bool = True,
) -> Iterator[Session]:
    if driver == "pymycobot":
        pytest.importorskip("pymycobot")
    threads = threading.active_count()
    with wired_arm(kind, powered=powered, newest_only=False) as wired:
        robot = MyCobot(arm_driver(wired.url, driver), config)
        try:
            if connect:
                robot.connect()
            yield Session(wired, robot)
        finally:
            robot.close()
    assert threading.active_count() == threads
