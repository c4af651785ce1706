"""The last word on every target: what a source wishes becomes what the arm may do now.

In: an action (a wish), the newest reading, the time. Out: a `Verdict` with a target that keeps
joint limits, speed, acceleration and clearances, the names of what was changed, or a fault. A fault
stays until the filter is started again from a reading; the caller then holds and sends nothing.
No clock, no thread, no arm: ages of data are `watchdog.py`'s business, modes `modes.py`'s.
"""

import dataclasses
import math

import numpy as np

from robot_bridge.arm import COMMAND_LIMITS, JOINTS, LIMITS, MARGIN, describe_error
from robot_bridge.robots import Reading
from robot_bridge.safety.clearance import Box, Clearance, Tool, adaptive_gripper
from robot_bridge.safety.step_limits import StepLimits, bounded_step

# A start from an older reading could jump to where the arm no longer is.
MAX_START_AGE_S = 1.0
# Ticks that may be saved up, and that a tick may come early, so that jitter changes nothing.
_MOST_CREDIT, _LEAST_CREDIT = 1.25, 0.75
# After this many periods without a target the arm stands: the next step starts from rest.
_REST_PERIODS = 2.5
_ROUNDING = 1e-9
# Where the way to a target is looked at: shares of the way from the measured pose, and from the
# last target (whose way to the new one the arm follows when it lags behind).
_FROM_MEASURED = np.array([0.0, 0.25, 0.5, 0.75])[:, None]
_FROM_TARGET = np.array([0.5, 1.0])[:, None]


class SafetyError(Exception):
    """The arm cannot be moved from where it is; says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed. The defaults are safe; nothing here can be switched off, only set.

    Attributes:
        low, high: [6] targets' range, rad; inside the arm's limits less its margin.
        speed: of each joint, rad/s (60 degrees/s: 6 per tick at 10 Hz).
        acceleration: of each joint's target, rad/s^2. Standing still at once is always allowed.
        gripper_speed: openings per second.
        jump: rad; a wish this far from the target or from the last wish is a fault, and so is an
            arm this far from its target.
        lag: rad; a target leads the measured angles by no more.
        hold_s: a fault follows when no step was possible for so long.
        tool: what the flange carries.
        box: where flange and tool may be.
        table_z: height of the table in the controller's base frame, m.
        table_distance: of everything above the table, m.
        self_distance: between links, m.
    """

    low: tuple[float, ...] = tuple(-limit for limit in COMMAND_LIMITS)
    high: tuple[float, ...] = COMMAND_LIMITS
    speed: float = math.radians(60.0)
    acceleration: float = math.radians(300.0)
    gripper_speed: float = 1.0
    jump: float = math.radians(30.0)
    lag: float = math.radians(25.0)
    hold_s: float = 1.0
    tool: Tool = dataclasses.field(default_factory=adaptive_gripper)
    box: Box = dataclasses.field(default_factory=Box)
    table_z: float = 0.0
    table_distance: float = 0.01
    self_distance: float = 0.01

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:  # NaN fails too
                raise ValueError(f"safety {name}={value}: allowed are {least:.4g} to {most:.4g}")
        for name, low, high, limit in zip(JOINTS, self.low, self.high, COMMAND_LIMITS, strict=True):
            if not -limit <= low < high <= limit:
                raise ValueError(
                    f"safety limits of {name}: {low}, {high} rad are not inside +-{limit:.4f}"
                )


