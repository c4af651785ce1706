"""The replay check: the twin's own lag is found, an arm that does not follow is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

from arp_jax.specs import ObservationSpec
from robot_bridge.arm import HOME, JOINTS, action_spec, state_spec, state_vector
from robot_bridge.log.episode_log import EpisodeLogWriter, Header, Step
from robot_bridge.twin.replay_check import LiveCheck, Tolerances, Track, check_log, check_tracks
from robot_bridge.twin.twin_robot import TwinRobot

TICK_NS = 100_000_000
NAMES = (*JOINTS, "gripper")
ANGLES = np.array([name != "gripper" for name in NAMES])


def wave(tick, amplitude_deg=15.0):
    """A wish [7] that moves all joints and the gripper, each at its own rate."""
    phase = 0.12 * tick * np.array([1.0, 0.8, 0.9, 1.1, 1.2, 0.7, 0.3])
    away = np.append(np.full(6, math.radians(amplitude_deg)), -0.4)
    start = np.append(HOME, 1.0)
    return start + away * (0.5 - 0.5 * np.cos(phase))


def record_twin(ticks=120, stuck=None, offset=None):
    """(time, command, reading) of a twin that follows the wave, read before each command.

    Args:
        stuck: a joint that stays where it was at the beginning.
        offset: [6] added to all readings, rad.
    """
    clock = [0]
    twin = TwinRobot(real_time=False, now_ns=lambda: clock[0])
    twin.connect()
    rows = []
    for tick in range(ticks):
        reading = twin.read()
        assert reading is not None
        angles = reading.angles + (0 if offset is None else offset)
        if stuck is not None:
            angles[stuck] = HOME[stuck]
        command = wave(tick)
        twin.write(command[:6], command[6])
        rows.append((clock[0], command, dataclasses.replace(reading, angles=angles)))
        clock[0] += TICK_NS
        twin.advance(clock[0])
    twin.close()
    return rows


def live(rows, measured=True):
    check = LiveCheck(NAMES)
    for time_ns, command, reading in rows:
        check.commanded(time_ns + 1, command)
        check.achieved(reading.time_ns, state_vector(reading, True), measured)
    return check


@pytest.fixture(scope="module")
def rows():
    return record_twin()


def test_the_twins_lag_is_found_and_taken_out(rows):
    report = live(rows).report()
    assert report.verdict == "ok", report.reasons
    # A ramp is followed 0.2 s late; a target that stands for a tick adds half of it.
    assert report.lag_s == pytest.approx(0.25, abs=0.04)
    assert np.all(report.rms[ANGLES] < math.radians(0.5))
    assert np.all(report.rms_with_lag[ANGLES] > 3 * report.rms[ANGLES])
    np.testing.assert_allclose(report.motion[ANGLES], math.radians(15.0), rtol=0.02)


def test_a_pure_delay_is_found_to_milliseconds():
    times = np.arange(200, dtype=np.int64) * TICK_NS // 2
    delay_s = 0.137
    seconds = times / 1e9
    commands = np.stack([np.sin(seconds), 0.5 * np.cos(2 * seconds)], 1)
    late = seconds - delay_s
    readings = np.stack([np.interp(late, seconds, column) for column in commands.T], 1)
    report = check_tracks([Track(times, commands, times, readings)], ("a", "b"), Tolerances())
    assert report.lag_s == pytest.approx(delay_s, abs=0.002)
    assert report.largest.max() < 0.003
    assert report.verdict == "ok"


@pytest.mark.parametrize("joint", [0, 4])
def test_a_joint_that_does_not_move_is_named(joint):
    report = live(record_twin(stuck=joint)).report()
    assert report.verdict == "refuse"
    assert report.reasons
    assert all(reason.startswith(JOINTS[joint]) for reason in report.reasons)


def test_a_wrong_zero_is_found():
    offset = np.zeros(6)
    offset[2] = math.radians(3.0)
    report = live(record_twin(offset=offset)).report()
    assert [r.split(":")[0] for r in report.reasons] == ["joint3"]
    assert report.rms[2] == pytest.approx(math.radians(3.0), rel=0.05)


def test_an_arm_that_is_too_slow_is_refused(rows):
    report = live(rows).report(Tolerances(lag_s=0.15))
    assert any("lags by 0.15 s or more" in reason for reason in report.reasons)


def test_an_unmeasured_gripper_is_not_judged(rows):
    report = live(rows, measured=False).report()
    assert report.verdict == "ok"
    assert math.isnan(report.rms[6])
    assert report.to_json()["joints"]["gripper"]["rms"] is None
    json.dumps(report.to_json(), allow_nan=False)


def test_a_gripper_that_sticks_is_named(rows):
    stuck = [(t, c, dataclasses.replace(r, gripper=1.0)) for t, c, r in rows]
    assert [r.split(":")[0] for r in live(stuck).report().reasons] == ["gripper"]


def test_nothing_moved_shows_nothing(rows):
    still = [(t, np.append(HOME, 1.0), rows[0][2]) for t, _, _ in rows]
    moved = [(t, c, dataclasses.replace(r, time_ns=t)) for t, c, r in still]
    assert "nothing was shown" in live(moved).report().reasons[0]
    assert "only 0 readings" in LiveCheck(NAMES).report().reasons[0]


def write_log(path, rows, source="replay", flags=(), held=()):
    header = Header(ObservationSpec((state_spec(True),)), action_spec(True))
    with EpisodeLogWriter(path, header) as log:
        for tick, (time_ns, command, reading) in enumerate(rows):
            state = state_vector(reading, True)
            log.step(
                Step(
                    time_ns=time_ns,
                    vectors={"state": state},
                    frames={},
                    command=command.astype(np.float32),
                    source=source if isinstance(source, str) else source[tick],
                    command_time_ns=0 if tick in held else time_ns + 1,
                    achieved=state,
                    achieved_time_ns=reading.time_ns,
                    flags=flags,
                )
            )
    return path


def test_a_log_gives_what_live_gave(rows, tmp_path):
    path = write_log(tmp_path / "a.arplog", rows)
    report, expected = check_log(path), live(rows).report()
    assert report.verdict == "ok"
    assert report.samples == expected.samples
    assert report.lag_s == pytest.approx(expected.lag_s, abs=1e-9)
    np.testing.assert_allclose(report.rms, expected.rms, atol=1e-6)
    assert json.loads(json.dumps(report.to_json()))["verdict"] == "ok"


def test_a_log_says_that_the_gripper_was_not_measured(rows, tmp_path):
    path = write_log(tmp_path / "a.arplog", rows, flags=("gripper_not_measured",))
    assert math.isnan(check_log(path).rms[6])


def test_hand_guided_steps_are_left_out(rows, tmp_path):
    """A hand moved the arm elsewhere for 20 ticks, which the commands know nothing of."""
    changed, sources = list(rows), ["replay"] * len(rows)
    for tick in range(40, 60):
        time_ns, command, reading = rows[tick]
        changed[tick] = (time_ns, command, dataclasses.replace(reading, angles=np.zeros(6)))
        sources[tick] = "teach"
    assert check_log(write_log(tmp_path / "a.arplog", changed, sources)).verdict == "ok"
    assert check_log(write_log(tmp_path / "b.arplog", changed)).verdict == "refuse"


def test_a_hold_is_left_out(rows, tmp_path):
    """From tick 40 on the arm was held for two seconds, commands went on in the log only."""
    stand = rows[40][2].angles
    changed = list(rows)
    for tick in range(40, 60):
        time_ns, command, reading = rows[tick]
        changed[tick] = (time_ns, command, dataclasses.replace(reading, angles=stand))
    held = check_log(write_log(tmp_path / "a.arplog", changed, held=range(40, 60)))
    assert held.verdict == "ok", held.reasons
    assert held.samples < len(rows) - 10
    assert check_log(write_log(tmp_path / "b.arplog", changed)).verdict == "refuse"


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rms_rad must be above 0"):
        Tolerances(rms_rad=math.nan)
    with pytest.raises(ValueError, match=r"\(3,\) numbers"):
        LiveCheck(NAMES).commanded(0, np.zeros(3))
