"""A fixed course of actions in time, and the source that plays it: key poses and replays.

In: times and actions, known before the first motion. Out: the action at a moment, interpolated
linearly. The source's time skips what a late tick missed, but stands still while nobody asks (the
loop holds), so that a resumed course goes on where it stopped instead of jumping ahead. Where
courses come from is `key_poses.py`'s and `replay.py`'s business.
"""

import dataclasses

import numpy as np

from arp_jax.specs import ActionSpec
from robot_bridge.observations import Observation
from robot_bridge.sources import Plan, PlannedAction, SourceHealth

# Longer without a question is a hold, not a late tick: the course's time stood still meanwhile.
_PAUSE_NS = 400_000_000
_PLAN_NS = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Actions at points in time, linear in between.

    Attributes:
        times_ns: int64 [N], from 0, rising.
        actions: float32 [N, A], physical units of the action spec.
        origin: file it was read from, for messages.

    Raises:
        ValueError: shapes differ, times do not rise from 0, or a number is not finite.
    """

    times_ns: np.ndarray
    actions: np.ndarray
    origin: str

    def __post_init__(self) -> None:
        times, actions = self.times_ns, self.actions
        if times.ndim != 1 or actions.ndim != 2 or len(times) != len(actions) or not len(times):
            raise ValueError(
                f"{self.origin}: {times.shape} times and {actions.shape} actions; "
                "expected [N] and [N, A] with N > 0"
            )
        if times[0] != 0 or np.any(np.diff(times) <= 0):
            raise ValueError(f"{self.origin}: times must rise from 0")
        bad = np.flatnonzero(~np.isfinite(actions).all(axis=1))
        if bad.size:
            raise ValueError(f"{self.origin}: action {bad[0]} is not finite: {actions[bad[0]]}")

    @property
    def seconds(self) -> float:
        """Length."""
        return float(self.times_ns[-1]) / 1e9

    def at(self, times_ns: np.ndarray) -> np.ndarray:
        """float32 [T, A] at int64 [T]; the first before the beginning, the last after the end."""
        columns = [np.interp(times_ns, self.times_ns, column) for column in self.actions.T]
        return np.stack(columns, axis=-1).astype(np.float32)

    def slowed(self, speed: float) -> "Trajectory":
        """The same course at `speed` (above 0, at most 1) times its speed."""
        if not 0.0 < speed <= 1.0:
            raise ValueError(f"speed must be above 0 and at most 1, found {speed}")
        times = np.round(self.times_ns / speed).astype(np.int64)
        return dataclasses.replace(self, times_ns=times)

    def check_limits(self, spec: ActionSpec) -> None:
        """Raises ValueError naming the first action outside the limits of `spec`."""
        low, high = np.asarray(spec.low), np.asarray(spec.high)
        if self.actions.shape[1] != spec.size:
            raise ValueError(
                f"{self.origin}: actions of {self.actions.shape[1]} numbers, "
                f"the robot takes {spec.size}: {', '.join(spec.dims)}"
            )
        # float32 of a limit may lie a hair outside of it.
        outside = (self.actions < low - 1e-5) | (self.actions > high + 1e-5)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            value, name = float(self.actions[row, column]), spec.dims[column]
            shown = f"{value:.3f}"
            bounds = f"{low[column]:.3f} ... {high[column]:.3f}"
            if name != "gripper":
                shown = f"{np.degrees(value):.1f} deg"
                bounds = f"{np.degrees(low[column]):.1f} ... {np.degrees(high[column]):.1f}"
            raise ValueError(
                f"{self.origin}: action {row} at {self.times_ns[row] / 1e9:.2f} s: "
                f"{name} {shown} is outside {bounds}"
            )


class TrajectorySource:
    """Plays a trajectory once from each `reset`; an `ActionSource`.

    Args:
        trajectory: what to play; its first action is where the arm must stand at the start.
        name: for people.
        kind: of `episode_log.SOURCES`.
    """

    def __init__(self, trajectory: Trajectory, name: str, kind: str) -> None:
        self.name, self.kind, self.trajectory = name, kind, trajectory
        self._queries = 0
        self._elapsed_ns = 0
        self._asked_ns: int | None = None

    @property
    def start(self) -> np.ndarray:
        """float32 [A]: the first action."""
        return self.trajectory.actions[0]

    def reset(self) -> None:
        """Back to the beginning; time starts with the next question."""
        self._queries, self._elapsed_ns, self._asked_ns = 0, 0, None

    def observe(self, observation: Observation) -> None:
        """A fixed course looks at nothing."""

    def action(self, time_ns: int) -> PlannedAction:
        """The action at this monotonic time; `finished` with the last one, and after it."""
        if self._asked_ns is not None:
            passed = max(0, time_ns - self._asked_ns)
            self._elapsed_ns += passed if passed < _PAUSE_NS else 0
        self._asked_ns = time_ns if self._asked_ns is None else max(time_ns, self._asked_ns)
        self._queries += 1
        action = self.trajectory.at(np.array([self._elapsed_ns]))[0]
        finished = self._elapsed_ns >= int(self.trajectory.times_ns[-1])
        return PlannedAction(action, observed_ns=time_ns, finished=finished)

    def plan(self) -> Plan | None:
        """The next two seconds, ten rows a second."""
        if self._asked_ns is None:
            return None
        ahead = np.arange(0, _PLAN_NS, 100_000_000, dtype=np.int64)
        return Plan(self._asked_ns + ahead, self.trajectory.at(self._elapsed_ns + ahead))

    def health(self) -> SourceHealth:
        """Always ready; counts questions."""
        return SourceHealth(ready=True, queries=self._queries)

    def close(self) -> None:
        """Nothing to end."""
