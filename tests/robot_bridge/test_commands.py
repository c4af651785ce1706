"""Each command against the emulated arm, as a user starts it; audited on the wire."""

import dataclasses
import signal

import numpy as np
import pytest

from robot_bridge.emulator import Faults
from robot_bridge.settings.config import read_config
from robot_bridge.wire.frames import Command
from tests.policy_servers import running_server
from tests.robot_bridge.command_line import (
    HomeActor,
    bridge,
    emulated_arm,
    logs_in,
    policy_spec,
    running_bridge,
    wait_for_line,
    wait_until,
    write_script,
)


def received(arm):
    """Ids of everything that reached the arm, in order."""
    return [entry.frame.command for entry in arm.journal.entries() if entry.frame is not None]


@pytest.mark.parametrize(
    ("kind", "driver"),
    [("serial", "wire"), pytest.param("tcp", "pymycobot", marks=pytest.mark.slow)],
)
def test_check_says_ok_line_by_line(kind, driver, tmp_path):
    with emulated_arm(kind) as (arm, url):
        text = bridge(
            tmp_path, "check", f"--robot={url}", "--seconds=0.5", f"--set=robot.driver={driver}"
        )
        assert not arm.journal.count(Command.SEND_ANGLES)
    lines = {line[6:20].strip(): line for line in text.splitlines()}
    for subject in ("port", "joint zeros", "arm", "power", "error", "angles", "gripper"):
        assert lines[subject].startswith("ok  "), text
    assert "fresh_mode 1" in lines["arm"]
    assert ", 0 failures" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "faults", "expected"),
    [
        ({"powered": False}, {"power_stuck": True}, "FAIL  arm "),
        ({}, {"gripper_unreadable": True}, "warn  gripper "),
        ({}, {"error": 3}, "FAIL  error "),
        ({}, {"silent": True}, "FAIL  arm "),
    ],
)
def test_check_finds_what_is_wrong_and_says_what_to_do(config, faults, expected, tmp_path):
    with emulated_arm("serial", **config) as (arm, url):
        arm.faults = Faults(**faults)
        level, _, _ = expected.partition(" ")
        status = 1 if level == "FAIL" else 0
        text = run_whatever(tmp_path, status, f"--robot={url}")
    assert expected in text, text
    after = text[text.index(expected) :].splitlines()
    assert after[1].strip().startswith("-> "), text


def run_whatever(folder, status, *arguments):
    """A check's output, whether it failed or not."""
    with running_bridge(folder, "check", "--seconds=0.3", *arguments) as process:
        text = process.stdout.read()
        assert process.wait() == status, text
    return text


@pytest.mark.slow
def test_check_without_a_port_lists_what_is_there(tmp_path):
    text = run_whatever(tmp_path, 1, "--robot=serial:/dev/ttyNONE")
    assert "FAIL  port" in text
    assert "Transponder" in text
    assert "arm " not in text.partition("port")[2].partition("->")[0]


@pytest.mark.parametrize("kind", ["tcp", pytest.param("serial", marks=pytest.mark.slow)])
def test_replay_of_a_script_then_of_its_log(kind, tmp_path):
    script = write_script(tmp_path)
    with emulated_arm(kind) as (arm, url):
        run = [f"--robot={url}", "--yes", "--no_web", "--instruction=wave"]
        text = bridge(tmp_path, "replay", script, *run)
        assert "dry run in the twin: ok" in text
        assert "followed: ok" in text
        targets = [e.target for e in arm.journal.entries() if e.target is not None]
        assert max(target[1] for target in targets) == pytest.approx(41.39, abs=0.05)
        (log,) = logs_in(tmp_path)
        assert log.header.instruction == "wave"
        assert {step.source for step in log.steps} == {"script"}
        assert log.end is not None
        assert "finished" in log.end
        if kind == "tcp":
            return
        again = bridge(tmp_path, "replay", log.path, "--speed=0.5", *run, "--no_preflight")
        assert "dry run" not in again
    replayed = logs_in(tmp_path)[-1]
    assert {step.source for step in replayed.steps} == {"replay"}
    assert len(replayed.steps) > 1.5 * len(log.steps)


@pytest.mark.slow
def test_a_script_into_the_table_is_refused_before_anything_moves(tmp_path):
    text = write_script(tmp_path).read_text().replace("41.39", "110.0")
    script = write_script(tmp_path, text.replace("seconds = 0.6", "seconds = 3"))
    with emulated_arm("serial") as (arm, url):
        said = bridge(tmp_path, "replay", script, f"--robot={url}", "--yes", "--no_web", status=2)
        assert "error: the dry run refuses" in said
        assert not arm.journal.count(Command.SEND_ANGLES)
    assert logs_in(tmp_path) == []
    folder = tmp_path / "report"
    bridge(tmp_path, "twin", script, f"--report={folder}", status=5)
    assert '"verdict": "refuse"' in (folder / "report.json").read_text()


@pytest.mark.slow
def test_twin_allows_what_is_safe_and_opens_nothing(tmp_path):
    config = tmp_path / "arm.toml"
    config.write_text("[robot]\nurl = 'serial:/dev/ttyNONE'\n[[camera]]\nname='top'\nsource='0'\n")
    said = bridge(tmp_path, "twin", write_script(tmp_path), f"--config={config}")
    assert "dry run in the twin: ok" in said


