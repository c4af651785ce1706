"""The bridge as a whole in real time: the emulated arm on its wire, threads, signals, the log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from arp_jax.specs import ObservationSpec
from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.arm import HOME, action_spec, state_spec
from robot_bridge.emulator import Emulator, EmulatorConfig, PtyPort, audit
from robot_bridge.log.episode_log import read_log
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.parts import Parts
from robot_bridge.robots import RobotError
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.wire.ports import open_robot
from tests.robot_bridge.test_status import KEYS

PATIENCE_S = 60.0
START = np.array([*HOME, 1.0], np.float32)


def course(seconds):
    """A slow swing of two joints that ends after `seconds`."""
    times = np.arange(0.0, seconds + 0.05, 0.1)
    actions = np.tile(START, (len(times), 1))
    actions[:, 0] += 0.2 * np.sin(np.pi * times / 2)
    actions[:, 3] -= 0.1 * np.sin(np.pi * times / 2)
    return TrajectorySource(Trajectory(np.int64(times * 1e9), actions, "test"), "swing", "script")


def make_bridge(url, folder, seconds=1000.0, **parts):
    spec = ObservationSpec((state_spec(True),))
    made = Parts(
        open_robot(url), course(seconds), Limits(), spec, action_spec(True), log_folder=folder,
        rate_hz=20.0, **parts,
    )  # fmt: skip
    # Priorities and garbage are the process's: not in the tests' one.
    return Bridge(made, real_time=False)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(10)
    assert not [thread.name for thread in left if thread.is_alive()]


@pytest.fixture
def arm():
    emulator = Emulator(EmulatorConfig(turnaround_s=0.005))
    with PtyPort(emulator) as port:
        emulator.url = f"serial:{port.path}"
        yield emulator
    assert audit(emulator.journal.entries()) == []


def wait_for(condition, bridge):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, bridge.status()
        time.sleep(0.02)


def wait_for_mode(bridge, mode):
    wait_for(lambda: bridge.status()["mode"] == mode, bridge)


def test_a_whole_run_over_the_wire(arm, tmp_path):
    with make_bridge(arm.url, tmp_path, seconds=1.5, approach=np.array(HOME) + 0.05) as bridge:
        status = bridge.status()
        assert status["mode"] == "idle"
        assert set(status) == KEYS
        assert json.loads(json.dumps(status, allow_nan=False)) == status
        bridge.command("instruction", text="swing")
        bridge.command("start")
        done = bridge.run(PATIENCE_S, until=lambda: bridge.status()["recorder"]["episodes"] > 0)
        assert done == "done"
        status = bridge.status()
        assert status["reason"] == "swing has finished"
        assert status["robot"]["connected"]
        assert status["episode"] == {"number": 1, "instruction": "swing"}
        assert abs(status["reading"]["angles"][0] - HOME[0]) < 0.3
    assert bridge.lost_steps == 0
    (path,) = tmp_path.glob("*.arplog")
    log = read_log(path)
    assert log.end == "swing has finished"
    assert log.header.instruction == "swing"
    assert log.header.robot["port"] in arm.url
    assert len(log.steps) > 5
    np.testing.assert_allclose(arm.state().degrees, np.degrees(log.steps[-1].command[:6]), atol=1.5)
    bridge.close()  # twice does no harm


def test_commands_are_refused_where_they_do_nothing(arm, tmp_path):
    with make_bridge(arm.url, tmp_path) as bridge:
        with pytest.raises(ValueError, match="possible"):
            bridge.command("resume")
        with pytest.raises(ValueError, match="taken over"):
            bridge.command("jog", joint="joint1", change=0.1)
        with pytest.raises(ValueError, match="unknown command"):
            bridge.command("dance")
        with pytest.raises(ValueError, match="no camera 'top'"):
            bridge.frame("top")
        bridge.command("estop")
        wait_for_mode(bridge, "estop")
        with pytest.raises(ValueError, match="start is not possible in mode estop"):
            bridge.command("start")
        assert bridge.status()["commands"] == ["hold", "estop", "reset", "note", "instruction"]


def test_an_estop_reaches_the_wire_from_any_thread(arm, tmp_path):
    with make_bridge(arm.url, tmp_path) as bridge:
        bridge.command("start")
        wait_for(lambda: bridge.status()["recorder"]["steps"] > 5, bridge)
        presser = threading.Thread(target=bridge.command, args=("estop",))
        presser.start()
        presser.join()
        pressed = time.monotonic_ns()
        wait_for_mode(bridge, "estop")
        time.sleep(1.0)
        late = [
            entry
            for entry in arm.journal.entries(pressed + 300_000_000)
            if entry.target is not None
        ]
        assert late == []
        assert not arm.state().moving
    (path,) = tmp_path.glob("*.arplog")
    assert read_log(path).end == "estop by the operator"


def test_closing_in_the_middle_ends_the_episode(arm, tmp_path):
    bridge = make_bridge(arm.url, tmp_path)
    bridge.open()
    bridge.command("start")
    wait_for(lambda: bridge.status()["recorder"]["steps"] > 5, bridge)
    bridge.close()
    (path,) = tmp_path.glob("*.arplog")
    log = read_log(path)
    assert log.end == "the bridge was closed"
    assert log.damage is None
    time.sleep(0.5)
    assert not arm.state().moving


def test_a_pulled_cable_holds_and_a_person_resumes(tmp_path):
    emulator = Emulator(EmulatorConfig(turnaround_s=0.005))
    with PtyPort(emulator) as port, make_bridge(f"serial:{port.path}", tmp_path) as bridge:
        bridge.command("start")
        wait_for(lambda: bridge.status()["recorder"]["steps"] > 5, bridge)
        port.disconnect()
        wait_for_mode(bridge, "hold")
        steps = bridge.status()["recorder"]["steps"]
        with pytest.raises(ValueError, match="resume is refused: "):
            bridge.command("resume")
        port.connect()

        def resumed():
            with contextlib.suppress(ValueError):
                bridge.command("resume")
            return bridge.status()["mode"] == "running"

        wait_for(resumed, bridge)
        wait_for(lambda: bridge.status()["recorder"]["steps"] > steps + 5, bridge)
        bridge.command("success")
        wait_for_mode(bridge, "idle")
    (path,) = tmp_path.glob("*.arplog")
    log = read_log(path)
    assert log.outcome is True
    assert any(marker.text.startswith("hold: ") for marker in log.markers)
    assert audit(emulator.journal.entries()) == []


def test_an_arm_that_does_not_answer_is_an_error_with_the_port(tmp_path):
    path = tmp_path / "nothing"
    bridge = make_bridge(f"serial:{path}", tmp_path / "logs")
    with pytest.raises(RobotError, match="nothing"):
        bridge.open()
    bridge.close()


WAITING = """
import sys
import time
from pathlib import Path
from tests.robot_bridge.test_daemon import course
from robot_bridge.arm import action_spec, state_spec
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.parts import Parts
from robot_bridge.wire.ports import open_robot
from robot_bridge.safety.safety_filter import Limits
from arp_jax.specs import ObservationSpec
spec = ObservationSpec((state_spec(True),))
parts = Parts(open_robot(sys.argv[1]), course(1000.0), Limits(), spec, action_spec(True),
              log_folder=Path(sys.argv[2]), rate_hz=20.0)
with Bridge(parts) as bridge:
    bridge.command("start")
    while bridge.status()["recorder"]["steps"] < 5:
        time.sleep(0.01)
    print("running", flush=True)
    print(bridge.run(), bridge.scheduling, flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_holds_and_closes(arm, tmp_path, name):
    child = subprocess.Popen(
        [sys.executable, "-c", WAITING, arm.url, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    with child:
        assert child.stdout.readline() == "running\n"
        time.sleep(0.5)
        child.send_signal(getattr(signal, name))
        said = child.stdout.readline()
        assert child.wait(PATIENCE_S) == 0
    assert said.startswith(name)
    (path,) = tmp_path.glob("*.arplog")
    log = read_log(path)
    assert log.end == "the bridge was closed"
    assert not arm.state().moving
