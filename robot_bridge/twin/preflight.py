"""A dry run: the source drives the digital twin, through the real safety filter, before the arm.

In: any `ActionSource`, the limits, where the arm stands. Out: a `PreflightReport` that allows or
refuses with reasons. Time is a clock that is moved tick by tick, so this is as fast as the source
thinks; a policy in another process is waited for at each tick, its latency is not rehearsed. The
pictures are drawings of the twin.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping

import numpy as np

from arp_jax.specs import ActionSpec, ObservationSpec
from robot_bridge.arm import HOME, STATE, describe_error, state_vector
from robot_bridge.observations import Frame, Observation
from robot_bridge.robots import Reading
from robot_bridge.safety.approach import Approach, ApproachLimits
from robot_bridge.safety.clearance import Clearance
from robot_bridge.safety.safety_filter import Limits, SafetyError, SafetyFilter, Verdict
from robot_bridge.sources import ActionSource, PlannedAction
from robot_bridge.twin.preflight_report import (
    APPROACH,
    RUN,
    PreflightReport,
    Row,
    Rules,
    broken_rules,
    count_of,
)
from robot_bridge.twin.twin_robot import TwinRobot

_POLL_S = 0.001
_log = logging.getLogger(__name__)


class SteppedClock:
    """Monotonic time that only moves when told; give it to a policy that is to be rehearsed."""

    def __init__(self) -> None:
        self._time_ns = time.monotonic_ns()

    def __call__(self) -> int:
        """Now, ns."""
        return self._time_ns

    def advance(self, duration_ns: int) -> None:
        """Time goes on."""
        self._time_ns += duration_ns


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed.

    Attributes:
        limits: the arm's own.
        observation, action: specs of what the source sees and wishes.
        rate_hz: of the control loop.
        start: [6] rad, where the arm stands now.
        opening: of its gripper.
        goal: [6] rad, where it is driven before the source decides; None: it stays.
        goal_opening: of the gripper there; None: as it is.
        approach: how it is driven there.
        tool: of the twin: "adaptive", "force", "rod", "none".
        seconds: that the source gets, unless it finishes sooner.
        views: camera -> the twin's camera (top, front, wrist), where the names differ.
        patience_s: how long a policy may think at one tick; the first time three times that.
        grace_s: how long a policy may take to notice an observation.
        rules: what must be kept.
    """

    limits: Limits
    observation: ObservationSpec
    action: ActionSpec
    rate_hz: float = 10.0
    start: tuple[float, ...] = HOME
    opening: float = 1.0
    goal: tuple[float, ...] | None = None
    goal_opening: float | None = None
    approach: ApproachLimits = dataclasses.field(default_factory=ApproachLimits)
    tool: str = "adaptive"
    seconds: float = 30.0
    views: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patience_s: float = 10.0
    grace_s: float = 0.02
    rules: Rules = dataclasses.field(default_factory=Rules)


class _Refused(Exception):
    """The dry run ends here; the message is the reason."""


def preflight(source: ActionSource, plan: Rehearsal, clock: SteppedClock) -> PreflightReport:
    """Rehearses; the source is reset before and after, and stays open.

    Args:
        source: a policy must have been given `clock` as its own.
        plan: what to rehearse.
        clock: is moved on.

    Raises:
        RobotError: MuJoCo is not installed.
        RuntimeError: no OpenGL for the pictures; says what to install.
        ValueError: the plan does not fit the twin (a tool, a camera, a period).
    """
    stage = _Stage(source, plan, clock)
    began, reasons = time.monotonic(), []
    try:
        stage.begin()
        if plan.goal is not None:
            stage.approach(np.asarray(plan.goal, np.float64))
        stage.run()
    except (_Refused, SafetyError) as error:
        reasons.append(str(error))
    finally:
        stage.close()
        source.reset()
    reasons += broken_rules(stage.rows, stage.clearance.names, plan.rules)
    if not reasons and not count_of(stage.rows, RUN):
        reasons.append("the source had no tick")
    return PreflightReport(
        source=source.name,
        reasons=tuple(reasons),
        rows=tuple(stage.rows),
        names=stage.clearance.names,
        period_s=1 / plan.rate_hz,
        finished=stage.finished,
        wall_s=time.monotonic() - began,
    )


