"""The single checks and measurements: ports, cameras, folders, joint zeros, lag, settings."""

import contextlib
import os
import re
import socket
import sys
import time

import numpy as np
import pytest

from arp_jax.specs import CameraSpec
from robot_bridge.__main__ import main
from robot_bridge.arm import HOME, action_spec
from robot_bridge.cameras.capture import Capture, OpenCvCamera
from robot_bridge.commands.calibrate import Measured, settings, swing
from robot_bridge.commands.check_cameras import check_cameras, check_folder, picture_rate
from robot_bridge.commands.check_port import check_port
from robot_bridge.commands.check_zero import check_zero
from robot_bridge.commands.lag_fit import Lag, fit_lag
from robot_bridge.emulator import Faults
from robot_bridge.observations import Frame
from robot_bridge.settings.config import Config, read_config
from robot_bridge.wire.frames import Command
from tests.robot_bridge.command_line import emulated_arm, write_script
from tests.robot_bridge.test_cameras import HEIGHT, WIDTH, write_video


def levels(findings):
    return [(finding.level, finding.subject) for finding in findings]


def test_ports_that_are_not_there_or_no_ports(tmp_path):
    assert levels(check_port("sim:")) == [("ok", "port")]
    (missing,) = check_port(f"serial:{tmp_path}/ttyX")
    assert missing.level == "fail"
    assert "Transponder" in missing.advice
    (tmp_path / "file").touch()
    (wrong,) = check_port(f"serial:{tmp_path}/file")
    assert "is a file, no port" in wrong.text
    for url in ("usb", "serial:", "tcp:host", "tcp:host:x"):
        assert [f.level for f in check_port(url)] == ["fail"]


def test_a_port_of_another_group_says_how_to_join_it(monkeypatch):
    master, other = os.openpty()
    try:
        path = os.ttyname(other)
        assert levels(check_port(f"serial:{path}")) == [("ok", "port"), ("ok", "permission")]
        # Tests may run as root, to whom everything is permitted.
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setattr(os, "getgroups", lambda: [])
        _, finding = check_port(f"serial:{path}")
        assert finding.level == "fail"
        assert finding.advice.startswith("sudo usermod -aG ")
    finally:
        os.close(master)
        os.close(other)


def test_a_tcp_port_that_nobody_serves():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert levels(check_port(f"tcp:127.0.0.1:{port}")) == [("ok", "port")]
    (closed,) = check_port(f"tcp:127.0.0.1:{port}")
    assert closed.level == "fail"
    assert "Server_320.py" in closed.advice


@pytest.mark.parametrize("kind", ["serial", pytest.param("tcp", marks=pytest.mark.slow)])
def test_joint_zeros_are_those_of_the_fitted_kinematics(kind):
    with emulated_arm(kind, degrees=(10.0, 20.0, -30.0, 40.0, -50.0, 60.0)) as (arm, url):
        config = read_config(None, [f"robot.url={url}"])
        assert levels(check_zero(config)) == [("ok", "joint zeros")]
        arm.faults = Faults(silent=True)
        (finding,) = check_zero(config)
        assert finding.level == "warn"
        assert "no complete answer" in finding.text


def test_a_port_that_cannot_be_asked():
    (finding,) = check_zero(read_config(None, ["robot.url=serial:/dev/ttyNONE"]))
    assert finding.level == "fail"
    assert "no such port" in finding.advice


@pytest.mark.parametrize(
    ("missing", "settings_text", "message"),
    [
        (
            "mujoco",
            "",
            r"no dry run without MuJoCo: pip install 'robot-bridge\[twin\]'; or say --no_preflight",
        ),
        ("", "[[camera]]\nname='eye'\nsource='none'", "camera 'eye': .*; or say --no_preflight"),
    ],
)
def test_without_a_dry_run_nothing_moves_unasked(
    missing, settings_text, message, tmp_path, monkeypatch, capsys
):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    path = tmp_path / "arm.toml"
    path.write_text(settings_text)
    with emulated_arm("serial") as (arm, url):
        flags = [f"--config={path}", f"--robot={url}", "--yes", "--no_web", f"--out={tmp_path}"]
        assert main(["replay", str(write_script(tmp_path)), *flags]) == 2
        assert not arm.journal.count(Command.SEND_ANGLES)
    assert re.search(message, capsys.readouterr().err)


@contextlib.contextmanager
def camera_of(source, **options):
    spec = CameraSpec("top", HEIGHT, WIDTH)
    with contextlib.closing(OpenCvCamera(spec, Capture(str(source), **options))) as camera:
        yield camera


