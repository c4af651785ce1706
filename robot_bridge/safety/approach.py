"""The slow way to a start pose, and the proof that the arm got there.

In: a reading per tick. Out: an action per tick (which `safety_filter.py` still checks), and at last
"arrived" or a failure in words. All joints start and stop together on a straight line in joint
space; the line waits for an arm that lags. Arrival is judged by measured angles only: the
controller's own "in position" and fixed pauses are not to be believed. No clock, no arm.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from robot_bridge.arm import COMMAND_LIMITS, JOINTS
from robot_bridge.robots import Reading
from robot_bridge.safety.step_limits import brakable_step


@dataclasses.dataclass(frozen=True)
class ApproachLimits:
    """How slowly, and what counts as there.

    Attributes:
        speed, acceleration: of the joint with the longest way, rad/s and rad/s^2.
        gripper_speed: openings per second.
        lag: rad; with an arm farther behind, the target waits.
        tolerance: rad; largest error of a joint at the goal.
        settle_s: how long all joints must be within it.
        timeout_s: how long in all the target may wait for the arm, on the way and at the goal.
    """

    speed: float = math.radians(20.0)
    acceleration: float = math.radians(40.0)
    gripper_speed: float = 0.5
    lag: float = math.radians(12.0)
    tolerance: float = math.radians(2.0)
    settle_s: float = 0.3
    timeout_s: float = 8.0

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not 0 < value <= most:  # NaN fails too
                raise ValueError(f"approach {name}={value}: must be above 0, at most {most:.4g}")


# Beyond this an approach is not slow, or not verified.
_MOST = {
    "speed": math.radians(60.0),
    "acceleration": math.radians(300.0),
    "gripper_speed": 1.0,
    "lag": math.radians(25.0),
    "tolerance": math.radians(10.0),
    "settle_s": 10.0,
    "timeout_s": 120.0,
}


@dataclasses.dataclass(frozen=True)
class ApproachStep:
    """One tick.

    Attributes:
        action: float64 [A] to be checked and sent.
        progress: share of the way, 0 ... 1.
        arrived: the arm was measured to stand at the goal.
        failure: why it will not get there, in words; None while it may.
    """

    action: np.ndarray
    progress: float
    arrived: bool = False
    failure: str | None = None


class Approach:
    """One approach.

    Args:
        start: the reading it begins from.
        goal: [6] angles, rad.
        gripper: opening at the goal; None without gripper (actions then have 6 numbers).
        period_s: of the control loop.
        limits: how slowly.

    Raises:
        ValueError: the goal is not a pose inside the command limits.
    """

    def __init__(
        self,
        start: Reading,
        goal: ArrayLike,
        gripper: float | None,
        period_s: float,
        limits: ApproachLimits,
    ) -> None:
        self._goal = _checked_goal(goal)
        first, last = [*start.angles], [*self._goal]
        if gripper is not None:
            first, last = [*first, start.gripper], [*last, min(max(gripper, 0.0), 1.0)]
        self._first, self._way = np.array(first), np.array(last) - np.array(first)
        # The gripper counts as a joint, in the angle that takes as long.
        angle = limits.speed / limits.gripper_speed
        self._length = float(
            np.abs(self._way * ([1.0] * 6 + [angle] * (gripper is not None))).max()
        )
        self._limits = limits
        self._longest_step = limits.speed * period_s
        self._change = limits.acceleration * period_s**2
        self._settle = max(1, math.ceil(limits.settle_s / period_s))
        self._patience = max(1, math.ceil(limits.timeout_s / period_s))
        self._done, self._last_step = 0.0, 0.0
        self._settled, self._waited = 0, 0

    def step(self, reading: Reading | None) -> ApproachStep:
        """The next target, given the newest reading (None: there is none)."""
        error = self._error(reading)
        there = self._done >= self._length
        if there:
            self._settled = self._settled + 1 if error.max() <= self._limits.tolerance else 0
            self._waited += self._settled == 0
        elif error.max() > self._limits.lag:
            self._last_step = 0.0
            self._waited += 1
        else:
            self._advance()
        failure = None
        if self._waited >= self._patience:
            failure = _describe(reading, error, there)
        return ApproachStep(
            self._target(), self._progress(), self._settled >= self._settle, failure
        )

    def _advance(self) -> None:
        room = self._length - self._done
        brakable = float(brakable_step(np.array(room), self._change))
        self._last_step = min(self._last_step + self._change, self._longest_step, brakable)
        # The last of the shrinking steps takes what rounding left.
        self._done = self._length if room - self._last_step < 1e-9 else self._done + self._last_step

    def _progress(self) -> float:
        return self._done / self._length if self._length > 0 else 1.0

    def _target(self) -> np.ndarray:
        return self._first + self._progress() * self._way

    def _error(self, reading: Reading | None) -> np.ndarray:
        """Distance [6] of the arm from its target; infinite without a reading."""
        if reading is None:
            return np.full(len(JOINTS), np.inf)
        error = np.abs(reading.angles - self._target()[: len(JOINTS)])
        return np.where(np.isfinite(error), error, np.inf)


def _checked_goal(goal: ArrayLike) -> np.ndarray:
    angles = np.array(goal, np.float64)
    if angles.shape != (len(JOINTS),) or not np.isfinite(angles).all():
        raise ValueError(f"start pose: need {len(JOINTS)} finite angles, found {angles.tolist()}")
    for name, angle, limit in zip(JOINTS, angles, COMMAND_LIMITS, strict=True):
        if abs(angle) > limit:
            raise ValueError(
                f"start pose: {name} at {math.degrees(angle):.1f} degrees is beyond "
                f"+-{math.degrees(limit):.1f}"
            )
    return angles


def _describe(reading: Reading | None, error: np.ndarray, at_goal: bool) -> str:
    if reading is None:
        return "the arm did not answer during the approach; check its cable and power"
    joint = int(error.argmax())
    where = "stopped short of the start pose" if at_goal else "does not follow the approach"
    degrees = math.degrees(error[joint])
    return f"{JOINTS[joint]} {where} by {degrees:.1f} degrees; is something in its way?"
