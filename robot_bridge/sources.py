"""Who chooses actions: a policy, a replayed episode, a script. What the control loop asks of them.

The loop hands over each tick's observation and asks for the action of a point in time; neither call
blocks. Implementations: `policy.py` (local artifact or remote server), `replay.py`, `key_poses.py`.
An action from here is a wish: `safety_filter.py` decides.
"""

import dataclasses
from typing import Protocol

import numpy as np

from robot_bridge.observations import Observation


@dataclasses.dataclass(frozen=True)
class PlannedAction:
    """The action for one tick.

    Attributes:
        action: float32 [A], physical units of the action spec.
        observed_ns: monotonic time of the observation that it was computed from.
        finished: nothing comes after this one (the end of a replay or script).
    """

    action: np.ndarray
    observed_ns: int
    finished: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a source intends, for display: times_ns int64 [H] and actions float32 [H, A]."""

    times_ns: np.ndarray
    actions: np.ndarray


@dataclasses.dataclass(frozen=True)
class SourceHealth:
    """State of a source; counts since `reset`.

    Attributes:
        ready: it can be asked (connected, warmed up).
        queries, chunks: observations sent, and chunks received.
        late: chunks dropped because no row of them lay ahead any more.
        skipped: observations never sent because a newer one came first.
        latency_ms: of the last chunk, observation to arrival.
        last_error: in words, "" for none.
    """

    ready: bool = False
    queries: int = 0
    chunks: int = 0
    late: int = 0
    skipped: int = 0
    latency_ms: float = 0.0
    last_error: str = ""


class ActionSource(Protocol):
    """Chooses actions; only `close` may take time."""

    name: str  # for people
    kind: str  # for the log: one of `episode_log.SOURCES`

    def reset(self) -> None:
        """An episode begins: forgets observations and plans."""
        ...

    def observe(self, observation: Observation) -> None:
        """Hands over the newest observation; an older one that was not used yet is dropped."""
        ...

    def action(self, time_ns: int) -> PlannedAction | None:
        """The action for this monotonic time; None while there is none that is valid."""
        ...

    def plan(self) -> Plan | None:
        """What is intended from now on, None without one."""
        ...

    def health(self) -> SourceHealth:
        """State of the source."""
        ...

    def close(self) -> None:
        """Ends it, and processes that it started; twice does no harm."""
        ...
