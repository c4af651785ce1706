"""The page's server with the real bridge behind it, and the emulated arm behind that."""

import json
import time

import pytest

from robot_bridge.emulator import Emulator, EmulatorConfig, PtyPort, audit
from robot_bridge.log.episode_log import read_log
from robot_bridge.web.web_server import WebServer, WebSettings
from tests.robot_bridge.test_daemon import make_bridge
from tests.robot_bridge.test_web_server import (
    TOKEN,
    command,
    hello,
    http,
    open_socket,
    wait_message,
)

PATIENCE_S = 60.0


@pytest.fixture
def emulator():
    return Emulator(EmulatorConfig(turnaround_s=0.005))


@pytest.fixture
def bridge(emulator, tmp_path):
    with PtyPort(emulator) as port, make_bridge(f"serial:{port.path}", tmp_path) as running:
        yield running


def wait_status(page, condition):
    """The first status for which this holds; the page is kept alive meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = wait_message(page, "state")["status"]
        if condition(status):
            return status
        page.send('{"type":"beat","sent":1}')
    raise AssertionError(f"never: {json.dumps(status)}")


def give(page, name, mode=None, **arguments):
    """A command that is accepted, and the mode that follows."""
    deadline = time.monotonic() + PATIENCE_S
    while not (reply := command(page, name, arguments))["ok"]:
        # The arm's first reading may still be on its way.
        assert time.monotonic() < deadline, reply
        time.sleep(0.1)
    if mode is not None:
        return wait_status(page, lambda status: status["mode"] == mode)
    return None


def test_a_person_runs_corrects_and_stops_the_arm(bridge, emulator, tmp_path):
    with WebServer(bridge, WebSettings(port=0, token=TOKEN)) as server, open_socket(server) as page:
        hello(page)
        give(page, "start", "running")
        give(page, "hold", "hold")
        give(page, "resume", "running")
        give(page, "note", text="the cup is to the left")
        give(page, "takeover", how="jog")
        taken = wait_status(page, lambda s: s["source"]["takeover"] and s["mode"] == "running")
        assert {"jog", "gripper", "give_back"} <= set(taken["commands"])
        before = taken["reading"]["angles"][1]
        give(page, "jog", joint="joint2", change=0.05)
        wait_status(page, lambda s: abs(s["reading"]["angles"][1] - before - 0.05) < 0.02)
        refused = command(page, "jog", {"joint": "joint2", "change": 1.0})
        assert not refused["ok"]
        assert http(server, "/estop", "POST", Authorization=f"Bearer {TOKEN}")[0] == 200
        stopped = wait_status(page, lambda s: s["mode"] == "estop")
        assert "reset" in stopped["commands"]
        assert not command(page, "resume")["ok"]
        give(page, "reset", "idle")
    bridge.close()
    (path,) = tmp_path.glob("*.arplog")
    log = read_log(path)
    assert "estop" in log.end
    texts = {marker.name: marker.text for marker in log.markers}
    assert "intervention_begin" in texts
    assert "the cup is to the left" in [marker.text for marker in log.markers]
    assert {step.source for step in log.steps} == {"script", "takeover"}
    assert audit(emulator.journal.entries()) == []


def test_the_arm_is_held_when_nobody_looks(bridge, tmp_path):
    settings = WebSettings(port=0, token=TOKEN, deadman_s=3.0)
    with WebServer(bridge, settings) as server, open_socket(server) as page:
        hello(page)
        page.send('{"type":"beat","sent":1}')
        give(page, "start", "running")
        deadline = time.monotonic() + PATIENCE_S
        while wait_message(page, "state")["status"]["mode"] != "hold":  # and no beats
            assert time.monotonic() < deadline
    bridge.close()
    (path,) = tmp_path.glob("*.arplog")
    assert "no page was heard for 3 s: hold" in [m.text for m in read_log(path).markers]
