"""The dry run: what is safe passes, whatever is not is refused with the reason, fast."""

import contextlib
import dataclasses
import json
import threading
import time

import numpy as np
import pytest

from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec
from robot_bridge.actions.policy import RemotePolicy
from robot_bridge.actions.trajectory import Trajectory, TrajectorySource
from robot_bridge.arm import HOME, action_spec, state_spec
from robot_bridge.safety.clearance import Box
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.sources import PlannedAction, SourceHealth
from robot_bridge.twin.preflight import Rehearsal, SteppedClock, preflight
from robot_bridge.twin.preflight_report import Rules, save_picture
from tests.policy_servers import CountingActor, running_server

PLAN = Rehearsal(
    limits=Limits(),
    observation=ObservationSpec((state_spec(True),)),
    action=action_spec(True),
    seconds=6.0,
)


def poses(*rows, seconds=2.0):
    """A script through these angles (degrees away from home) with an open gripper."""
    actions = [np.append(np.array(HOME) + np.radians(row), 1.0) for row in rows]
    times = np.round(np.arange(len(rows)) * seconds * 1e9).astype(np.int64)
    trajectory = Trajectory(times, np.array(actions, np.float32), "test")
    return TrajectorySource(trajectory, "script", "script")


def rehearse(source, clock=None, **changes):
    return preflight(source, dataclasses.replace(PLAN, **changes), clock or SteppedClock())


STAY = np.zeros(6)
THERE = np.array([30.0, -10.0, 15.0, 5.0, -20.0, 28.0])


class Wisher:
    """A policy that computes its wishes at once; keeps what it saw."""

    name, kind = "wisher", "policy"

    def __init__(self, wish, ready=True):
        self._wish, self._ready = wish, ready
        self.seen, self.resets = [], 0

    def reset(self):
        self.resets += 1

    def observe(self, observation):
        self.seen.append(observation)

    def action(self, time_ns):
        wish = self._wish(len(self.seen) - 1, self.seen[-1])
        return None if wish is None else PlannedAction(wish, self.seen[-1].time_ns)

    def plan(self):
        return None

    def health(self):
        return SourceHealth(ready=self._ready, last_error="" if self._ready else "no server")

    def close(self):
        pass


def stay(tick, observation):
    return observation.vectors["state"] * 0 + np.append(HOME, 1.0).astype(np.float32)


def test_a_harmless_script_passes_faster_than_real_time(tmp_path):
    began = time.process_time()
    report = rehearse(poses(STAY, THERE, STAY))
    assert time.process_time() - began < 2.0  # of 4.1 s simulated; measured 0.1 s
    assert report.verdict == "ok", report.reasons
    assert report.finished
    assert len(report.run) == 41
    assert report.interventions == {}
    for speeds in report.speeds().values():
        np.testing.assert_allclose(np.degrees(speeds), np.abs(THERE) / 2, rtol=0.1)
    assert set(report.closest) == {"table", "self", "workspace"}
    assert all(closest.distance_m > 0 for closest in report.closest.values())
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["verdict"] == "ok"
    assert document["ticks"] == {"approach": 0, "run": 41}
    assert document["simulated_s"] == pytest.approx(4.1)
    assert save_picture(report, tmp_path / "dry_run.png")
    assert (tmp_path / "dry_run.png").read_bytes().startswith(b"\x89PNG")


def test_the_way_to_the_start_pose_is_rehearsed_too():
    start = tuple(np.array(HOME) - np.radians(THERE))
    report = rehearse(poses(STAY, THERE), start=start, goal=HOME, opening=0.2, goal_opening=1.0)
    assert report.verdict == "ok", report.reasons
    assert report.to_json()["ticks"]["approach"] > 20
    np.testing.assert_allclose(report.rows[0].achieved[:6], start, atol=1e-6)
    np.testing.assert_allclose(report.run[0].achieved[:6], HOME, atol=np.radians(2.0))
    assert report.rows[0].achieved[6] == pytest.approx(0.2, abs=1e-3)
    assert report.run[0].achieved[6] == pytest.approx(1.0, abs=0.02)


