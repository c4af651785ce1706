"""A safety filter with an arm that obeys at once: what its tests tick."""

import dataclasses

import numpy as np

from robot_bridge.arm import HOME
from robot_bridge.robots import Reading
from robot_bridge.safety.safety_filter import Limits, SafetyFilter

DEGREE = np.radians(1.0)


class Loop:
    """A filter at 10 Hz whose arm obeys at once; `measured` may be set apart from the target."""

    def __init__(self, pose=HOME, limits=None, rate_hz=10.0):
        self.period_ns = round(1e9 / rate_hz)
        self.filter = SafetyFilter(limits or Limits(), 1 / rate_hz)
        self.now_ns = 10**9
        self.measured = np.array(pose, float)
        self.frozen = False
        self.filter.start(self.reading(), self.now_ns)

    def reading(self, **changes):
        reading = Reading(self.now_ns, self.measured.copy(), gripper=0.5)
        return dataclasses.replace(reading, **changes)

    def tick(self, angles, gripper=0.5, after=1.0, seen=None):
        """The verdict on a wish, `after` periods later; `seen` changes the reading."""
        self.now_ns += round(after * self.period_ns)
        wish = np.append(angles, gripper)
        verdict = self.filter.check(wish, self.reading(**(seen or {})), self.now_ns)
        if verdict.fault is None and not self.frozen:
            self.measured = verdict.angles
        return verdict

    @property
    def target(self):
        return self.filter.hold_target()[0]


def moved(pose, joint, degrees):
    """A pose (rad) with one joint (1 ... 6) turned by so much."""
    return np.asarray(pose, float) + np.eye(6)[joint - 1] * degrees * DEGREE