class _Stage:
    """The twin, the filter and the source, tick by tick."""

    def __init__(self, source: ActionSource, plan: Rehearsal, clock: SteppedClock) -> None:
        self._source, self._plan, self._clock = source, plan, clock
        self._with_gripper = plan.action.gripper is not None
        self._period_ns = round(1e9 / plan.rate_hz)
        self._began_ns = clock()
        limits = plan.limits
        self.clearance = Clearance(
            limits.tool, limits.box, limits.table_z, limits.table_distance, limits.self_distance
        )
        self.rows: list[Row] = []
        self.finished = False
        self._filter = SafetyFilter(limits, 1 / plan.rate_hz, self._with_gripper)
        self._twin = TwinRobot(plan.tool, plan.start, plan.opening, real_time=False, now_ns=clock)
        self._renderer = None
        if plan.observation.cameras:
            from robot_bridge.twin.twin_renderer import TwinRenderer

            self._renderer = TwinRenderer(self._twin.model, plan.observation.cameras, plan.views)

    def begin(self) -> None:
        self._twin.connect()
        self._filter.start(self._reading(), self._clock())

    def close(self) -> None:
        self._twin.close()
        if self._renderer is not None:
            self._renderer.close()

    def approach(self, goal: np.ndarray) -> None:
        """Drives to where the source begins, as slowly as the real arm is driven."""
        plan, opening = self._plan, self._plan.goal_opening
        gripper = (plan.opening if opening is None else opening) if self._with_gripper else None
        way = Approach(self._reading(), goal, gripper, 1 / plan.rate_hz, plan.approach)
        arrived = False
        while not arrived:
            step = way.step(self._reading())
            if step.failure is not None:
                raise _Refused(f"approach: {step.failure}")
            self._tick(step.action, APPROACH)
            arrived = step.arrived

    def run(self) -> None:
        """Lets the source decide until it finishes or its time is over."""
        self._await_ready()
        self._source.reset()
        patience = 3 * self._plan.patience_s
        for _ in range(max(1, round(self._plan.seconds * self._plan.rate_hz))):
            planned = self._ask(patience)
            patience = self._plan.patience_s
            self._tick(np.asarray(planned.action), RUN)
            if planned.finished:
                self.finished = True
                return

    def _tick(self, wish: np.ndarray, phase: str) -> None:
        """One wish through safety to the twin, and one period of time."""
        reading, now = self._reading(), self._clock()
        verdict = self._filter.check(wish, reading, now)
        self.rows.append(self._row(wish, verdict, reading, phase))
        if verdict.fault is not None:
            seconds = self.rows[-1].time_s
            raise _Refused(f"{phase}: fault at {seconds:.1f} s: {verdict.fault}{self._held()}")
        if not verdict.held:
            self._twin.write(verdict.angles, verdict.gripper)
        self._clock.advance(self._period_ns)
        self._twin.advance(self._clock())

    def _held(self) -> str:
        """What safety held the arm for just before; often why a fault follows."""
        held = [n for row in self.rows[-2:-1] for n in row.interventions if n.startswith("held:")]
        return f" (before it: {', '.join(held)})" if held else ""

    def _row(self, wish: np.ndarray, verdict: Verdict, reading: Reading, phase: str) -> Row:
        gripper = [] if verdict.gripper is None else [verdict.gripper]
        command = np.array([*verdict.angles, *gripper])
        numbers = wish.shape == command.shape and wish.dtype.kind in "fiu"  # a fault otherwise
        return Row(
            time_s=round((self._clock() - self._began_ns) / 1e9, 6),
            phase=phase,
            wish=np.asarray(wish, np.float64) if numbers else np.full(command.shape, np.nan),
            command=command,
            achieved=np.array([*reading.angles, *([reading.gripper] * len(gripper))]),
            speeds=self._twin.speeds(),
            clearances=self.clearance.distances(reading.angles[None])[0],
            interventions=verdict.interventions,
            touching=self._twin.touching(),
        )

    def _reading(self) -> Reading:
        reading = self._twin.read()
        assert reading is not None  # connected
        if reading.error:
            raise _Refused(describe_error(reading.error))
        return reading

    def _observation(self) -> Observation:
        reading, frames = self._reading(), {}
        if self._renderer is not None:
            positions = self._twin.positions()
            for camera in self._plan.observation.cameras:
                image = self._renderer.render(positions, camera)
                frames[camera.name] = Frame(reading.time_ns, image)
        return Observation(
            reading.time_ns, {STATE: state_vector(reading, self._with_gripper)}, frames
        )

    def _ask(self, patience_s: float) -> PlannedAction:
        """The source's wish for this tick, after it has thought about what it sees."""
        try:
            before = self._source.health()
            self._source.observe(self._observation())
            if self._source.kind == "policy":
                self._await_answer(before.queries, before.chunks + before.late, patience_s)
            planned = self._source.action(self._clock())
            deadline = time.monotonic() + patience_s
            while planned is None and self._may_come(deadline):
                time.sleep(_POLL_S)
                planned = self._source.action(self._clock())
        except _Refused:
            raise
        except Exception as error:
            _log.exception("the source failed in its dry run")
            raise _Refused(f"run: the source failed: {type(error).__name__}: {error}") from error
        if planned is None:
            why = self._source.health().last_error or f"none within {patience_s:.0f} s"
            raise _Refused(f"run: no action from {self._source.name}: {why}")
        return planned

    def _may_come(self, deadline: float) -> bool:
        return self._source.kind == "policy" and time.monotonic() < deadline

    def _await_answer(self, queries: int, answers: int, patience_s: float) -> None:
        """Waits until an observation that became a query is answered; most do not become one."""
        began = time.monotonic()
        while True:
            now, health = time.monotonic() - began, self._source.health()
            asked = health.queries > queries
            if health.chunks + health.late > answers or (asked and health.last_error):
                return
            if now > (patience_s if asked else self._plan.grace_s):
                return
            time.sleep(_POLL_S)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 3 * self._plan.patience_s
        while not self._source.health().ready:
            if time.monotonic() > deadline:
                why = self._source.health().last_error or "it does not say why"
                raise _Refused(f"run: {self._source.name} is not ready: {why}")
            time.sleep(_POLL_S)
