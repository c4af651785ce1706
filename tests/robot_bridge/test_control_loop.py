"""The control loop: one tick after the other on simulated time, healthy and with all that fails."""

import dataclasses

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec
from robot_bridge.arm import HOME, action_spec, state_spec
from robot_bridge.log.episode_log import read_log
from robot_bridge.loop.obey import possible
from robot_bridge.observations import Frame
from robot_bridge.robots import RobotError
from robot_bridge.safety.modes import MOVING, Mode
from robot_bridge.safety.watchdog import AgeLimits, WatchdogLimits
from tests.robot_bridge.loop_rig import RATE_HZ, Rig

SECOND = round(RATE_HZ)


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.close()


def logs_of(rig, tmp_path):
    assert rig.recorder.flush(20.0)
    return [read_log(path) for path in sorted(tmp_path.glob("*.arplog"))]


def assert_holds(rig, mode, reason):
    """In this mode, for this reason; nothing more is written and the arm comes to rest."""
    assert rig.mode is mode, rig.loop.reason
    assert reason in rig.loop.reason
    writes = rig.writes
    rig.tick(SECOND)
    place = rig.angles()
    rig.tick(SECOND)
    assert rig.writes == writes
    assert not rig.gate.is_open
    np.testing.assert_allclose(rig.angles(), place, atol=0.003)


def test_nothing_moves_before_start(rig):
    rig.tick(2 * SECOND)
    assert rig.mode is Mode.IDLE
    assert rig.writes == 0
    assert "observe" not in rig.source.calls


def test_a_run_moves_the_arm_and_is_logged(rig, tmp_path):
    rig.start()
    rig.tick(3 * SECOND)
    assert rig.source.resets == 1
    ask = rig.source.seen[-1]
    np.testing.assert_allclose(ask.vectors["state"][:6], rig.angles(), atol=0.05)
    rig.ask("stop")
    assert_holds(rig, Mode.IDLE, "stop by the operator")
    (log,) = logs_of(rig, tmp_path)
    assert log.end == "stop by the operator"
    assert len(log.steps) == rig.writes
    assert log.header.action.rate_hz == RATE_HZ
    assert not log.header.read_after_send
    for step, (angles, gripper) in zip(log.steps, rig.robot.targets, strict=True):
        np.testing.assert_allclose(step.command, [*angles, gripper], atol=1e-6)
        np.testing.assert_allclose(step.achieved, step.vectors["state"])
        assert step.source == "policy"
        assert step.command_time_ns >= step.time_ns >= step.achieved_time_ns
    moved = np.ptp([step.achieved[0] for step in log.steps])
    assert moved > 0.2


