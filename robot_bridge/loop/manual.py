"""A person as the source of actions: step by step from afar, or by hand on the free arm.

`Jogged` walks slowly to goals that are moved by jog commands; `HandGuided` reports what the hand
did as the action. The control loop puts one of them in the place of the policy during a take-over;
both also serve alone (teaching). Like every source's, their wishes go through `safety_filter.py`.
"""

import threading

import numpy as np

from robot_bridge.arm import STATE
from robot_bridge.observations import Observation
from robot_bridge.sources import Plan, PlannedAction, SourceHealth

# What a person can follow with the eye, well inside the limits of safety.
JOG_SPEED = 0.35  # rad/s
GRIPPER_SPEED = 0.8  # openings/s
# The goal never runs further ahead of the arm than this: releasing the button stops it soon.
_MAX_LEAD = 0.3  # rad
_MAX_STEP_S = 0.2


class Jogged:
    """Moves joints by increments; an `ActionSource`. `jog` and `open_gripper` from any thread.

    Args:
        dims: names of the action's dimensions; with_gripper: the last one is an opening.
    """

    name = "operator"
    kind = "takeover"

    def __init__(self, dims: tuple[str, ...], with_gripper: bool) -> None:
        self._dims, self._with_gripper = dims, with_gripper
        self._speed = np.full(len(dims), JOG_SPEED)
        if with_gripper:
            self._speed[-1] = GRIPPER_SPEED
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """The next observation is where it starts from."""
        with self._lock:
            self._goal: np.ndarray | None = None
            self._target: np.ndarray | None = None
            self._observed_ns = self._asked_ns = 0

    def observe(self, observation: Observation) -> None:
        """The arm's place; the first one is the first goal."""
        state = np.asarray(observation.vectors[STATE], np.float64)
        with self._lock:
            self._observed_ns = observation.time_ns
            if self._goal is None or self._target is None:
                self._goal, self._target = state.copy(), state.copy()

    def jog(self, joint: str, change: float) -> None:
        """Moves a joint's goal by `change` rad; nothing before the first observation."""
        with self._lock:
            if self._goal is not None and self._target is not None:
                index = self._dims.index(joint)
                ahead = self._goal[index] + change - self._target[index]
                self._goal[index] = self._target[index] + np.clip(ahead, -_MAX_LEAD, _MAX_LEAD)

    def open_gripper(self, opening: float) -> None:
        """Sets the gripper's goal; without gripper nothing."""
        with self._lock:
            if self._with_gripper and self._goal is not None:
                self._goal[-1] = opening

    def action(self, time_ns: int) -> PlannedAction | None:
        """The target, a step nearer to the goal; None before the first observation."""
        with self._lock:
            if self._goal is None or self._target is None:
                return None
            # After a pause (a hold) the time that passed must not become one long step.
            passed = min((time_ns - self._asked_ns) / 1e9, _MAX_STEP_S) if self._asked_ns else 0.0
            self._asked_ns = time_ns
            step = self._speed * passed
            self._target = self._target + np.clip(self._goal - self._target, -step, step)
            return PlannedAction(self._target.astype(np.float32), self._observed_ns)

    def plan(self) -> Plan | None:
        """Nothing is planned."""
        return None

    def health(self) -> SourceHealth:
        """Always ready."""
        return SourceHealth(ready=True)

    def close(self) -> None:
        """Nothing to end."""


class HandGuided:
    """The free arm, moved by a hand: its action is where it is; an `ActionSource`.

    The control loop frees the joints while this source is the active one, and writes nothing.
    """

    name = "hand"
    kind = "teach"

    def __init__(self) -> None:
        self._latest: PlannedAction | None = None

    def reset(self) -> None:
        """Forgets the last observation."""
        self._latest = None

    def observe(self, observation: Observation) -> None:
        """Where the arm is."""
        state = np.asarray(observation.vectors[STATE], np.float32)
        self._latest = PlannedAction(state, observation.time_ns)

    def action(self, time_ns: int) -> PlannedAction | None:
        """The newest observation's pose."""
        return self._latest

    def plan(self) -> Plan | None:
        """Nobody knows."""
        return None

    def health(self) -> SourceHealth:
        """Always ready."""
        return SourceHealth(ready=True)

    def close(self) -> None:
        """Nothing to end."""
