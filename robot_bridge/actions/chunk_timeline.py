"""What to do when: chunks of actions merged by time stamp, and the windows that they come from.

Flows in: chunks with the time of their observation. Flows out: the action for a point in time,
between two rows where it lies between them, so that ticks may jitter and may be faster than the
policy's rate. Seams are blended, or predictions averaged, as `arp_jax.control` does in simulation.
No clock, no thread, no socket: times are arguments (monotonic ns).
"""

import collections
import dataclasses

import numpy as np

from arp_jax.control.blending import cross_fade
from robot_bridge.observations import Observation
from robot_bridge.sources import Plan, PlannedAction

# More than any control loop delivers within a policy's window; an older one is then forgotten.
_MAX_OBSERVATIONS = 512
# Chunks that can say something about one time; only averaging needs more than a few.
_MAX_CHUNKS = 512


@dataclasses.dataclass(eq=False)
class _Chunk:
    """Rows [R, A]; row j is meant for observed_ns + j periods.

    `seam_ns` is the first time that was asked for after its arrival: there the fade begins.
    """

    observed_ns: int
    rows: np.ndarray
    seam_ns: int | None = None


class ChunkTimeline:
    """Merges chunks; one thread at a time.

    Args:
        period_ns: between two rows.
        blend: periods over which the running chunk fades into a new one (`control/blending.py`).
        ensemble: temperature of temporal ensembling (`control/ensembling.py`), None for the newest
            chunk alone; not together with `blend`.
    """

    def __init__(self, period_ns: float, blend: int = 0, ensemble: float | None = None) -> None:
        self._period = period_ns
        self._blend = blend
        self._ensemble = ensemble
        self._chunks: list[_Chunk] = []  # by time of their observation, oldest first

    def clear(self) -> None:
        """Forgets all chunks."""
        self._chunks.clear()

    def merge(self, rows: np.ndarray, observed_ns: int, now_ns: int) -> bool:
        """Takes a new chunk.

        Args:
            rows: float32 [R, A], row 0 meant for `observed_ns` (`control.execution`'s
                `available_actions`).
            observed_ns: time of its observation.
            now_ns: the present.

        Returns:
            Whether it is used: not when none of its rows lies ahead, nor when a chunk of a later
            observation is here already.
        """
        if observed_ns + (len(rows) - 1) * self._period < now_ns:
            return False
        if self._chunks and observed_ns <= self._chunks[-1].observed_ns:
            return False
        # One that was never acted on is nothing to fade from.
        if self._ensemble is None and self._chunks and self._chunks[-1].seam_ns is None:
            self._chunks.pop()
        self._chunks.append(_Chunk(observed_ns, rows))
        del self._chunks[:-_MAX_CHUNKS]
        return True

    def action(self, time_ns: int) -> PlannedAction | None:
        """The action for a time, which does not go back from call to call; None: none is valid."""
        self._chunks = self._heard(time_ns)
        if not self._chunks or time_ns < self._chunks[-1].observed_ns:
            return None
        if self._chunks[-1].seam_ns is None:
            self._chunks[-1].seam_ns = time_ns
        if self._ensemble is None:
            action = self._faded(time_ns)
        else:
            action = self._averaged(time_ns, self._ensemble)
        return PlannedAction(action, self._chunks[-1].observed_ns)

    def plan(self, now_ns: int) -> Plan | None:
        """The rows of the newest chunk from now on, as predicted; None without one."""
        if not self._chunks or not self._lasts(self._chunks[-1], now_ns):
            return None
        newest = self._chunks[-1]
        first = max(0, int(np.floor((now_ns - newest.observed_ns) / self._period)))
        steps = np.arange(first, len(newest.rows))
        times = newest.observed_ns + np.round(steps * self._period).astype(np.int64)
        return Plan(times, newest.rows[first:].copy())

    def _lasts(self, chunk: _Chunk, time_ns: int) -> bool:
        """The last row holds for one period."""
        return time_ns < chunk.observed_ns + len(chunk.rows) * self._period

    def _heard(self, time_ns: int) -> list[_Chunk]:
        """The chunks that have a say about a time, oldest first."""
        if self._ensemble is not None:
            return [chunk for chunk in self._chunks if self._lasts(chunk, time_ns)]
        if not self._chunks or not self._lasts(self._chunks[-1], time_ns):
            return []
        first = len(self._chunks) - 1
        while first > 0 and self._fades(self._chunks[first - 1], self._chunks[first], time_ns):
            first -= 1
        return self._chunks[first:]

    def _fades(self, chunk: _Chunk, follower: _Chunk, time_ns: int) -> bool:
        """Whether a chunk still fades into the one after it.

        One that ended before its follower came does not: the arm has held since. One that ends
        while it fades says its last row until it is gone.
        """
        if follower.seam_ns is None:
            return self._blend > 0 and self._lasts(chunk, time_ns)
        return time_ns < follower.seam_ns + self._blend * self._period

    def _faded(self, time_ns: int) -> np.ndarray:
        action = self._row(self._chunks[0], time_ns)
        for chunk in self._chunks[1:]:
            assert chunk.seam_ns is not None
            age = (time_ns - chunk.seam_ns) / self._period
            said = self._row(chunk, time_ns)
            action = cross_fade(action, said, age, self._blend) if age < self._blend else said
        return action

    def _averaged(self, time_ns: int, temperature: float) -> np.ndarray:
        said = np.stack([self._row(chunk, time_ns) for chunk in self._chunks])  # [N, A]
        weights = np.exp(-temperature * np.arange(len(said), dtype=np.float32))
        return (weights / weights.sum()) @ said

    def _row(self, chunk: _Chunk, time_ns: int) -> np.ndarray:
        """What a chunk says about a time: between two rows, or the last one."""
        position = min((time_ns - chunk.observed_ns) / self._period, len(chunk.rows) - 1)
        low = int(position)
        row = chunk.rows[low]
        if position == low:
            return row.copy()
        return row + (position - low) * (chunk.rows[low + 1] - row)