def test_the_approach_comes_first_and_is_not_logged(tmp_path):
    rig = Rig(tmp_path, approach=np.array(HOME) + 0.2, approach_gripper=0.5)
    try:
        rig.tick(2)
        rig.ask("start")
        assert rig.mode is Mode.APPROACH
        rig.tick(SECOND // 2)
        assert rig.mode is Mode.APPROACH
        assert "action" not in rig.source.calls
        assert rig.recorder.status().steps == 0
        while rig.mode is Mode.APPROACH:
            rig.tick()
        assert rig.mode is Mode.RUNNING
        np.testing.assert_allclose(rig.angles(), np.array(HOME) + 0.2, atol=0.035)
        steps = np.abs(np.diff([angles for angles, _ in rig.robot.targets], axis=0)).max()
        assert steps < np.radians(20.5) / RATE_HZ
    finally:
        rig.close()


def test_an_interrupted_approach_is_idle_again(tmp_path):
    rig = Rig(tmp_path, approach=np.array(HOME) + 0.3)
    try:
        rig.tick(2)
        rig.ask("start")
        rig.tick(SECOND // 2)
        rig.ask("hold")
        assert_holds(rig, Mode.IDLE, "hold by the operator")
        assert not list(tmp_path.glob("*.arplog"))
    finally:
        rig.close()


def test_hold_and_resume_within_one_episode(rig, tmp_path):
    rig.start()
    rig.tick(SECOND)
    rig.ask("hold")
    assert_holds(rig, Mode.HOLD, "hold by the operator")
    place, before = rig.angles(), rig.writes
    rig.ask("resume")
    assert rig.mode is Mode.RUNNING
    assert rig.writes == before  # the reading is from before: it may have moved since
    rig.tick()
    assert rig.writes == before + 1
    assert np.abs(rig.robot.targets[before][0] - place).max() < 0.06  # from where it stands
    rig.tick(SECOND)
    rig.ask("stop")
    (log,) = logs_of(rig, tmp_path)
    assert [m.text.split(":")[0] for m in log.markers] == ["hold", "running", "end"]
    assert len(log.steps) == rig.writes


@pytest.mark.parametrize("name", ["success", "failure"])
def test_a_verdict_ends_the_episode(rig, tmp_path, name):
    rig.start()
    rig.ask("note", text="the cube fell")
    rig.ask(name)
    assert_holds(rig, Mode.IDLE, f"marked as {name}")
    (log,) = logs_of(rig, tmp_path)
    assert log.outcome is (name == "success")
    assert "the cube fell" in [m.text for m in log.markers]


def test_estop_is_latched(rig, tmp_path):
    rig.start()
    rig.ask("estop")
    assert_holds(rig, Mode.ESTOP, "estop by the operator")
    for name in ("start", "resume"):
        rig.ask(name)
        assert_holds(rig, Mode.ESTOP, "estop by the operator")
    assert possible(rig.mode, False) == ["hold", "estop", "reset", "note", "instruction"]
    rig.ask("power_on")
    assert "set_power" not in rig.robot.calls
    rig.ask("reset")
    assert_holds(rig, Mode.IDLE, "reset by the operator")
    rig.start()
    assert [log.end for log in logs_of(rig, tmp_path)] == ["estop by the operator", None]


def test_the_source_finishes(rig, tmp_path):
    rig.start()
    rig.tick(5)
    rig.source.part.finished = True
    rig.tick(2 * SECOND)
    assert_holds(rig, Mode.IDLE, "wave has finished")
    assert logs_of(rig, tmp_path)[0].end == "wave has finished"


BREAKS = [
    ("robot", "read"),
    ("robot", "write"),
    ("source", "observe"),
    ("source", "action"),
    ("recorder", "step"),
    ("recorder", "trouble"),
]


@pytest.mark.parametrize(("part", "method"), BREAKS)
def test_any_exception_is_a_fault_with_its_reason(rig, tmp_path, part, method):
    rig.start()
    rig.tick(SECOND)
    getattr(rig, part).broken[method] = OSError(f"{method} broke")
    rig.tick()
    assert_holds(rig, Mode.FAULT, f"OSError: {method} broke")
    getattr(rig, part).broken.clear()
    assert_holds(rig, Mode.FAULT, f"{method} broke")  # nothing resumes by itself
    rig.ask("resume")
    assert rig.mode is Mode.FAULT
    rig.ask("reset")
    rig.start()
    first, _ = logs_of(rig, tmp_path)
    assert first.end == f"OSError: {method} broke"
    assert first.damage is None


def test_an_arm_that_cannot_even_hold_is_a_fault(rig, tmp_path):
    rig.start()
    rig.robot.broken["hold"] = OSError("no line")
    rig.source.broken["action"] = ValueError("no idea")
    rig.tick(3)
    assert rig.mode is Mode.FAULT
    assert "no idea" in rig.loop.reason
    assert not rig.gate.is_open
    rig.tick(SECOND)
    assert rig.loop.counts["hold_failed"] > 2  # it is tried again and again
    holds = rig.robot.calls["hold"]
    rig.robot.broken.clear()
    rig.tick(SECOND)
    assert holds < rig.robot.calls["hold"] <= holds + 3
    rig.source.broken.clear()
    rig.ask("reset")
    rig.start()
    assert [log.end for log in logs_of(rig, tmp_path)] == ["ValueError: no idea", None]


def test_requests_are_obeyed_while_everything_breaks(rig):
    rig.start()
    rig.robot.broken["read"] = OSError("gone")
    rig.tick()
    rig.ask("estop")
    assert rig.mode is Mode.ESTOP
    rig.ask("reset")
    rig.tick()
    assert rig.mode is Mode.FAULT  # the next look fails again
    rig.ask("start")
    assert rig.mode is Mode.FAULT


def test_old_readings_wait_then_hold(rig):
    limits = rig.parts.watchdog.wire
    rig.start()
    rig.freeze()
    rig.tick(round((limits.wait_s - 0.1) * RATE_HZ))
    assert rig.mode is Mode.RUNNING
    rig.tick(round(0.2 * RATE_HZ))
    writes = rig.writes
    assert rig.mode is Mode.RUNNING
    rig.tick(round((limits.hold_s - limits.wait_s) * RATE_HZ))
    assert rig.writes == writes  # nothing is sent again because of silence
    assert rig.mode is Mode.HOLD
    assert "wire" in rig.loop.reason
    assert rig.loop.counts["waited"] > 5
    rig.ask("resume")
    assert rig.mode is Mode.HOLD
    assert "not resumed: " in rig.loop.reason
    rig.freeze(False)
    rig.tick(SECOND)
    assert rig.mode is Mode.HOLD
    rig.ask("resume")
    assert rig.mode is Mode.RUNNING


def test_a_short_silence_of_the_wire_goes_on_by_itself(rig):
    rig.start()
    rig.freeze()
    rig.tick(round(0.6 * RATE_HZ))
    assert rig.mode is Mode.RUNNING
    rig.freeze(False)
    writes = rig.writes
    rig.tick(SECOND)
    assert rig.mode is Mode.RUNNING
    assert rig.writes >= writes + SECOND - 2


def test_a_silent_source_sends_nothing_then_holds(rig, tmp_path):
    rig.start()
    rig.tick(SECOND)
    rig.source.part.silent = True
    writes = rig.writes
    rig.tick(SECOND)
    assert rig.writes == writes
    assert rig.mode is Mode.RUNNING
    rig.tick(round(rig.parts.watchdog.policy.hold_s * RATE_HZ))
    assert_holds(rig, Mode.HOLD, "policy")
    assert rig.writes == writes
    rig.source.part.silent = False
    rig.ask("resume")
    rig.tick(5)
    assert rig.mode is Mode.RUNNING
    assert rig.writes > writes


@pytest.mark.parametrize("again", ["resume", "start"])
def test_a_source_may_think_before_its_first_answer(rig, again):
    rig.start()
    rig.tick(SECOND)
    rig.ask("hold" if again == "resume" else "stop")
    rig.tick(10 * SECOND)
    rig.source.part.silent = True
    rig.ask(again)
    writes = rig.writes
    rig.tick(SECOND)
    assert rig.mode is Mode.RUNNING
    assert rig.writes == writes
    rig.source.part.silent = False
    rig.tick(2)
    assert rig.writes == writes + 2


def test_a_source_that_repeats_itself_from_old_observations_is_held(rig):
    rig.start()
    old = rig.source.seen[-1]
    rig.source.part.observe = lambda observation: None
    rig.source.part.seen = [old]
    rig.tick(round((rig.parts.watchdog.policy.hold_s + 0.2) * RATE_HZ))
    assert_holds(rig, Mode.HOLD, "policy")


def test_a_jump_is_a_fault_and_is_never_sent(rig):
    rig.start()
    rig.tick(SECOND)
    writes = rig.writes
    rig.source.part.offset[1] = 1.0
    rig.tick()
    assert_holds(rig, Mode.FAULT, "jumps")
    assert rig.writes == writes
    assert rig.loop.counts["fault"] == 1


def test_a_wish_that_is_no_number_is_a_fault(rig):
    rig.start()
    rig.source.part.offset[3] = np.nan
    rig.tick()
    assert_holds(rig, Mode.FAULT, "NaN")


def test_what_safety_changed_is_counted_and_logged(rig, tmp_path):
    rig.start()
    rig.source.part.offset[1] = 0.3  # within a jump, beyond a step
    rig.tick(5)
    rig.ask("stop")
    (log,) = logs_of(rig, tmp_path)
    changed = [step for step in log.steps if "speed:joint2" in step.flags]
    assert changed
    assert rig.loop.counts["speed:joint2"] == len(changed)
    for step in changed:
        assert step.proposed[1] > step.command[1]


def test_power_off_is_a_fault(rig):
    rig.start()
    rig.twin.set_power(False)
    rig.tick(2)
    assert rig.mode is Mode.FAULT
    assert "power" in rig.loop.reason
    rig.ask("reset")
    rig.ask("start")
    assert rig.mode is Mode.IDLE
    assert "not started: the arm's power is off" in rig.loop.reason
    rig.ask("power_on")
    rig.wait(lambda: rig.twin.read().powered)
    rig.wait(lambda: rig.release.gripped)
    rig.start()


def test_power_that_cannot_be_switched_on_says_so(rig):
    rig.tick(2)
    rig.twin.set_power(False)
    rig.robot.broken["set_power"] = RobotError("the e-stop is pressed")
    rig.ask("power_on")
    rig.wait(lambda: rig.release.failure)
    rig.robot.broken.clear()
    rig.twin.set_power(True)
    rig.tick()
    rig.ask("start")
    assert rig.mode is Mode.IDLE
    assert rig.loop.reason.endswith("could not be switched on: the e-stop is pressed")
    rig.ask("power_on")
    rig.wait(lambda: not rig.release.failure)
    rig.start()


def test_a_log_in_trouble_holds(rig):
    rig.start()
    rig.recorder.part.trouble = lambda: "the disk is full"
    rig.tick()
    assert_holds(rig, Mode.HOLD, "the disk is full")
    rig.ask("resume")
    assert rig.mode is Mode.HOLD
    del rig.recorder.part.trouble
    rig.ask("resume")
    assert rig.mode is Mode.RUNNING


@pytest.mark.parametrize("obstacle", ["source", "recorder", "readings"])
def test_start_is_refused_until_all_is_ready(rig, obstacle):
    rig.tick(2)
    if obstacle == "source":
        rig.source.part.ready = False
    elif obstacle == "recorder":
        rig.recorder.part.trouble = lambda: "the disk is full"
    else:
        rig.freeze()
        rig.tick(2 * SECOND)
    rig.ask("start")
    assert rig.mode is Mode.IDLE
    assert rig.loop.reason.startswith("not started: ")
    assert rig.writes == 0


def test_a_policy_of_another_robot_is_refused(rig):
    spec = action_spec(True)
    other = dataclasses.replace(spec, dims=(*spec.dims[:5], "wheel", "gripper"))
    observation = ObservationSpec((state_spec(True),))
    rig.source.part.spec = PolicySpec(observation, other, window=1, horizon=2)
    rig.tick(2)
    rig.ask("start")
    assert rig.mode is Mode.IDLE
    assert "wheel" in rig.loop.reason


class Picture:
    """A camera whose newest picture is what the test says."""

    name, spec = "top", CameraSpec("top", 4, 6)

    def __init__(self):
        self.frame = None

    def latest(self):
        return self.frame

    def show(self, time_ns, level):
        self.frame = Frame(time_ns, np.full((4, 6, 3), level, np.uint8))


WITH_CAMERA = ObservationSpec((state_spec(True),), (Picture.spec,))


def test_a_camera_that_is_missing_or_different_is_refused(rig):
    with pytest.raises(ValueError, match="the observation needs 'top'"):
        dataclasses.replace(rig.parts, observation=WITH_CAMERA)
    other = Picture()
    other.spec = CameraSpec("top", 8, 6)
    with pytest.raises(ValueError, match="camera 'top'"):
        dataclasses.replace(rig.parts, observation=WITH_CAMERA, cameras=(other,))


def test_pictures_are_waited_for_shown_logged_and_must_be_fresh(tmp_path):
    camera = Picture()
    rig = Rig(tmp_path, cameras=(camera,), observation=WITH_CAMERA)
    try:
        rig.tick(2)
        rig.ask("start")
        assert "no picture from camera 'top'" in rig.loop.reason
        assert rig.mode is Mode.IDLE
        camera.show(rig.now, 50)
        rig.start()
        for level in (100, 150, 200):
            camera.show(rig.now, level)
            rig.tick(2)
        assert rig.source.seen[-1].frames["top"] is camera.frame
        last = camera.frame.time_ns
        rig.tick(round(rig.parts.watchdog.observation.hold_s * RATE_HZ))
        assert_holds(rig, Mode.HOLD, "observation")
        rig.ask("stop")
        (log,) = logs_of(rig, tmp_path)
        levels = [simplejpeg.decode_jpeg(step.frames["top"]).mean() for step in log.steps]
        assert levels == sorted(levels)
        assert {round(level / 50) * 50 for level in levels} == {50, 100, 150, 200}
        assert log.steps[-1].frame_times_ns == {"top": last}
        assert log.steps[-1].time_ns > last
    finally:
        rig.close()


def test_taking_over_by_jogging(rig, tmp_path):
    rig.start()
    rig.tick(SECOND)
    asked = rig.source.calls["action"]
    rig.ask("jog", joint="joint2", change=0.2)  # not during a take-over: nothing
    rig.ask("takeover", how="jog")
    assert rig.mode is Mode.RUNNING
    assert rig.loop.takeover
    asked = rig.source.calls["action"]
    rig.tick(SECOND)
    place = rig.angles()
    rig.ask("jog", joint="joint2", change=0.2)
    rig.ask("gripper", opening=0.4)
    rig.tick(2 * SECOND)
    moved = rig.angles() - place
    assert moved[1] == pytest.approx(0.2, abs=0.03)
    assert np.abs(np.delete(moved, 1)).max() < 0.02
    assert rig.source.calls["action"] == asked  # the policy is not asked
    rig.ask("give_back")
    assert rig.source.resets == 2
    rig.source.part.offset[1] = 0.2
    rig.tick(SECOND)
    assert rig.mode is Mode.RUNNING
    rig.ask("success")
    (log,) = logs_of(rig, tmp_path)
    sources = [step.source for step in log.steps]
    assert set(sources) == {"policy", "takeover"}
    assert log.intervened.tolist() == [source == "takeover" for source in sources]


def test_taking_over_by_hand(rig, tmp_path):
    rig.start()
    rig.tick(SECOND)
    rig.ask("takeover", how="free")
    rig.wait(lambda: rig.release.free)
    writes = rig.writes
    place = rig.angles()
    for number in range(SECOND):
        rig.twin.push(place + 0.01 * number)
        rig.tick()
    assert rig.writes == writes  # a free arm is not written to
    rig.ask("give_back")
    rig.source.part.offset[:6] = 0.19
    rig.wait(lambda: rig.writes > writes)
    assert rig.release.gripped
    assert np.abs(rig.robot.targets[writes][0] - (place + 0.19)).max() < 0.08
    rig.ask("stop")
    (log,) = logs_of(rig, tmp_path)
    taught = [step for step in log.steps if step.source == "teach"]
    assert len(taught) >= SECOND
    assert 0.1 < np.ptp([step.command[2] for step in taught]) < 0.2
    for step in taught:
        np.testing.assert_array_equal(step.command, step.achieved)
    assert log.intervened.sum() == len(taught)


@pytest.mark.parametrize(("name", "mode"), [("hold", Mode.HOLD), ("estop", Mode.ESTOP)])
def test_a_stop_grips_the_free_joints(rig, name, mode):
    rig.start()
    rig.ask("takeover", how="free")
    rig.wait(lambda: rig.release.free)
    rig.ask(name)
    assert rig.mode is mode
    rig.wait(lambda: rig.release.gripped)


def test_joints_that_cannot_be_gripped_are_a_fault_and_nothing_is_sent(rig):
    rig.start()
    rig.ask("takeover", how="free")
    rig.wait(lambda: rig.release.free)
    writes = rig.writes
    rig.robot.broken["set_free"] = OSError("no answer")
    rig.ask("give_back")
    rig.wait(lambda: rig.mode is Mode.FAULT)
    assert "could not be gripped: no answer" in rig.loop.reason
    rig.ask("reset")
    rig.wait(lambda: rig.release.failure)
    rig.ask("start")
    assert rig.mode is Mode.IDLE
    assert rig.writes == writes
    rig.robot.broken.clear()
    rig.ask("hold")
    rig.release.want(False)
    rig.wait(lambda: rig.release.gripped)


def test_a_lost_hold_is_repeated(rig):
    rig.start()
    rig.tick(SECOND)
    rig.twin.hold = lambda: None  # lost on the wire
    rig.source.part.offset[4] = 0.45
    rig.tick(2)
    rig.ask("hold")
    del rig.twin.hold
    rig.tick(SECOND)
    assert rig.loop.counts["held_again"] >= 1
    place = rig.angles()
    rig.tick(SECOND)
    np.testing.assert_allclose(rig.angles(), place, atol=0.003)


def test_a_late_tick_makes_no_longer_step(rig):
    rig.start()
    rig.source.part.offset[1] = 0.4
    rig.tick(3)
    rig.now += 250_000_000  # five periods are lost
    rig.twin.advance(rig.now)
    before = rig.robot.targets[-1][0]
    rig.tick()
    assert np.abs(rig.robot.targets[-1][0] - before).max() <= np.radians(60) / RATE_HZ + 1e-9


def test_a_loop_that_did_not_run_for_long_holds(rig):
    rig.start()
    rig.now += 900_000_000
    rig.tick()
    assert_holds(rig, Mode.HOLD, "the control loop did not run for 0.9 s")
    rig.ask("resume")
    assert rig.mode is Mode.RUNNING


EVENTS = st.sampled_from(
    [
        *("start", "stop", "hold", "resume", "estop", "reset", "success", "jog", "give_back"),
        *("freeze", "thaw", "silence", "speak", "jump", "nan", "home", "raise", "mend"),
        *("run", "run", "run", "run"),
    ]
)


def apply(rig, event):
    """One thing that a person does or that goes wrong."""
    source = rig.source.part
    if event in ("freeze", "thaw"):
        rig.freeze(event == "freeze")
    elif event in ("silence", "speak"):
        source.silent = event == "silence"
    elif event in ("jump", "nan", "home"):
        source.offset = np.full(7, {"jump": 0.9, "nan": np.nan, "home": 0.0}[event])
    elif event == "raise":
        rig.source.broken["action"] = RuntimeError("broke")
    elif event == "mend":
        rig.source.broken.clear()
    elif event == "jog":
        rig.operator.command("takeover", how="jog")
        rig.operator.command("jog", joint="joint3", change=-0.1)
    elif event != "run":
        rig.operator.command(event)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=st.lists(st.tuples(EVENTS, st.integers(1, 12)), min_size=3, max_size=20))
def test_whatever_happens_only_safe_targets_are_written(tmp_path_factory, events):
    watchdog = WatchdogLimits(policy=AgeLimits(wait_s=0.5, hold_s=1.0))
    rig = Rig(tmp_path_factory.mktemp("logs"), watchdog=watchdog)
    try:
        rig.tick(2)
        for event, ticks in events:
            apply(rig, event)
            for _ in range(ticks):
                before, writes, place = rig.mode, rig.writes, rig.angles()
                rig.tick()
                new = rig.robot.targets[writes:]
                assert len(new) <= 1
                if new:
                    assert before in MOVING or rig.mode in MOVING
                    assert np.abs(new[0][0] - place).max() < np.radians(31)
                    last = rig.robot.targets[writes - 1][0] if writes else place
                    start = np.minimum(np.abs(new[0][0] - last), np.abs(new[0][0] - place))
                    assert start.max() <= np.radians(60) / RATE_HZ + 0.02
                if rig.mode not in MOVING:
                    assert not rig.gate.is_open
    finally:
        rig.close()
        assert rig.recorder.part.status().lost_steps == 0
