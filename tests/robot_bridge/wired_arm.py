"""An emulated arm behind each kind of port, for tests of what speaks to it."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from robot_bridge.emulator import ALWAYS, Emulator, EmulatorConfig, Faults, PtyPort, Rule, TcpPort
from robot_bridge.wire.arm_driver import ArmDriver
from robot_bridge.wire.frames import Command, Frame
from robot_bridge.wire.ports import arm_driver

LINES = ("serial", "tcp")
WAYS = [(line, driver) for line in LINES for driver in ("wire", "pymycobot")]
START = np.deg2rad([10.0, 20.0, -30.0, 40.0, -50.0, 60.0])


class WiredArm:
    """The arm, its port and the port's address."""

    def __init__(self, kind: str, arm: Emulator, port: PtyPort | TcpPort) -> None:
        self.kind, self.arm, self.port = kind, arm, port
        if isinstance(port, PtyPort):
            self.url = f"serial:{port.path}"
        else:
            self.address = port.address
            self.url = "tcp:{}:{}".format(*port.address)

    def count(self, command: Command) -> int:
        """How many of these frames arrived."""
        return self.arm.journal.count(command)

    def frames(self) -> list[Frame]:
        """Everything that arrived, in order."""
        return [entry.frame for entry in self.arm.journal.entries() if entry.frame is not None]

    def targets(self) -> list[np.ndarray]:
        """The targets [6] that arrived, rad, in order."""
        targets = [entry.target for entry in self.arm.journal.entries()]
        return [np.deg2rad(target) for target in targets if target is not None]

    def at(self, angles: np.ndarray) -> bool:
        """Whether the arm truly is there."""
        return bool(np.allclose(self.arm.state().degrees, np.rad2deg(angles), atol=0.02))


def each_way(*quick: str) -> Callable[[Callable], Callable]:
    """Parametrizes `kind` and `driver`; all ways but those named ("serial-wire") are slow tests."""
    ways = [
        pytest.param(*way, id=name, marks=() if name in quick else pytest.mark.slow)
        for way in WAYS
        for name in ["-".join(way)]
    ]
    return pytest.mark.parametrize(("kind", "driver"), ways)


@contextlib.contextmanager
def wired_arm(kind: str, powered: bool = True, newest_only: bool = True) -> Iterator[WiredArm]:
    """An arm at `START`, on a line of `LINES`."""
    degrees = tuple(np.rad2deg(START).tolist())
    arm = Emulator(EmulatorConfig(degrees=degrees, powered=powered, newest_only=newest_only))
    with PtyPort(arm) if kind == "serial" else TcpPort(arm) as port:
        yield WiredArm(kind, arm, port)


@contextlib.contextmanager
def opened(wired: WiredArm, driver: str = "wire") -> Iterator[ArmDriver]:
    """A driver of this arm."""
    if driver == "pymycobot":
        pytest.importorskip("pymycobot")
    made = arm_driver(wired.url, driver)
    made.open()
    try:
        yield made
    finally:
        made.close()


def near(angles: np.ndarray | None, expected: np.ndarray) -> bool:
    """Whether these are angles [6], and those expected."""
    return angles is not None and np.allclose(angles, expected, atol=np.deg2rad(0.1))


def strike(fault: str, rule: Rule = ALWAYS) -> Faults:
    """One fault that has a rule, by its name."""
    changes: dict[str, Any] = {fault: rule}
    return dataclasses.replace(Faults(), **changes)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Waits for something that happens in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen in {seconds} s: {what}"
        time.sleep(0.005)
