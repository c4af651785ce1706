"""ANY stream of wishes, readings, clocks and faults: only safe targets come out.

A lagging arm follows what the filter lets through while everything around it misbehaves. The judges
are `safety_checker.py` at every tick, and MuJoCo's distances at some of them.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_bridge.arm import COMMAND_LIMITS, HOME
from robot_bridge.robots import Reading
from robot_bridge.safety import clearance
from robot_bridge.safety.safety_filter import Limits, SafetyError, SafetyFilter
from tests.robot_bridge.arm_in_mujoco import ArmInMujoco
from tests.robot_bridge.safety_checker import Checker

# What a tick's wish can be...
WISHES = ["toward", "toward", "toward", "shake", "rush", "noise", "far", "nan", "short", "words"]
# ... its reading...
READINGS = ["good"] * 6 + ["noisy", "stale", "none", "nan", "far", "off", "error", "short"]
# ... and its clock.
CLOCKS = ["tick"] * 5 + ["jitter", "late", "burst", "stands", "back"]
PHASES = st.lists(
    st.tuples(
        st.sampled_from(WISHES),
        st.sampled_from(READINGS),
        st.sampled_from(CLOCKS),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=12,
)


class World:
    """An arm that lags, a source that does what it is told, and the filter between them."""

    def __init__(self, seed: int, rate_hz: float, limits: Limits, anywhere: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.period_ns = int(1e9 / rate_hz)
        self.filter = SafetyFilter(limits, 1 / rate_hz)
        self.checker = Checker(1 / rate_hz, limits.tool.length)
        self.now_ns = 10**9
        # Anywhere: also in the table, in itself, a little beyond its limits.
        self.measured = 0.94 * self.random_pose() if anywhere else np.array(HOME)
        self.gripper: float = 0.5
        self.old: Reading | None = None
        self.goal = self.measured
        self.start()

    def start(self) -> None:
        """From where the arm is, or from home if that is no place to start from."""
        reading = Reading(self.now_ns, self.measured, self.gripper)
        try:
            self.filter.start(reading, self.now_ns)
        except SafetyError:
            self.measured = np.array(HOME)  # a person moves it by hand
            self.filter.start(Reading(self.now_ns, self.measured, self.gripper), self.now_ns)
        self.checker.started(self.measured, self.gripper)
        self.goal = self.random_pose()

    def random_pose(self) -> np.ndarray:
        return self.rng.uniform(-1.1, 1.1, 6) * COMMAND_LIMITS

    def tick(self, wish: str, reading: str, clock: str) -> None:
        """One tick of the loop, and the arm's answer to it."""
        self.now_ns += self.pause(clock)
        seen = self.reading(reading)
        if self.rng.random() < 0.02:
            self.goal = self.random_pose()
        verdict = self.filter.check(self.wish(wish), seen, self.now_ns)
        good = seen is not None and verdict.fault is None
        self.checker.see(verdict, np.asarray(seen.angles) if good and seen else None, self.now_ns)
        self.old = seen if reading == "good" else self.old
        if verdict.fault is not None:
            if self.rng.random() < 0.2:
                self.start()
        else:
            self.measured = self.measured + 0.4 * (verdict.angles - self.measured)
            self.gripper = verdict.gripper or 0.0

    def pause(self, clock: str) -> int:
        period = self.period_ns
        pauses = {
            "tick": period,
            "jitter": int(period * self.rng.uniform(0.8, 1.2)),
            "late": int(period * self.rng.uniform(1, 9)),
            "burst": int(period * self.rng.uniform(0, 0.3)),
            "stands": 0,
            "back": -int(period * self.rng.uniform(0, 5)),
        }
        return pauses[clock]

    def wish(self, kind: str) -> np.ndarray:
        target, _ = self.filter.hold_target()
        opening = self.rng.uniform(-0.2, 1.2)
        if kind == "toward":
            way = np.clip(self.goal - target, -0.12, 0.12)
        elif kind == "rush":
            way = np.clip(self.goal - target, -0.5, 0.5)
        elif kind == "shake":
            way = self.rng.choice([-0.25, 0.25], 6)
        elif kind == "noise":
            way = self.rng.normal(0, 0.02, 6)
        else:
            way = np.zeros(6)
        wish = np.append(target + way, opening)
        if kind == "far":
            wish[self.rng.integers(6)] += self.rng.choice([-1, 1]) * self.rng.uniform(0.6, 1e9)
        elif kind == "nan":
            wish[self.rng.integers(7)] = self.rng.choice([np.nan, np.inf, -np.inf])
        elif kind == "short":
            wish = wish[: self.rng.integers(0, 7)]
        elif kind == "words":
            wish = np.array(["left", None, {}, b"\xfe", [], 1, 2], dtype=object)
        return wish

    def reading(self, kind: str) -> Reading | None:
        good = Reading(self.now_ns, self.measured.copy(), self.gripper)
        noise = self.rng.normal(0, 0.01, 6)
        values = {
            "good": good,
            "noisy": dataclasses.replace(good, angles=self.measured + noise),
            "stale": self.old,
            "none": None,
            "nan": dataclasses.replace(good, angles=np.where(noise > 0, np.nan, self.measured)),
            "far": dataclasses.replace(good, angles=self.measured + 100 * noise),
            "off": dataclasses.replace(good, powered=False),
            "error": dataclasses.replace(good, error=int(self.rng.integers(1, 40))),
            "short": dataclasses.replace(good, angles=self.measured[:5]),
        }
        return values[kind]


def live(phases: list[tuple[str, str, str, int]], rate_hz: float, seed: int) -> None:
    """Some seconds of everything going wrong; the checker asserts at every tick."""
    world = World(seed, rate_hz, Limits(), anywhere=bool(seed % 2))
    for wish, reading, clock, ticks in phases:
        for _ in range(ticks):
            world.tick(wish, reading, clock)


@settings(max_examples=60, deadline=None)
@given(PHASES, st.sampled_from([10.0, 20.0, 50.0]), st.integers(0, 2**32 - 1))
def test_any_stream_gives_only_safe_targets(phases, rate_hz, seed):
    live(phases, rate_hz, seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(PHASES, st.sampled_from([5.0, 10.0, 20.0, 50.0, 100.0]), st.integers(0, 2**32 - 1))
def test_any_stream_gives_only_safe_targets_at_length(phases, rate_hz, seed):
    live(phases, rate_hz, seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_source_that_seeks_collisions_finds_none_in_mujoco(seed):
    tool = clearance.adaptive_gripper(clearance.SIMULATED_LENGTH)
    world, judge = World(seed, 10.0, Limits(tool=tool)), ArmInMujoco()
    closest = [1.0, 1.0]
    for tick in range(400):
        world.tick("rush" if tick % 40 else "toward", "good", "tick")
        if tick % 4:
            continue
        # Where it was sent, and where it lags behind.
        for pose in (world.filter.hold_target()[0], world.measured):
            closest = [min(pair) for pair in zip(closest, judge.distances(pose), strict=True)]
    assert min(closest) > 0
    assert min(closest) < 0.03  # it did come close
    assert world.checker.moves > 100
    assert world.checker.holds > 10


def test_the_world_sees_moves_holds_and_faults():
    world = World(7, 10.0, Limits())
    for wish, reading, clock in [("toward", "good", "tick"), ("far", "good", "jitter")] * 100:
        world.tick(wish, reading, clock)
    for clock in CLOCKS * 20:
        world.tick("toward", "noisy", clock)
    for wish in WISHES * 10:
        world.tick(wish, "good", "tick")
    assert world.checker.moves > 100
    assert world.checker.holds > 10
    assert world.checker.faults > 10
