"""A policy may move a real arm only after a replay that the arm followed, on that arm, lately."""

import datetime
import json
import os
import shlex

import numpy as np
import pytest

from arp_jax.specs import ObservationSpec
from robot_bridge.__main__ import main, make_parser
from robot_bridge.arm import action_spec, state_spec
from robot_bridge.commands.flags import config_of
from robot_bridge.commands.recordings import example_course
from robot_bridge.commands.replay_gate import (
    check_followed,
    forget_verdict,
    keep_verdict,
    use_record,
)
from robot_bridge.emulator import Faults
from robot_bridge.log.episode_log import EpisodeLog, Header
from robot_bridge.settings.config import read_config
from robot_bridge.twin.preflight import Rehearsal, SteppedClock, preflight
from robot_bridge.twin.replay_check import LiveCheck
from robot_bridge.twin.replay_record import read_record, record_path, remove_record, write_record
from robot_bridge.wire.frames import Command
from tests.policy_servers import running_server
from tests.robot_bridge.command_line import (
    HomeActor,
    bridge,
    emulated_arm,
    logs_in,
    policy_spec,
    running_bridge,
    write_script,
)

URL = "serial:/dev/mycobot"
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def days(number):
    return datetime.timedelta(days=number)


def asked(folder, *more):
    """Flags and settings of a run on a real arm."""
    argv = ["run", f"--robot={URL}", f"--set=replay_check.folder={folder}", *more]
    flags = make_parser().parse_args(argv)
    return flags, config_of(flags)


def a_report(follows):
    """Of an arm that swings as it is told, or stands."""
    check = LiveCheck(("joint1", "joint2"))
    for tick in range(60):
        command = np.array([0.3 * np.sin(tick / 10), 0.0])
        check.commanded(1 + tick * 100_000_000, command)
        check.achieved(2 + tick * 100_000_000, command if follows else np.zeros(2))
    return check.report()


def a_log(folder):
    robot = {"name": URL, "atom_version": 6.6}
    header = Header(ObservationSpec((state_spec(True),)), action_spec(True), "", robot)
    return EpisodeLog(folder / "a.arplog", header, (), (), "finished", None)


def keep(folder, *more, follows=True, when=NOON):
    return keep_verdict(asked(folder, *more)[1], a_report(follows), a_log(folder), "w.toml", when)


def test_a_verdict_is_kept_and_says_what_was_found(tmp_path):
    keep(tmp_path)
    record = read_record(tmp_path, URL, "adaptive")
    assert (record.time, record.file, record.robot["atom_version"]) == (NOON, "w.toml", 6.6)
    assert record.report["verdict"] == "ok"
    assert record.report["joints"]["joint1"]["largest_deg"] < 1.0
    assert record.report["lag_s"] < 0.1
    said = check_followed(*asked(tmp_path), NOON + days(6.9))
    assert said == "followed w.toml 6.9 days ago"


@pytest.mark.parametrize(
    ("more", "age", "part"),
    [
        ([], 7.0, "is 7.0 days old, replay_check.valid_days is 7;"),
        ([], -0.5, "0.5 days in the future"),
        (["--set=replay_check.valid_days=2"], 2.5, "2.5 days old"),
        (["--set=replay_check.valid_days=0"], 1.5, "1.5 days old"),
        (["--set=robot.tool=none"], 0.1, "tool none: no replay has shown"),
        (["--robot=serial:/dev/ttyACM1"], 0.1, "ttyACM1 with tool adaptive: no replay"),
        (["--robot=tcp:h"], 0.1, "tcp:h:9000 with tool adaptive: no replay"),
    ],
)
def test_another_arm_another_tool_and_an_old_record_are_refused(more, age, part, tmp_path):
    keep(tmp_path)
    with pytest.raises(ValueError, match="--no_replay_check") as refused:
        check_followed(*asked(tmp_path, *more), NOON + days(age))
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_advised_command_means_the_same_arm(tmp_path):
    config = tmp_path / "my arm.toml"
    config.write_text("[robot]\ntool = 'none'\n")
    flags, settings = asked(tmp_path, f"--config={config}")
    with pytest.raises(ValueError, match="no replay") as refused:
        check_followed(flags, settings)
    command = str(refused.value).partition("; run: ")[2].partition(" (or say")[0]
    again = make_parser().parse_args(shlex.split(command)[1:])
    assert again.example
    assert config_of(again) == settings


def test_an_arm_that_did_not_follow_loses_its_record(tmp_path):
    keep(tmp_path)
    assert "no policy may move" in keep(tmp_path, follows=False)
    assert list(tmp_path.iterdir()) == []
    keep(tmp_path)
    forget_verdict(asked(tmp_path)[1])
    forget_verdict(asked(tmp_path)[1])
    with pytest.raises(ValueError, match="no replay has shown"):
        check_followed(*asked(tmp_path), NOON)


