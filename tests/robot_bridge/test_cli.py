"""The command line itself: help with examples, mistakes in one line, flags that become settings."""

import argparse
import io
import shlex

import pytest

from robot_bridge.__main__ import COMMANDS, main, make_parser
from robot_bridge.commands.flags import config_of
from robot_bridge.commands.terminal import KEYS, LiveLine, confirm, status_line
from robot_bridge.loop.operator import COMMANDS as BRIDGE_COMMANDS
from robot_bridge.settings.config import default_text, read_config


def flags_of(*argv):
    return make_parser().parse_args(argv)


def refused(capsys, *argv):
    """What is said about a wrong command line: one line."""
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_has_help_with_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    examples = [
        shlex.split(line, comments=True)
        for line in text.splitlines()
        if line.strip().startswith(f"robot-bridge {command}")
    ]
    assert len(examples) >= 3
    for example in examples:
        assert make_parser().parse_args(example[1:]).command == command


def test_without_a_command_there_is_help(capsys):
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_flags_become_settings(tmp_path):
    flags = flags_of(
        *("run", "--policy=ws://h:1", "--robot=tcp:1.2.3.4:9000", "--no_web", f"--out={tmp_path}"),
        *("--instruction", 'say "hi"', "--set", "loop.rate_hz=20", "--set=safety.speed_deg_s=30"),
    )
    config = config_of(flags)
    assert config.robot.url == "tcp:1.2.3.4:9000"
    assert config.policy.server == "ws://h:1"
    assert config.policy.instruction == 'say "hi"'
    assert config.log.folder == tmp_path
    assert config.loop.rate_hz == 20
    assert not config.web.enabled


def test_a_policy_flag_replaces_the_other_kind_in_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[policy]\nartifact = '/somewhere'\n")
    config = config_of(flags_of("run", f"--config={path}", "--policy=ws://h:1"))
    assert (config.policy.server, config.policy.artifact) == ("ws://h:1", None)
    config = config_of(flags_of("run", f"--config={path}", "--policy=/elsewhere"))
    assert (config.policy.server, str(config.policy.artifact)) == ("", "/elsewhere")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--yes"], "no policy: say --policy="),
        (["run", "--policy=/nowhere"], "policy.artifact: /nowhere holds no exported policy"),
        (["run", "--policy=ws://h:1", "--seconds=0"], "--seconds=0.0: must be above 0"),
        (["check", "--config=none.toml"], "--config=none.toml: cannot be read"),
        (["check", "--set", "loop.rat_hz=3"], "did you mean 'rate_hz'?"),
        (["replay", "none.arplog"], "none.arplog: cannot be read"),
        (["replay", "none.txt"], "none.txt: expected a log"),
        (["teach", "--set", "log.enabled=false"], "there is nothing to record to"),
        (["record", "--page", "--no_web"], "--page needs the page"),
        (["record", "--script=x.toml", "--episodes=0"], "--episodes=0: must be at least 1"),
        (["twin", "x.toml", "--robot=tcp:h"], "is real; this command only simulates"),
        (["calibrate", "--watch=0"], "--watch=0.0: must be above 0"),
        (["calibrate", "--robot=usb:1"], "expected serial:/dev/ttyACM0"),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    assert message in refused(capsys, *argv)


def test_the_default_settings_can_be_written_once(tmp_path, capsys):
    path = tmp_path / "arm.toml"
    assert main([f"--write_config={path}"]) == 0
    assert path.read_text() == default_text()
    assert read_config(path) == read_config(None)
    capsys.readouterr()
    assert "File exists" in refused(capsys, f"--write_config={path}")


def test_nothing_moves_without_a_word():
    out = io.StringIO()
    with pytest.raises(ValueError, match=r"Move\? There is no terminal to ask on: say --yes"):
        confirm("Move?", False, io.StringIO("y\n"), out)
    confirm("Move?", True, io.StringIO(), out)
    terminal = io.StringIO("yes\n")
    terminal.isatty = lambda: True
    confirm("Move?", False, terminal, out)
    for answer in ("\n", "n\n", ""):
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True
        with pytest.raises(ValueError, match="not confirmed"):
            confirm("Move?", False, terminal, out)
    assert out.getvalue().count("[y/N]") == 4


def snapshot(**changes):
    """A status as the bridge gives it, as far as the terminal looks at it."""
    status = {
        "mode": "running",
        "reason": "started",
        "reading": {"angles": [0.5] * 6, "gripper": 0.25, "gripper_measured": False},
        "source": {"name": "p at ws://h", "late": 2, "ready": True, "last_error": "waiting"},
        "interventions": {"speed:joint1": 3, "waited": 1},
        "recorder": {"recording": True, "steps": 17, "trouble": ""},
        "robot": {"connected": True, "last_error": "unplugged"},
    }
    return status | changes


def test_the_line_says_what_matters():
    line = status_line(snapshot())
    for part in ("running", "28.6", "gripper 0.25?", "2 late", "interventions 4", "17 steps"):
        assert part in line
    fault = status_line(snapshot(mode="fault", reason="joint1 is 40 degrees from its target"))
    assert fault.index("joint1 is 40") < fault.index("28.6")
    assert "no reading" in status_line(snapshot(reading=None))
    assert "unplugged" not in line
    assert "waiting" not in line
    lost = status_line(snapshot(robot={"connected": False, "last_error": "x" * 500}))
    assert len(lost) <= 118
    assert lost.endswith("...")


def test_without_a_terminal_there_is_a_line_a_change():
    out = io.StringIO()
    live = LiveLine(out, write_every=5)
    for mode in ["idle"] * 3 + ["running"] * 4:
        live.show(snapshot(mode=mode))
    live.end()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == [
        "idle",
        "running",
        "running",
    ]


def test_keys_are_commands_of_the_bridge():
    assert set(KEYS.values()) <= set(BRIDGE_COMMANDS)
    assert KEYS[" "] == "estop"


def test_every_command_takes_the_settings():
    for name in COMMANDS:
        extra = {"replay": ["x.toml"], "record": ["--page"]}.get(name, [])
        flags = flags_of(name, *extra, "--set=loop.rate_hz=11")
        assert isinstance(flags, argparse.Namespace)
        assert config_of(flags).loop.rate_hz == 11
