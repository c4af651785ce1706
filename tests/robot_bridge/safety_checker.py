"""A second opinion on what the safety filter lets through; shares no code with it.

Plain loops over published numbers, and forward kinematics by the Denavit-Hartenberg table instead
of the URDF chain. Fed with every verdict in order, it asserts what must never be otherwise.
"""

import math

import numpy as np

from robot_bridge.safety.safety_filter import Verdict

# Smallest of the published tables, less 2 degrees; rad.
LIMITS = np.array([2.93, 2.35, 2.53, 2.5307274, 2.93, 3.14]) - 0.0349065
SPEED, ACCELERATION = math.radians(60), math.radians(300)
LAG, JUMP = math.radians(25), math.radians(30)
TABLE = 0.010
_DH = (  # theta offset, d, a, alpha
    (0.0, 0.17386, 0.0, -math.pi / 2),
    (-math.pi / 2, 0.0, 0.135, 0.0),
    (0.0, 0.0, 0.11998, 0.0),
    (math.pi / 2, 0.08773, 0.0, math.pi / 2),
    (0.0, 0.09497, 0.0, -math.pi / 2),
    (0.0, 0.06549, 0.0, 0.0),
)
_EPS = 1e-7


def heights(angles: np.ndarray, tool: float) -> list[float]:
    """z (m) of the lowest points of flange and two fingers of a gripper of this length."""
    pose = np.eye(4)
    for angle, (offset, d, a, alpha) in zip(angles, _DH, strict=True):
        ct, st, ca, sa = (f(x) for x in (angle + offset, alpha) for f in (math.cos, math.sin))
        pose = pose @ np.array(
            [
                [ct, -st * ca, st * sa, a * ct],
                [st, ct * ca, -ct * sa, a * st],
                [0.0, sa, ca, d],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
    parts = (  # x, two z on the flange's axis, radius
        (0.0, -0.0113, 0.0079, 0.029),
        (0.04, 0.06, tool - 0.0125, 0.0125),
        (-0.04, 0.06, tool - 0.0125, 0.0125),
    )
    return [
        float(min(pose[2] @ [x, 0.0, z, 1.0] for z in ends)) - radius for x, *ends, radius in parts
    ]


class Checker:
    """Follows one filter from start to start.

    Args:
        period_s: of the loop.
        tool: length of the adaptive gripper that the flange carries, m.
    """

    def __init__(self, period_s: float, tool: float) -> None:
        self._tool = tool
        self._step, self._change = SPEED * period_s, ACCELERATION * period_s**2
        self._period_ns = 1e9 * period_s
        self.moves, self.holds, self.faults = 0, 0, 0
        self._target: np.ndarray | None = None

    def started(self, measured: np.ndarray, gripper: float) -> None:
        """The filter was started from this reading."""
        self._target, self._gripper = measured.copy(), gripper
        self._last = np.zeros(6)
        self._fault = False
        self._stepped_ns: list[int] = []
        self._latest_ns: int | None = None

    def see(self, verdict: Verdict, measured: np.ndarray | None, now_ns: int) -> None:
        """One verdict, with what the filter knew."""
        assert self._target is not None
        angles = verdict.angles
        assert angles.shape == (6,)
        assert np.isfinite(angles).all()
        assert verdict.gripper is not None
        assert 0 <= verdict.gripper <= 1
        if self._fault:
            assert verdict.fault is not None, "a fault ended without a start"
        if verdict.fault is not None or verdict.held:
            assert (angles == self._target).all(), "the target moved in spite of a hold"
            assert verdict.gripper == self._gripper
        if self._latest_ns is not None and now_ns < self._latest_ns:
            self._stepped_ns = []  # the clock went back: steps are counted anew
        if verdict.fault is not None:
            self._fault = True
            self.faults += 1
        elif verdict.held:
            self.holds += 1
            if "held:early" not in verdict.interventions:  # no tick at all, as far as motion goes
                self._last = np.zeros(6)
        else:
            assert measured is not None, "it moved without a reading"
            self._check_move(verdict, measured, now_ns)
        self._latest_ns = now_ns
        self._target, self._gripper = angles.copy(), verdict.gripper

    def _check_move(self, verdict: Verdict, measured: np.ndarray, now_ns: int) -> None:
        assert self._target is not None
        step = verdict.angles - self._target
        rested = self._latest_ns is not None and now_ns - self._latest_ns > 2.4 * self._period_ns
        last = np.zeros(6) if rested and np.abs(step).max() <= self._change + _EPS else self._last
        assert np.abs(step).max() <= self._step + _EPS, "too fast"
        assert np.abs(step - last).max() <= self._change + _EPS, "too abrupt"
        for joint in range(6):
            self._check_joint(joint, float(verdict.angles[joint]), float(step[joint]))
        ahead = np.abs(verdict.angles - measured)
        assert (ahead <= np.maximum(LAG, np.abs(self._target - measured)) + _EPS).all(), "lead"
        before, after = (heights(angles, self._tool) for angles in (self._target, verdict.angles))
        for was, now in zip(before, after, strict=True):
            assert now >= min(TABLE, was) - _EPS, "into the table"
        assert abs(verdict.gripper - self._gripper) <= self._step / SPEED + _EPS  # type: ignore[operator]
        self._check_rate(now_ns)
        self._last = step
        self.moves += 1

    def _check_joint(self, joint: int, angle: float, step: float) -> None:
        """Inside the limit, or on the way back; and able to stop before it."""
        assert self._target is not None
        outside = abs(float(self._target[joint])) - LIMITS[joint]
        assert abs(angle) <= LIMITS[joint] + max(outside, 0.0) + _EPS, "beyond a limit"
        if outside > 0:
            return
        while abs(step) > self._change:
            step -= math.copysign(self._change, step)
            angle += step
            assert abs(angle) <= LIMITS[joint] + _EPS, "cannot stop before the limit"

    def _check_rate(self, now_ns: int) -> None:
        """No burst: the clock may lie, but while it is right steps come once a period."""
        self._stepped_ns.append(now_ns)
        for count, earlier in enumerate(reversed(self._stepped_ns[-20:]), 1):
            assert count <= (now_ns - earlier) / self._period_ns + 1.5 + 1e-6, "a burst"