def test_a_jump_is_a_fault():
    jump = np.array([1.0, *np.zeros(6)])
    report = rehearse(Wisher(lambda tick, seen: stay(tick, seen) + (tick == 7) * jump))
    assert report.verdict == "refuse"
    assert len(report.reasons) == 1
    assert "fault at 0.7 s: the action jumps: joint1 57.3 degrees" in report.reasons[0]
    assert len(report.run) == 8


@pytest.mark.parametrize("wish", [np.full(7, np.nan), np.zeros(3), np.array(["a"] * 7)])
def test_what_is_no_action_is_a_fault(wish):
    report = rehearse(Wisher(lambda tick, seen: wish if tick == 3 else stay(tick, seen)))
    assert report.verdict == "refuse"
    assert "fault at 0.3 s" in report.reasons[0]
    json.dumps(report.to_json(), allow_nan=False)


def test_into_the_table_is_refused_by_what_safety_had_to_do():
    down = np.array([0.0, 60.0, 0.0, 0.0, 0.0, 0.0])
    report = rehearse(poses(STAY, down, down))
    assert report.verdict == "refuse"
    assert any("held:table" in name for name in report.interventions)
    assert "(before it: held:table:finger_" in report.reasons[0]
    assert report.closest["table"].distance_m > 0  # and it did not get there


def test_the_twin_itself_must_keep_off_the_table():
    """The filter believes in a table half a meter lower; the twin has the real one."""
    down = np.array([0.0, 60.0, 0.0, 0.0, 0.0, 0.0])
    report = rehearse(poses(STAY, down, down), limits=Limits(table_z=-0.5))
    assert any("the twin touched the table (" in reason for reason in report.reasons)


def test_a_workspace_is_named():
    limits = Limits(box=Box(high=(0.7, 0.7, 0.3)))
    up = np.array([0.0, -60.0, 0.0, 0.0, 0.0, 0.0])
    report = rehearse(poses(STAY, up, up), limits=limits)
    assert any("held:workspace:z_high" in name for name in report.interventions)
    assert report.verdict == "refuse"


def test_a_source_that_safety_must_slow_down_all_the_time_is_refused():
    fast = poses(STAY, THERE, STAY, THERE, STAY, seconds=0.4)
    report = rehearse(fast)
    assert report.interventions["speed:joint6"] > 4
    assert any("changed the wish at" in reason for reason in report.reasons)
    assert report.speeds()["commanded"].max() <= Limits().speed * (1 + 1e-6)
    assert report.speeds()["wished"].max() > 1.1 * Limits().speed
    assert rehearse(fast, rules=Rules(1.0, 1.0)).verdict == "ok"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Wisher(lambda tick, seen: 1 / 0), "the source failed: ZeroDivisionError"),
        (Wisher(lambda tick, seen: None), "no action from wisher: none within"),
        (Wisher(stay, ready=False), "wisher is not ready: no server"),
    ],
)
def test_a_source_that_fails_is_refused(source, reason):
    report = rehearse(source, patience_s=0.05, grace_s=0.001)
    assert report.verdict == "refuse"
    assert reason in report.reasons[0]
    assert report.rows == ()
    assert report.to_json()["closest"] == {}


def test_an_arm_beyond_its_limits_is_not_driven():
    start = (3.2, *HOME[1:])
    report = rehearse(poses(STAY, THERE), start=start)
    assert "inside its limits by hand" in report.reasons[0]


def test_it_sees_the_twin_and_is_reset():
    source, clock = Wisher(stay), SteppedClock()
    began = clock()
    cameras = (CameraSpec("cam_high", 24, 32), CameraSpec("wrist", 24, 24, "bgr"))
    observation = dataclasses.replace(PLAN.observation, cameras=cameras)
    report = rehearse(
        source,
        clock,
        observation=observation,
        views={"cam_high": "top"},
        seconds=1.0,
        grace_s=0.0,
    )
    assert report.verdict == "ok", report.reasons
    assert not report.finished
    assert source.resets == 2
    assert len(source.seen) == 10
    np.testing.assert_allclose(source.seen[0].vectors["state"], np.append(HOME, 1.0), atol=1e-6)
    assert [seen.time_ns - began for seen in source.seen] == [n * 10**8 for n in range(10)]
    frames = source.seen[3].frames
    assert {name: frame.image.shape for name, frame in frames.items()} == {
        "cam_high": (24, 32, 3),
        "wrist": (24, 24, 3),
    }
    assert frames["wrist"].time_ns == source.seen[3].time_ns


