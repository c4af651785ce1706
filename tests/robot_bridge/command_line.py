"""The robot-bridge command as a user starts it: scripts, a policy, an arm, logs."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np

from arp_jax.specs import ObservationSpec, PolicySpec
from robot_bridge.arm import HOME_DEGREES, action_spec, state_spec
from robot_bridge.emulator import Emulator, EmulatorConfig, PtyPort, TcpPort, audit
from robot_bridge.log.episode_log import read_log
from tests.commands import run_module

PATIENCE_S = 60.0
# Arm, then gripper, then arm again: a second and a half.
SCRIPT = f"""
[[pose]]
angles_deg = {list(HOME_DEGREES)}
gripper = 1.0
[[pose]]
angles_deg = {[HOME_DEGREES[0], HOME_DEGREES[1] + 8.0, *HOME_DEGREES[2:]]}
seconds = 0.6
[[pose]]
gripper = 0.6
seconds = 0.5
[[pose]]
angles_deg = {list(HOME_DEGREES)}
seconds = 0.6
"""


@dataclasses.dataclass
class HomeActor:
    """A policy that wants joint 1 a little further on in each row."""

    spec: PolicySpec
    content_hash: str = "c0ffee"

    @property
    def manifest(self):
        return {"policy": "home", "content_hash": self.content_hash}

    def act(self, observation, seed=0):
        rows = np.repeat(observation["state"][:, -1:], self.spec.horizon, axis=1)
        rows[..., 0] += 0.01 * np.arange(self.spec.horizon)
        return rows.astype(np.float32)

    def warm_up(self):
        return 0.0


def policy_spec(rate_hz=10.0):
    """Of a policy that fits the arm with a gripper."""
    observation = ObservationSpec((state_spec(True),))
    return PolicySpec(observation, action_spec(True, rate_hz), window=1, horizon=10)


def write_script(folder, text=SCRIPT):
    """A file with key poses."""
    path = folder / "script.toml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def emulated_arm(kind, **config):
    """The arm at home and its URL; afterwards nothing unsafe must have reached it."""
    arm = Emulator(EmulatorConfig(**config))
    with PtyPort(arm) if kind == "serial" else TcpPort(arm) as port:
        if kind == "serial":
            yield arm, f"serial:{port.path}"
        else:
            yield arm, "tcp:{}:{}".format(*port.address)
    assert audit(arm.journal.entries()) == []


def own_folders(folder):
    """Flags: what the command keeps, it keeps in `folder`."""
    return [f"--set=log.folder={folder}", f"--set=replay_check.folder={folder / 'checks'}"]


def bridge(folder, command, *arguments, status=0):
    """Runs a command in `folder`, logging there; returns its output, or its errors."""
    flags = [*arguments, *own_folders(folder)]
    return run_module("robot_bridge", command, *flags, cwd=folder, status=status)


@contextlib.contextmanager
def running_bridge(folder, command, *arguments):
    """The command as a process that goes on; ended by SIGTERM unless it has ended."""
    flags = [*own_folders(folder), *map(str, arguments)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "robot_bridge", command, *flags],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def wait_for_line(process, part):
    """Reads the output up to the line that contains `part`, and returns that."""
    for line in process.stdout:
        if part in line:
            return line
    raise AssertionError(f"the command ended without saying {part!r}")


def wait_until(condition, what, process=None):
    """Waits for something that happens elsewhere; not longer than the process lives."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, f"{what}: the command has ended"
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def logs_in(folder):
    """The logs of a folder, oldest first."""
    return [read_log(path) for path in sorted(folder.glob("*.arplog"))]