# What `Limits` accepts: beyond this a limit no longer limits anything.
_RANGES = {
    "speed": (math.radians(1.0), math.radians(180.0)),
    "acceleration": (math.radians(10.0), math.radians(3600.0)),
    "gripper_speed": (0.01, 10.0),
    "jump": (math.radians(1.0), math.radians(60.0)),
    "lag": (math.radians(1.0), math.radians(45.0)),
    "hold_s": (0.0, 10.0),
    "table_z": (-1.0, 1.0),
    "table_distance": (0.0, 0.5),
    "self_distance": (0.0, 0.1),
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What may be sent.

    Attributes:
        angles: float64 [6], rad; with a fault the last target, which is not to be sent.
        gripper: opening 0..1, None for an arm without one.
        interventions: what was changed and why, e.g. "speed:joint2", "held:table:finger_left".
        fault: what is wrong in words; the caller holds the arm.
    """

    angles: np.ndarray
    gripper: float | None
    interventions: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def held(self) -> bool:
        """Whether the target stayed where it was because the wish was not safe."""
        return any(name.startswith("held:") for name in self.interventions)


class SafetyFilter:
    """Checks one stream of wishes; one thread only.

    Args:
        limits: what is allowed.
        period_s: of the control loop. However late a tick comes, its step is one period's.
        with_gripper: whether actions end with an opening (A = 7) or not (A = 6).

    Raises:
        ValueError: a period in which a joint could go farther than a jump.
    """

    def __init__(self, limits: Limits, period_s: float, with_gripper: bool = True) -> None:
        if not (period_s > 0 and limits.speed * period_s < limits.jump):
            raise ValueError(
                f"safety: period {period_s} s is not above 0 and below "
                f"{limits.jump / limits.speed:.3g} s, in which a joint goes as far as a jump"
            )
        self.limits = limits
        self._period_ns = 1e9 * period_s
        self._size = len(JOINTS) + with_gripper
        self._with_gripper = with_gripper
        self._steps = StepLimits(
            low=np.array(limits.low),
            high=np.array(limits.high),
            step=limits.speed * period_s,
            change=limits.acceleration * period_s**2,
        )
        self._gripper_step = limits.gripper_speed * period_s
        self._most_held = max(1, math.ceil(limits.hold_s / period_s))
        self._clearance = Clearance(
            limits.tool, limits.box, limits.table_z, limits.table_distance, limits.self_distance
        )
        self._target = np.zeros(len(JOINTS))
        self._gripper: float | None = None
        self._fault: str | None = "the safety filter was not started from a reading"
        self._forget()

    def _forget(self) -> None:
        """Motion begins anew from the target."""
        self._step = np.zeros(len(JOINTS))
        self._wish = self._target
        self._distances = self._clearance.distances(self._target[None])[0]
        self._held = 0
        self._credit = 1.0
        self._time_ns: int | None = None

    def start(self, reading: Reading | None, now_ns: int) -> None:
        """Begins from where the arm is: the target is the measured pose, at rest; ends a fault.

        To be called whenever the arm was not under this filter's control: at the start, after a
        hold, a fault or an emergency stop.

        Raises:
            SafetyError: there is no usable reading, or the arm stands beyond its limits. The filter
                then has a fault.
        """
        problem = _start_problem(reading, now_ns)
        if problem or reading is None:
            self._fault = problem
            raise SafetyError(problem)
        self._target = np.array(reading.angles, np.float64)
        if self._with_gripper:
            self._gripper = float(np.clip(reading.gripper, 0.0, 1.0))
        self._fault = None
        self._forget()

    def hold_target(self) -> tuple[np.ndarray, float | None]:
        """The last target: angles [6] and opening."""
        return self._target.copy(), self._gripper

    def check(self, action: np.ndarray, reading: Reading | None, now_ns: int) -> Verdict:
        """What may be sent at this tick.

        Args:
            action: [A] wish: joint targets (rad), then the opening if there is a gripper.
            reading: the newest one, however old.
            now_ns: monotonic; a clock that stands or goes back allows no step.

        Returns:
            The verdict. Never raises: whatever cannot be judged is a fault.
        """
        if self._fault is None:
            wish, self._fault = self._read_wish(action)
        if self._fault is None:
            self._fault = reading_problem(reading) or self._far_from_target(reading)
        if self._fault is not None:
            return self._verdict((), self._fault)
        if not self._may_step(now_ns):
            return self._hold(wish, "held:early", keep_moving=True)
        if reading is None:
            return self._hold(wish, "held:no_reading")
        return self._move(wish, np.asarray(reading.angles, np.float64))

    def _move(self, wish: np.ndarray, measured: np.ndarray) -> Verdict:
        """Bounds the step, looks at where it leads, and takes it."""
        joints = wish[: len(JOINTS)]
        bounded = bounded_step(self._steps, self._target, self._step, joints, self._wish)
        target = self._target + bounded.step
        trouble = self._too_far_ahead(target, measured)
        if trouble is None:
            trouble, distances = self._too_close(target, measured)
        if trouble is not None:
            return self._hold(wish, trouble)
        names = [
            f"{reason}:{JOINTS[joint]}"
            for reason in ("limit", "speed", "acceleration")
            for joint in np.flatnonzero(getattr(bounded, reason))
        ]
        if self._gripper is not None:
            names += self._move_gripper(float(wish[-1]))
        self._target, self._step, self._wish = target, bounded.step, joints
        self._distances, self._held = distances, 0
        return self._verdict(tuple(names), None)

    def _move_gripper(self, opening: float) -> list[str]:
        """One step of the gripper; returns the interventions."""
        assert self._gripper is not None
        inside = min(max(opening, 0.0), 1.0)
        way = inside - self._gripper
        self._gripper += min(max(way, -self._gripper_step), self._gripper_step)
        names = ["limit:gripper"] if abs(inside - opening) > _ROUNDING else []
        # Float32 openings and sums of steps differ in the seventh digit.
        return names + (["speed:gripper"] if abs(way) > self._gripper_step + 1e-6 else [])

    def _hold(self, wish: np.ndarray, reason: str, keep_moving: bool = False) -> Verdict:
        """The target stays; too long of it is a fault. Motion goes on after it, or from rest."""
        if not keep_moving:
            self._step = np.zeros(len(JOINTS))
        self._wish = wish[: len(JOINTS)]
        self._held += 1
        if self._held >= self._most_held:
            self._fault = f"no safe step for {self._held} ticks, at last because of {reason}"
        return self._verdict((reason,), self._fault)

    def _verdict(self, interventions: tuple[str, ...], fault: str | None) -> Verdict:
        return Verdict(self._target.copy(), self._gripper, interventions, fault)

    def _read_wish(self, action: np.ndarray) -> tuple[np.ndarray, str | None]:
        """The action as float64 [A], and what is wrong with it."""
        try:
            wish = np.asarray(action, np.float64)
        except (TypeError, ValueError):
            return np.zeros(0), "the action does not consist of numbers"
        if wish.shape != (self._size,):
            return wish, f"the action has shape {list(wish.shape)}, expected [{self._size}]"
        if not np.isfinite(wish).all():
            return wish, "the action contains NaN or infinity"
        joints = wish[: len(JOINTS)]
        for origin, name in ((self._target, "the target"), (self._wish, "the last action")):
            away = np.abs(joints - origin)
            joint = int(away.argmax())
            if away[joint] > self.limits.jump:
                degrees = math.degrees(away[joint])
                return wish, f"the action jumps: {JOINTS[joint]} {degrees:.1f} degrees from {name}"
        return wish, None

    def _far_from_target(self, reading: Reading | None) -> str | None:
        """A fault when the arm is not where it was sent."""
        if reading is None:
            return None
        away = np.abs(reading.angles - self._target)
        joint = int(away.argmax())
        if away[joint] <= self.limits.jump:
            return None
        degrees = math.degrees(away[joint])
        return f"{JOINTS[joint]} is {degrees:.1f} degrees from its target; is the arm blocked?"

    def _too_far_ahead(self, target: np.ndarray, measured: np.ndarray) -> str | None:
        """Holds a target that leads the arm too much and does not come closer to it."""
        ahead = np.abs(target - measured)
        allowed = np.maximum(self.limits.lag, np.abs(self._target - measured)) + _ROUNDING
        joint = int((ahead - allowed).argmax())
        return f"held:lag:{JOINTS[joint]}" if ahead[joint] > allowed[joint] else None

    def _too_close(self, target: np.ndarray, measured: np.ndarray) -> tuple[str | None, np.ndarray]:
        """What the target, or the way to it, comes too close to; and the target's distances.

        Where an arm is too close already, it may go as long as it comes no closer.
        """
        way = np.concatenate(
            [
                measured + _FROM_MEASURED * (target - measured),
                self._target + _FROM_TARGET * (target - self._target),
            ]
        )
        distances = self._clearance.distances(way)
        needed = np.minimum(self._clearance.required, self._distances) - _ROUNDING
        lacking = np.where(
            np.arange(len(way))[:, None] < len(_FROM_MEASURED),
            np.minimum(needed, distances[0] - _ROUNDING) - distances,
            needed - distances,
        ).max(axis=0)
        worst = int(lacking.argmax())
        return f"held:{self._clearance.names[worst]}" if lacking[worst] > 0 else None, distances[-1]

    def _may_step(self, now_ns: int) -> bool:
        """Whether a period has passed; over any time T there are no more than T / period + 1.5."""
        if self._time_ns is not None:
            periods = max(0.0, (now_ns - self._time_ns) / self._period_ns)
            self._credit = min(self._credit + periods, _MOST_CREDIT)
            if periods > _REST_PERIODS:
                self._step = np.zeros(len(JOINTS))
        self._time_ns = now_ns
        if self._credit < _LEAST_CREDIT:
            return False
        self._credit -= 1.0
        return True


def reading_problem(reading: Reading | None) -> str | None:
    """Why nothing may move after such a reading; None for a good one or none at all."""
    if reading is None:
        return None
    angles = np.asarray(reading.angles)
    if angles.shape != (len(JOINTS),) or not np.isfinite(angles).all():
        return f"the reading is not {len(JOINTS)} finite angles"
    if not math.isfinite(reading.gripper):
        return "the reading's opening of the gripper is not finite"
    if not reading.powered:
        return "the arm's power is off; switch it on, then reset"
    return f"{describe_error(reading.error)}; reset clears it" if reading.error else None


def _start_problem(reading: Reading | None, now_ns: int) -> str:
    """Why the filter cannot start from this reading; "" when it can."""
    if reading is None:
        return "the arm has not answered yet; is it connected and switched on?"
    problem = reading_problem(reading)
    if problem is not None:
        return problem
    age = (now_ns - reading.time_ns) / 1e9
    if not abs(age) <= MAX_START_AGE_S:
        return f"the newest reading is {age:.1f} s old; wait until the arm answers"
    # The published limits differ by up to 3 degrees; from a little beyond the way back is allowed.
    beyond = np.abs(reading.angles) - np.array(LIMITS) - MARGIN
    joint = int(beyond.argmax())
    if beyond[joint] > 0:
        degrees = math.degrees(reading.angles[joint])
        return f"{JOINTS[joint]} stands at {degrees:.1f} degrees; move it inside its limits by hand"
    return ""