class ObservationWindow:
    """The last observations of an episode, for windows of W at the policy's rate.

    Args:
        period_ns: between two observations of a window.
        window: W.
    """

    def __init__(self, period_ns: float, window: int) -> None:
        self._period = period_ns
        self._window = window
        self._seen: collections.deque[Observation] = collections.deque(maxlen=_MAX_OBSERVATIONS)

    def clear(self) -> None:
        """An episode begins."""
        self._seen.clear()

    def push(self, observation: Observation) -> None:
        """Takes the newest observation; one before the last begins anew (another clock)."""
        if self._seen and observation.time_ns < self._seen[-1].time_ns:
            self._seen.clear()
        self._seen.append(observation)
        # One older than the window stays, for the time nearest to the window's beginning.
        oldest = observation.time_ns - self._window * self._period
        while len(self._seen) > 1 and self._seen[1].time_ns < oldest:
            self._seen.popleft()

    def history(self) -> tuple[int, dict[str, list[np.ndarray]]]:
        """Time of the newest observation, and name -> W arrays, oldest first.

        They are those nearest to W - 1 .. 0 periods before the newest. Before an episode's first
        observation stands that one, as in training.

        Raises:
            LookupError: nothing was pushed yet.
        """
        if not self._seen:
            raise LookupError("no observation yet")
        newest = self._seen[-1].time_ns
        chosen = [
            min(self._seen, key=lambda seen: abs(newest - back * self._period - seen.time_ns))
            for back in range(self._window - 1, -1, -1)
        ]
        rows: dict[str, list[np.ndarray]] = {}
        for seen in chosen:
            for name, value in seen.vectors.items():
                rows.setdefault(name, []).append(np.asarray(value, np.float32))
            for name, frame in seen.frames.items():
                rows.setdefault(name, []).append(frame.image)
        return newest, rows