def test_with_no_days_a_record_serves_one_run(tmp_path):
    for more, left in (([], True), (["--set=replay_check.valid_days=0"], False)):
        keep(tmp_path)
        check_followed(*asked(tmp_path, *more), NOON)
        use_record(asked(tmp_path, *more)[1])
        assert record_path(tmp_path, URL, "adaptive").exists() == left


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[1, 2]",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"ok"', '"refuse"'),
        lambda text: text.replace("+00:00", ""),
        lambda text: text.replace('"adaptive"', '"force"'),
        lambda text: text.replace('"report"', '"other"'),
    ],
)
def test_a_damaged_record_counts_for_nothing(change, tmp_path):
    keep(tmp_path)
    path = record_path(tmp_path, URL, "adaptive")
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=r"_adaptive.json: .*; run: robot-bridge replay --example"):
        check_followed(*asked(tmp_path), NOON)


def test_a_record_is_there_as_a_whole_or_as_it_was(tmp_path, monkeypatch):
    keep(tmp_path)
    record = read_record(tmp_path, URL, "adaptive")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_record(tmp_path, record)
    assert read_record(tmp_path, URL, "adaptive") == record
    assert len(list(tmp_path.iterdir())) == 1
    assert remove_record(tmp_path, URL, "adaptive")


def test_the_example_swings_each_joint_and_closes_the_gripper_alone():
    for tool in ("adaptive", "none"):
        config = read_config(None, [f"robot.tool={tool}"])
        course = example_course(config, 1.0).trajectory
        swung = np.degrees(np.ptp(course.actions[:, :6], axis=0))
        np.testing.assert_allclose(swung, 24.0, atol=0.7)
        assert 15 < course.seconds < 30
        if tool == "adaptive":
            steps = np.diff(course.actions, axis=0) != 0
            assert steps[:, 6].any()
            assert not (steps[:, :6].any(axis=1) & steps[:, 6]).any()
    with pytest.raises(ValueError, match=r"robot.start_deg, which is \[\]"):
        example_course(read_config(None, ["robot.start_deg=[]"]), 1.0)


@pytest.mark.parametrize("stuck", [None, *range(7)])
def test_no_stuck_joint_passes_the_example(stuck):
    course = example_course(read_config(None), 1.0).trajectory
    times = np.arange(0, course.times_ns[-1], 100_000_000)
    achieved = course.at(times)
    if stuck is not None:
        achieved[:, stuck] = achieved[0, stuck]
    check = LiveCheck(action_spec(True).dims)
    for time_ns, command, reading in zip(times, course.at(times), achieved, strict=True):
        check.commanded(1 + time_ns, command)
        check.achieved(2 + time_ns, reading)
    assert check.report().verdict == ("ok" if stuck is None else "refuse")


@pytest.mark.slow
def test_the_example_passes_its_dry_run():
    config = read_config(None)
    source = example_course(config, 1.0)
    plan = Rehearsal(
        limits=config.safety.limits("adaptive"),
        observation=ObservationSpec((state_spec(True),)),
        action=action_spec(True),
        start=config.robot.start_rad,
        goal=config.robot.start_rad,
        seconds=source.trajectory.seconds + 1,
    )
    report = preflight(source, plan, SteppedClock())
    assert report.reasons == ()
    assert report.interventions == {}


def test_mistakes_are_named(capsys):
    assert main(["run", "--robot=tcp:h", "--set=replay_check.valid_days=-1"]) == 2
    assert "replay_check: valid_days must be 0 ... 365" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["replay"])
    assert "one of the arguments FILE --example is required" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["replay", "x.toml", "--example"])


def test_a_policy_runs_after_a_replay_and_not_before(tmp_path):
    flags = ["--yes", "--no_web", "--no_preflight"]
    with emulated_arm("serial") as (arm, url), running_server(HomeActor(policy_spec())) as server:
        run = [f"--robot={url}", f"--policy={server}", *flags, "--seconds=3"]
        said = bridge(tmp_path, "run", *run, status=2)
        assert f"run: robot-bridge replay --example --robot={url}" in said
        assert said.count("\n") == 1
        assert not arm.journal.count(Command.SEND_ANGLES)
        text = bridge(tmp_path, "replay", write_script(tmp_path), f"--robot={url}", *flags)
        assert "a policy may move" in text
        (path,) = (tmp_path / "checks").iterdir()
        assert json.loads(path.read_text())["robot"]["name"] == url
        text = bridge(tmp_path, "run", *run)
        assert "replay check: the arm followed" in text
        path.unlink()
        replay = ["replay", "--example", f"--robot={url}", *flags, "--seconds=4"]
        assert "ended early (" in bridge(tmp_path, *replay)
        assert not path.exists()
    log = logs_in(tmp_path)[1]
    assert {step.source for step in log.steps} == {"policy"}
    assert "script.toml 0.0 days ago" in log.header.robot["replay_check"]


@pytest.mark.slow
def test_the_example_is_followed_and_not_by_an_arm_with_a_stuck_joint(tmp_path):
    with emulated_arm("serial") as (arm, url):
        replay = ["replay", "--example", f"--robot={url}", "--yes", "--no_web", "--no_preflight"]
        assert "followed: ok" in bridge(tmp_path, *replay)
        (path,) = (tmp_path / "checks").iterdir()
        arm.faults = Faults(servo_status=(0, 0, 0, 0, 0, 1))
        with running_bridge(tmp_path, *replay) as process:
            said = process.stdout.read()
            assert process.wait() in (3, 4), said
    assert "no policy may move" in said
    assert not path.exists()