def test_cameras_that_deliver_and_such_that_are_too_slow(tmp_path):
    video = write_video(tmp_path / "a.avi", count=25)
    with camera_of(video, loop=True, fps=40) as camera:
        (good,) = check_cameras([camera], rate_hz=5.0, seconds=1.0)
        (slow,) = check_cameras([camera], rate_hz=500.0, seconds=0.5)
    assert good.level == "ok"
    assert f"{WIDTH} x {HEIGHT} rgb" in good.text
    assert slow.level == "fail"
    assert levels(check_cameras([], 10.0, 1.0)) == [("ok", "cameras")]


def test_a_camera_that_is_not_there_says_why(tmp_path):
    begin, later = time.monotonic_ns(), iter(range(0, 10**13, 10**9))
    with camera_of(tmp_path / "none.avi") as camera:
        (finding,) = check_cameras(
            [camera],
            10.0,
            1.0,
            now_ns=lambda: begin + next(later),
            sleep=lambda s: time.sleep(0.01),
        )
    assert finding.level == "fail"
    assert "no such file" in finding.advice


def test_picture_rate():
    frames = [Frame(i * 50_000_000, np.zeros((1, 1, 3), np.uint8)) for i in range(5)]
    assert picture_rate(frames) == pytest.approx(20.0)
    assert picture_rate(frames[:1]) == 0.0


def test_folders(tmp_path):
    assert check_folder(tmp_path / "new" / "logs", 2).level == "ok"
    assert list((tmp_path / "new/logs").iterdir()) == []
    (tmp_path / "file").touch()
    finding = check_folder(tmp_path / "file" / "logs", 1)
    assert finding.level == "fail"
    assert "log.folder" in finding.advice


@pytest.mark.parametrize(("delay", "tau"), [(0.0, 0.12), (0.08, 0.2), (0.2, 0.03)])
def test_the_lag_is_found(delay, tau):
    times = np.arange(0, 4, 0.1)
    commands = 0.3 + 0.1 * np.sin(2 * np.pi * times / 2)
    fine = np.arange(0, 4.5, 0.001)
    held = commands[np.clip(np.searchsorted(times, fine - delay, side="right") - 1, 0, None)]
    state, states = commands[0], []
    for target in held:
        states.append(state)
        state += 0.001 / tau * (target - state)
    read = np.sort(np.random.default_rng(0).uniform(0, 4.3, 90))
    noise = np.random.default_rng(1).normal(0, 1e-4, 90)
    lag = fit_lag(times, commands, read, np.interp(read, fine, states) + noise)
    assert lag.delay_s == pytest.approx(delay, abs=0.021)
    assert lag.tau_s == pytest.approx(tau, abs=0.021)
    assert lag.total_s == pytest.approx(delay + tau, abs=0.015)
    assert lag.rms < 2e-3


def test_a_lag_needs_motion_and_readings():
    times = np.arange(20) / 10
    with pytest.raises(ValueError, match="readings of a motion"):
        fit_lag(times, np.zeros(20), times, np.zeros(20))
    with pytest.raises(ValueError, match="3 readings"):
        fit_lag(times, times, times[:3], times[:3])


def test_the_swing_moves_one_joint_at_a_time_and_comes_back():
    start = np.array([*HOME, 0.5])
    course = swing(start, 10.0)
    course.check_limits(action_spec(True))
    away = np.abs(course.actions - start.astype(np.float32)) > 1e-6
    assert away.sum(axis=1).max() == 1
    assert away.any(axis=0).tolist() == [True] * 6 + [False]
    np.testing.assert_allclose(course.actions[-1], start, atol=1e-6)
    assert np.degrees(np.abs(course.actions - start).max()) == pytest.approx(6.0, abs=0.4)


def test_settings_follow_from_what_was_measured(tmp_path):
    path = tmp_path / "measured.toml"
    lags = {"joint1": Lag(0.05, 0.1, 0.0), "joint2": Lag(0.1, 0.4, 0.0)}
    path.write_text(settings(Config(), Measured(18.0, 0.3, {"top": 11.5}, lags), "today"))
    config = read_config(path)
    assert config.loop.rate_hz == 11.0  # the camera is the slowest
    assert config.watchdog.reading_s == (0.75, 1.5)
    assert np.degrees(config.safety.lag_rad) == pytest.approx(45.0)
    path.write_text(settings(Config(), Measured(3.0, 0.1, {}, {}), "today"))
    assert read_config(path).loop.rate_hz == 5.0
    assert read_config(path).watchdog == Config().watchdog
