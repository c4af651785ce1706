"""How the emulated joints and fingers move: first-order lag under a speed limit, in closed form.

In: targets with a speed argument, and the time. Out: where everything is. Degrees, percent and
seconds, as on the wire. Numbers are estimates tuned to what the one-arm project logged (.1 ... .3 s
behind a target that moves at 20 % speed); no masses, no gravity: that is the twin's business.
"""

import math
from collections import deque
from collections.abc import Collection

import numpy as np

JOINTS = 6
# ~120 degrees/s at 100 % is recalled, not published.
MAX_SPEED = 120.0  # degrees/s at 100 %
ARRIVED = 0.05  # degrees; nearer than this a target is reached


def approach(value: float, target: float, tau: float, top_speed: float, seconds: float) -> float:
    """Where `value` is after `seconds` on its way: constant speed, then exponentially slower."""
    error = target - value
    near = top_speed * tau  # from here on the lag is slower than the limit
    distance = abs(error)
    straight = min(seconds, max(0.0, (distance - near) / top_speed))
    distance -= straight * top_speed
    distance *= math.exp(-(seconds - straight) / tau)
    return target - math.copysign(distance, error)


class Joints:
    """Six joints with targets one after the other (queue) or the newest only.

    Attributes:
        degrees: [6], where they are.
        gripped: [6] bool, which servos hold and follow.
        newest_only: fresh mode 1; otherwise targets queue up.
        paused: they stand until resumed.
    """

    def __init__(self, degrees: tuple[float, ...], tau: float) -> None:
        self.degrees = np.array(degrees, float)
        self.gripped = np.ones(JOINTS, bool)
        self.newest_only = False
        self.paused = False
        self._tau = tau
        self._target = self.degrees.copy()
        self._speed = 100.0
        self._queue: deque[tuple[np.ndarray, float]] = deque()

    @property
    def target(self) -> np.ndarray:
        """[6], what the last accepted command leads to in the end."""
        return (self._queue[-1][0] if self._queue else self._target).copy()

    @property
    def queued(self) -> int:
        """Targets behind the present one."""
        return len(self._queue)

    @property
    def moving(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._queue) or not self._arrived()

    def go(self, target: np.ndarray, speed: float) -> None:
        """Accepts a target [6] at `speed` percent."""
        target = np.array(target, float)
        if self.newest_only or not self.moving:
            self._queue.clear()
            self._target, self._speed = target, speed
        else:
            self._queue.append((target, speed))

    def stop(self) -> None:
        """Stands where it is; forgets all targets."""
        self._queue.clear()
        self._target = self.degrees.copy()
        self.paused = False

    def set_gripped(self, joint: int | None, gripped: bool) -> None:
        """Grips one servo (or all: None) where it is, or lets it go."""
        which = slice(None) if joint is None else joint
        self.gripped[which] = gripped
        self._queue.clear()
        self._target[which] = self.degrees[which]

    def push(self, degrees: np.ndarray) -> None:
        """Somebody moves the arm by hand: joints that no servo holds go there."""
        self.degrees = np.where(self.gripped, self.degrees, degrees)
        self._target = np.where(self.gripped, self._target, self.degrees)

    def advance(
        self, seconds: float, lag_s: float = 0.0, stuck: Collection[int] = frozenset()
    ) -> None:
        """Time passes; `lag_s` is added to the time constant, joints in `stuck` do not move."""
        left = seconds
        while left > 0 and not self.paused:
            # Queued targets begin within the interval, so it is cut into short ones then.
            step = min(left, 0.01) if self._queue else left
            self._follow(step, self._tau + lag_s, stuck)
            left -= step
            if self._queue and self._arrived():
                self._target, self._speed = self._queue.popleft()

    def _follow(self, seconds: float, tau: float, stuck: Collection[int]) -> None:
        top = MAX_SPEED * self._speed / 100
        for joint in set(np.flatnonzero(self.gripped).tolist()) - set(stuck):
            self.degrees[joint] = approach(
                self.degrees[joint], self._target[joint], tau, top, seconds
            )

    def _arrived(self) -> bool:
        error = np.abs(self._target - self.degrees)[self.gripped]
        return bool(np.all(error < ARRIVED))


class Gripper:
    """The adaptive gripper, 0 (closed) ... 100 (open), at constant speed.

    Attributes:
        value: where it is.
        target: where it goes.
    """

    # Fully open to closed in .7 s at full speed (estimate).
    TOP_SPEED = 140.0

    def __init__(self, value: float) -> None:
        self.value = self.target = float(value)
        self._speed = 100.0

    @property
    def moving(self) -> bool:
        """Whether it is on its way."""
        return self.value != self.target

    def go(self, target: float, speed: float) -> None:
        """Accepts a target at `speed` percent."""
        self.target, self._speed = float(target), speed

    def advance(self, seconds: float) -> None:
        """Time passes."""
        reach = self.TOP_SPEED * self._speed / 100 * seconds
        self.value += float(np.clip(self.target - self.value, -reach, reach))