def test_teach_frees_the_joints_and_grips_them_again(tmp_path):
    with emulated_arm("tcp") as (arm, url):
        bridge(tmp_path, "teach", f"--robot={url}", "--yes", "--no_web", "--seconds=2")
        assert arm.journal.count(Command.RELEASE_ALL_SERVOS) == 1
        assert arm.journal.count(Command.SEND_ANGLES) == 0
        freed = received(arm).index(Command.RELEASE_ALL_SERVOS)
        assert Command.FOCUS_SERVO in received(arm)[freed:]
    (log,) = logs_in(tmp_path)
    assert {step.source for step in log.steps} == {"teach"}
    assert len(log.steps) > 5


@pytest.mark.slow
def test_record_plays_a_script_as_often_as_asked(tmp_path):
    with emulated_arm("serial") as (_, url):
        script = write_script(tmp_path)
        flags = ["--episodes=2", f"--robot={url}", "--yes", "--no_web"]
        bridge(tmp_path, "record", f"--script={script}", *flags)
    logs = logs_in(tmp_path)
    assert [log.end is not None for log in logs] == [True, True]
    assert all(len(log.steps) > 10 for log in logs)


@pytest.mark.slow
def test_calibrate_writes_settings_that_can_be_used(tmp_path):
    path = tmp_path / "measured.toml"
    with emulated_arm("serial", lag_s=0.2) as (_, url):
        text = bridge(
            tmp_path, "calibrate", f"--robot={url}", "--yes", "--watch=1", f"--write={path}"
        )
    assert "ok    joint zeros" in text
    lines = [line for line in text.splitlines() if "time constant" in line and "rms" in line]
    assert len(lines) == 6
    constants = [int(line.split("time constant ")[1].split()[0]) for line in lines]
    assert np.median(constants) == pytest.approx(200, abs=50), text
    config = read_config(path)
    assert 5 <= config.loop.rate_hz <= 20
    assert "joint6" in path.read_text()


def test_run_with_a_remote_policy(tmp_path):
    with emulated_arm("serial") as (_, url), running_server(HomeActor(policy_spec())) as server:
        flags = [f"--policy={server}", f"--robot={url}", "--yes", "--no_web", "--seconds=4"]
        text = bridge(tmp_path, "run", *flags, "--preflight_seconds=1", "--no_replay_check")
    assert "dry run in the twin: ok" in text
    (log,) = logs_in(tmp_path)
    assert {step.source for step in log.steps} == {"policy"}
    assert log.header.versions["artifact"] == "c0ffee"
    assert log.header.robot["replay_check"] == "skipped by --no_replay_check"
    moved = log.steps[-1].command[0] - log.steps[0].command[0]
    assert moved > 0.05


@pytest.mark.slow
def test_run_refuses_a_policy_that_means_something_else(tmp_path):
    with running_server(HomeActor(policy_spec(rate_hz=20.0))) as server:
        said = bridge(tmp_path, "run", f"--policy={server}", "--yes", "--no_web", status=2)
    assert "rate_hz: the policy's is 20.0, the robot's 10.0" in said
    other = policy_spec()
    wanted = dataclasses.replace(other.action, gripper="open=0")
    actor = HomeActor(dataclasses.replace(other, action=wanted))
    with running_server(actor) as server:
        text = run_whatever(tmp_path, 1, f"--policy={server}")
    assert "FAIL  policy" in text
    assert "action gripper: the policy's is 'open=0', the robot's 'open=1'" in text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_holds_the_arm_and_closes_the_log(number, tmp_path):
    with emulated_arm("serial") as (arm, url), running_server(HomeActor(policy_spec())) as server:
        flags = [f"--policy={server}", f"--robot={url}", "--yes", "--no_web", "--no_preflight"]
        flags += ["--no_replay_check"]
        with running_bridge(tmp_path, "run", *flags) as process:
            wait_until(lambda: arm.journal.count(Command.SEND_ANGLES) > 5, "nothing moved", process)
            process.send_signal(number)
            assert signal.Signals(number).name in wait_for_line(process, "ended:")
            assert process.wait(timeout=60) == 0
        moves = (Command.SEND_ANGLES, Command.STOP)
        assert [command for command in received(arm) if command in moves][-1] == Command.STOP
    (log,) = logs_in(tmp_path)
    assert log.end is not None
    assert log.damage is None


@pytest.mark.slow
def test_a_lost_arm_ends_a_run_that_nobody_watches(tmp_path):
    with emulated_arm("serial") as (arm, url):
        script = write_script(tmp_path)
        flags = [f"--robot={url}", "--yes", "--no_web", "--no_preflight", "--speed=0.2"]
        with running_bridge(tmp_path, "replay", script, *flags) as process:
            wait_until(lambda: arm.journal.count(Command.SEND_ANGLES) > 5, "nothing moved", process)
            arm.faults = Faults(silent=True)
            assert "stopped (" in wait_for_line(process, "stopped")
            assert process.wait(timeout=60) == 3


@pytest.mark.slow
def test_waiting_for_start_moves_nothing(tmp_path):
    with emulated_arm("serial") as (arm, url), running_server(HomeActor(policy_spec())) as server:
        flags = [f"--policy={server}", f"--robot={url}", "--wait_for_start", "--seconds=2"]
        flags += ["--no_preflight", "--no_replay_check", "--set=web.port=0"]
        text = bridge(tmp_path, "run", *flags)
        assert "page: http://127.0.0.1:" in text
        assert arm.journal.count(Command.SEND_ANGLES) == 0
    assert logs_in(tmp_path) == []
