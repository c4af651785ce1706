"""One tick of the bridge: obey, look, watch, choose, check, write, record, tell.

In: what a person asked, the newest reading and pictures, the source's wish. Out: at most one target
for the arm, which has passed `safety_filter.py`, a step of the log and a `Status`. Whatever goes
wrong in a tick shuts the gate to the arm and says why. Modes change by `modes.TABLE` only. Nothing
here blocks; threads and the clock are `daemon.py`'s, a person's requests `obey.py`'s.
"""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from arp_jax.specs import PolicySpec, SpecMismatch
from robot_bridge.log.run_log import RunLog
from robot_bridge.loop.joint_release import JointRelease
from robot_bridge.loop.manual import HandGuided, Jogged
from robot_bridge.loop.obey import end_clearing, obey
from robot_bridge.loop.operator import Gate, Operator
from robot_bridge.loop.parts import Parts
from robot_bridge.loop.scene import Scene, ages, look
from robot_bridge.robots import Reading
from robot_bridge.safety.approach import Approach
from robot_bridge.safety.compatibility import check_compatible
from robot_bridge.safety.modes import MOVING, Event, Mode, next_mode
from robot_bridge.safety.safety_filter import SafetyError, SafetyFilter, reading_problem
from robot_bridge.safety.watchdog import Level, age_s, judge
from robot_bridge.sources import ActionSource

_LOG = logging.getLogger(__name__)
EPISODE = frozenset({Mode.RUNNING, Mode.HOLD})  # modes in which an episode's log is open
# A standing arm that moves this far was not stopped: the hold was lost on its way.
_STILL_RAD = 0.035
_HOLD_AGAIN_NS = 200_000_000
# Single late ticks only cost their steps.
_GAP_NS = 600_000_000
# A run ends when the arm is this close to its last target, or after this long.
_FOLLOWED_RAD = 0.01
_FOLLOW_NS = 1_000_000_000