class SlowPolicy(Wisher):
    """Answers from a thread of its own, each observation late in real time; counts like one."""

    def __init__(self, wish, think_s):
        super().__init__(wish)
        self._think_s = think_s
        self._asked, self._ended = threading.Event(), False
        self._health = SourceHealth(ready=True)
        self._planned = None
        self.ages_ns = []
        self._thread = threading.Thread(target=self._think)
        self._thread.start()

    def observe(self, observation):
        super().observe(observation)
        self._asked.set()

    def action(self, time_ns):
        if self._planned is not None:
            self.ages_ns.append(time_ns - self._planned.observed_ns)
        return self._planned

    def health(self):
        return self._health

    def close(self):
        self._ended = True
        self._asked.set()
        self._thread.join()

    def _think(self):
        while self._asked.wait() and not self._ended:
            self._asked.clear()
            queries = self._health.queries + 1
            self._health = dataclasses.replace(self._health, queries=queries)
            time.sleep(self._think_s)
            seen = self.seen[-1]
            self._planned = PlannedAction(stay(0, seen), seen.time_ns)
            self._health = dataclasses.replace(self._health, chunks=queries)


def test_a_policy_in_another_thread_is_waited_for():
    source = SlowPolicy(stay, 0.05)
    try:
        report = rehearse(source, seconds=1.0, grace_s=5.0)
    finally:
        source.close()
    assert report.verdict == "ok", report.reasons
    assert source.ages_ns == [0] * 10  # always the action for what was seen at this very tick


def test_settings_are_checked():
    with pytest.raises(ValueError, match="held_share must be 0"):
        Rules(held_share=1.5)
    with pytest.raises(ValueError, match="tool 'spoon'"):
        rehearse(poses(STAY, THERE), tool="spoon")
    cameras = (CameraSpec("roof", 24, 32),)
    observation = dataclasses.replace(PLAN.observation, cameras=cameras)
    with pytest.raises(ValueError, match="no view 'roof'"):
        rehearse(poses(STAY, THERE), observation=observation)


@dataclasses.dataclass
class Swinging(CountingActor):
    """A served policy: from where it sees the arm, joint 1 goes 1 degree a step to the left."""

    def act(self, observation, seed=0):
        del seed
        if self.failure:
            raise RuntimeError(self.failure)
        self.calls += 1
        rows = np.repeat(observation["state"][:, -1:], self.spec.horizon, axis=1)
        rows[..., 0] += np.radians(np.arange(self.spec.horizon) - self.spec.first_executed)
        return rows


SERVED = PolicySpec(PLAN.observation, PLAN.action, window=2, horizon=9, action_offset=-1)


@contextlib.contextmanager
def served(clock, **options):
    actor = Swinging(SERVED, **options)
    with running_server(actor) as address:
        policy = RemotePolicy(address, clock=clock)
        try:
            policy.wait_ready(60.0)
            yield actor, policy
        finally:
            policy.close()


def test_a_served_policy_is_rehearsed_in_simulated_time():
    clock = SteppedClock()
    with served(clock) as (actor, policy):
        report = rehearse(policy, clock, seconds=5.0, grace_s=0.05)
        assert report.verdict == "ok", report.reasons
        assert actor.calls >= 5
        assert policy.health().late == 0
        assert policy.action(clock()) is None  # forgotten: nothing of it is left for the arm
    turned = np.degrees(report.run[-1].achieved[0] - report.run[0].achieved[0])
    # Each chunk begins where the arm is, which is a fifth of a second behind.
    assert 10.0 < turned < 50.0


def test_a_served_policy_that_fails_is_refused():
    clock = SteppedClock()
    with served(clock, failure="out of memory") as (_, policy):
        report = rehearse(policy, clock, patience_s=1.0)
    assert report.verdict == "refuse"
    assert "no action from counting at" in report.reasons[0]