class ControlLoop:
    """The bridge's state and its tick; one thread only.

    Args:
        parts: of the bridge.
        operator: where requests come from; gate: the way to the arm.
        log: what of a run is recorded.
        release: frees and grips the joints.
        now_ns: monotonic time.

    Attributes:
        mode, reason: where the state machine is, and why.
        source: who chooses actions now.
        counts: interventions by name, since the start.
        target: float64 [A], last one sent.
        ages_ms: of the parts of the last tick; None where there is none.
        clearing: error of the arm that a reset under way is clearing, 0 for none.
    """

    def __init__(
        self,
        parts: Parts,
        operator: Operator,
        gate: Gate,
        log: RunLog,
        release: JointRelease,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.parts, self.log = parts, log
        self.mode, self.reason = Mode.IDLE, "nothing was started yet"
        self.source: ActionSource = parts.source
        self.jogged = Jogged(parts.action.dims, parts.with_gripper)
        self.hand = HandGuided()
        self.counts: Counter[str] = Counter()
        self.target: np.ndarray | None = None
        self.ages_ms: Mapping[str, float | None] = {}
        self.clearing = 0
        self.scene = Scene(now_ns(), None, {}, None, "the loop has not begun")
        self.release = release
        self._operator, self._gate = operator, gate
        self._now_ns = now_ns
        self._filter = SafetyFilter(parts.limits, 1 / parts.rate_hz, parts.with_gripper)
        self._approach: Approach | None = None
        self._seen_shuttings = gate.shuttings
        self._opening = False  # the gate is to be opened as soon as the joints are gripped
        self._acted_ns = self.scene.time_ns
        self._sent_ns = self._acted_ns  # of the newest target
        self._waiting_ns = 0  # since when the source is expected to answer
        self._policy_ns: int | None = None  # observation of its last answer
        self._finished_ns: int | None = None  # since when the source has no further action
        self._still: np.ndarray | None = None  # where the arm stood at the last hold
        self._held_ns = 0
        self._reconnects = self._asked_ns = 0  # motion begins with a reading from after this

    @property
    def takeover(self) -> bool:
        """Whether a person chooses instead of the source."""
        return self.source is not self.parts.source

    @property
    def error(self) -> int:
        """The arm's code in the last reading, 0 for none."""
        reading = self.scene.reading  # once: other threads ask, too
        return 0 if reading is None else reading.error

    def tick(self) -> None:
        """Does one tick; never raises: whatever goes wrong becomes a fault with its reason."""
        self._seen_shuttings = self._gate.shuttings
        self._guarded(self._look)
        for request in self._operator.take():
            self._guarded(functools.partial(obey, self, request))
        self._guarded(functools.partial(end_clearing, self))
        self._guarded(self._act)

    def happen(self, event: Event, reason: str) -> None:
        """Takes the state machine's next step, with all that follows from it."""
        if self.clearing and event in (Event.FAULT, Event.ESTOP):
            # Newer than what the person has acknowledged by the reset.
            self.clearing, self.reason = 0, reason
            self.release.forget_clearing()
        before, self.mode = self.mode, next_mode(self.mode, event)
        stops = event in (Event.HOLD, Event.FAULT, Event.ESTOP) or self.mode not in MOVING
        if stops and (self._gate.is_open or self.mode is not before):
            self._shut()
        if self.mode is before:
            return  # the first reason is the one that a person needs
        self.reason = reason
        _LOG.info("%s -> %s: %s", before, self.mode, reason)
        if self.mode in MOVING:
            self._opening, self._finished_ns = True, None
            self._asked_ns = self._now_ns()
            # Its answers from before are not what is waited for now.
            self._waiting_ns, self._policy_ns = self._now_ns(), None
        if before is Mode.APPROACH and self.mode is Mode.RUNNING:
            self.log.begin()
            self.source.reset()
        elif before in EPISODE and self.mode in EPISODE:
            self.log.note(f"{self.mode}: {reason}")
        elif before in EPISODE:
            self.log.end(reason)
            self.source = self.parts.source
        self.release.want(self.mode is Mode.RUNNING and self.source.kind == self.hand.kind)

    def begin(self) -> None:
        """Idle becomes approach, from where the arm stands; refused with a reason unless ready."""
        if problem := self.unready():
            self.reason = f"not started: {problem}"
            return
        self.happen(Event.START, "started by the operator")
        pose, reading = self.parts.approach, self.scene.reading
        if pose is None or reading is None or self.mode is not Mode.APPROACH:
            self.happen(Event.ARRIVED, "the run begins where the arm stands")
        else:
            self._approach = self._new_approach(pose, reading)

    def resume(self, reason: str) -> None:
        """Hold becomes running; refused with a reason unless ready."""
        problem = self.unready()
        if problem:
            self.reason = f"not resumed: {problem}"
        else:
            self.happen(Event.RESUME, reason)

    def unready(self) -> str:
        """Why nothing may move now, "" when it may."""
        scene = self.scene
        old = judge(ages(scene, None), self.parts.watchdog)
        return (
            scene.missing
            or reading_problem(scene.reading)
            or ("" if old.level < Level.HOLD else ", ".join(old.reasons))
            or self.log.trouble
            or self.release.failure
            or ("the arm's error is being cleared" if self.clearing else "")
            or _not_ready(self.source)
            or self._misfit()
        )

    def _misfit(self) -> str:
        """Why the source's policy does not fit this robot; "" for a fitting or unlearned one."""
        spec = getattr(self.source, "spec", None)
        if not isinstance(spec, PolicySpec):
            return ""
        try:
            check_compatible(spec, self.parts.action, self.parts.observation, self.source.name)
        except SpecMismatch as error:
            return str(error)
        return ""

    def switch(self, source: ActionSource) -> None:
        """Puts another source in the active one's place; the arm must not be running."""
        self.source = source
        if source.kind not in ("script", "replay"):
            source.reset()  # what it knew is from before; a course goes on where it stopped

    def fail(self, reason: str) -> None:
        """A fault, even if holding itself fails."""
        try:
            self.happen(Event.FAULT, reason)
        except Exception:
            _LOG.exception("while going into the fault")
            self.mode, self.reason = next_mode(self.mode, Event.FAULT), reason

    def end(self, reason: str) -> None:
        """The bridge stops: holds and ends the episode."""
        self._guarded(functools.partial(self.happen, Event.FINISH, reason))
        self._guarded(functools.partial(self.log.end, reason))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if reason != self.reason:
                _LOG.exception("the control loop holds the arm")
            self.fail(reason)

    def _shut(self) -> None:
        """Holds the arm; the gate stays shut until it is opened for the next motion."""
        reading = self.scene.reading
        self._opening, self._still = False, None if reading is None else reading.angles
        try:
            self._gate.shut()
        except Exception:  # nothing gets through any more; what else follows must happen too
            _LOG.exception("the arm could not be held; trying again")
            self.counts["hold_failed"] += 1
            self._still = np.full(len(self.parts.joints), np.inf)  # so that it is tried again
        # Ours is not one that came in between.
        self._seen_shuttings += 1
        self._held_ns = self._now_ns()

    def _look(self) -> None:
        now = self._now_ns()
        self.scene = Scene(now, None, {}, None, "looking failed")  # if it does
        self.scene = look(self.parts, now)

    def _act(self) -> None:
        gap, self._acted_ns = self.scene.time_ns - self._acted_ns, self.scene.time_ns
        if gap > _GAP_NS and self.mode in MOVING and not self._opening:
            # The machine slept, or gave the loop no time: what was planned is not meant any more.
            self.happen(Event.HOLD, f"the control loop did not run for {gap / 1e9:.1f} s")
        if (found := self.parts.robot.health().reconnects) != self._reconnects:
            # The arm was stopped: targets begin anew where the next reading says that it stands.
            self._reconnects, self._asked_ns = found, self.scene.time_ns
            self._opening |= self.mode in MOVING
        # Approaching, there is no source yet; how old its answers are is known once it was asked.
        if self.mode in MOVING and self._fresh(None):
            if not self._settled():
                return
            if self.mode is Mode.APPROACH:
                self._step_approach()
            else:
                self._step_run()
        elif self.mode not in MOVING:
            self._keep_still()

    def _fresh(self, policy_s: float | None) -> bool:
        """Whether this tick may move the arm; holds when something is missing or too old."""
        scene = self.scene
        found = ages(scene, policy_s)
        self.ages_ms = {
            "reading": _milliseconds(found.wire_s),
            "observation": _milliseconds(found.observation_s),
            "policy": _milliseconds(found.policy_s),
        }
        judgement = judge(found, self.parts.watchdog)
        reasons = ", ".join(judgement.reasons)
        if problem := reading_problem(scene.reading):
            self.happen(Event.FAULT, problem)
        elif judgement.level is Level.FAULT:
            self.happen(Event.FAULT, reasons)
        elif problem := scene.missing or self.log.trouble:
            self.happen(Event.HOLD, problem)
        elif judgement.level is Level.HOLD:
            self.happen(Event.HOLD, reasons)
        elif judgement.level is Level.WAIT:
            self.counts["waited"] += 1
        else:
            return True
        return False

    def _settled(self) -> bool:
        """Whether the joints are as the source needs them; then the gate is opened if it has to."""
        by_hand = self._by_hand()
        if self.release.failure:
            self.happen(Event.FAULT, self.release.failure)
            return False
        if not (self.release.free if by_hand else self.release.gripped):
            self._waiting_ns = self._now_ns()
            return False
        if self._opening and not by_hand:
            reading = self.scene.reading
            if reading is not None and reading.time_ns <= self._asked_ns:
                return False
            try:
                self._filter.start(reading, self._now_ns())
            except SafetyError as error:
                self.happen(Event.FAULT, str(error))
                return False
            self._opening = not self._gate.open(self._seen_shuttings)
        return by_hand or not self._opening

    def _by_hand(self) -> bool:
        return self.mode is Mode.RUNNING and self.source.kind == self.hand.kind

    def _new_approach(self, pose: np.ndarray, reading: Reading) -> Approach:
        parts, gripper = self.parts, None
        if parts.with_gripper:
            wanted = parts.approach_gripper
            gripper = reading.gripper if wanted is None else wanted
        return Approach(reading, pose, gripper, 1 / parts.rate_hz, parts.approach_limits)

    def _step_approach(self) -> None:
        if self._approach is None:
            raise RuntimeError("mode approach without a way")
        step = self._approach.step(self.scene.reading)
        if step.failure is not None:
            self.happen(Event.FAULT, step.failure)
        elif step.arrived:
            self.happen(Event.ARRIVED, "the arm was measured to stand at the start pose")
        else:
            self._send(step.action)

    def _step_run(self) -> None:
        """Asks the source and does what safety leaves of its wish."""
        scene, now = self.scene, self._now_ns()
        if scene.observation is None:
            return
        self.source.observe(scene.observation)
        planned = self.source.action(now)
        if planned is not None:
            self._policy_ns = planned.observed_ns
        if not self._fresh(age_s(self._policy_ns, now, self._waiting_ns)):
            return
        if planned is None:
            self.counts["waited"] += 1
            return
        if self._by_hand():
            self.log.step(scene, planned.action, planned.action, self.source.kind, now, ())
        else:
            self._send(planned.action)
        if planned.finished and self.mode is Mode.RUNNING:
            self._finish(now)

    def _finish(self, now: int) -> None:
        """Ends the run when the arm has followed its last target, or had time to."""
        if self._finished_ns is None:
            self._finished_ns = now
        reading = self.scene.reading
        there = reading is None or self.target is None
        if reading is not None and self.target is not None:
            away = np.abs(self.target[: len(reading.angles)] - reading.angles).max()
            there = bool(away < _FOLLOWED_RAD)
        if there or now - self._finished_ns > _FOLLOW_NS:
            self.happen(Event.FINISH, f"{self.source.name} has finished")

    def _send(self, wish: np.ndarray) -> None:
        """One wish through safety to the arm and into the log."""
        verdict = self._filter.check(wish, self.scene.reading, self._now_ns())
        self.counts.update(verdict.interventions)
        if verdict.fault is not None:
            self.counts["fault"] += 1
            self.happen(Event.FAULT, verdict.fault)
            return
        gripper = [] if verdict.gripper is None else [verdict.gripper]
        command = np.array([*verdict.angles, *gripper])
        if not verdict.held:  # a target that stays is not sent again
            if not self._gate.write(verdict.angles, verdict.gripper):
                return  # a person was faster: the next tick knows
            self._sent_ns = self._now_ns()
            self.target = command
        if self.mode is Mode.RUNNING:
            kind = self.source.kind
            self.log.step(self.scene, command, wish, kind, self._sent_ns, verdict.interventions)

    def _keep_still(self) -> None:
        """Holds again when the arm still moves: a lost stop is worse than one too many."""
        reading, now = self.scene.reading, self._now_ns()
        if reading is None or not self.release.gripped or now - self._held_ns < _HOLD_AGAIN_NS:
            return
        if self._still is None:
            self._still = reading.angles
        elif np.abs(reading.angles - self._still).max() > _STILL_RAD:
            self.counts["held_again"] += 1
            self._shut()


def _not_ready(source: ActionSource) -> str:
    health = source.health()
    why = f": {health.last_error}" if health.last_error else ""
    return "" if health.ready else f"{source.name} is not ready{why}"


def _milliseconds(age: float | None) -> float | None:
    return None if age is None else round(1000 * age, 3)
