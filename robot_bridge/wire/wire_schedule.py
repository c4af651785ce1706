"""What goes over the arm's wire next: one line, several wishes, an order of importance. Pure.

In: wishes (stop, newest target, newest opening) and what was done, each with a time. Out: the next
job. Stop comes before everything; targets and readings take turns when both wait; gripper and arm
commands keep a gap, since the arm loses a gripper command that follows too closely; nothing is sent
that is older than allowed; nothing is handed out twice.
"""

import dataclasses
import enum
import math

import numpy as np

from robot_bridge.wire.arm_driver import gripper_count

SECOND = 1_000_000_000


class JobKind(enum.Enum):
    """What the wire's owner can be told to do."""

    STOP = "stop"
    TARGET = "target"
    GRIPPER = "gripper"
    READ_ANGLES = "read angles"
    READ_GRIPPER = "read gripper"
    READ_STATUS = "read status"


READS = (JobKind.READ_ANGLES, JobKind.READ_GRIPPER, JobKind.READ_STATUS)


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast the wire is used; seconds and Hz.

    Attributes:
        gap_s: between the end of an arm command and a gripper command, and the reverse.
        angles_hz: at most; the arm's ATOM answers 50 times a second at best.
        gripper_hz, status_hz: readings of the gripper; of power, error and mode in turn.
        gripper_every_s: between two gripper commands.
        gripper_patience_s: after this long a waiting opening goes before targets.
        max_age_s: a target or opening older than this is never sent.
        stop_again_s: a repeated wish to stop an arm that was not told to move since is repeated
            on the wire at most this often.
    """

    gap_s: float = 0.05
    angles_hz: float = 25.0
    gripper_hz: float = 4.0
    status_hz: float = 4.0
    gripper_every_s: float = 0.2
    gripper_patience_s: float = 0.1
    max_age_s: float = 0.5
    stop_again_s: float = 0.5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"wire pace, {field.name}: {value} is not a number >= 0")
        if self.gap_s < 0.05:
            raise ValueError(f"wire pace, gap_s: {self.gap_s} s; the arm needs at least 0.05 s")
        if not 1 <= self.angles_hz <= 50:
            raise ValueError(f"wire pace, angles_hz: {self.angles_hz} is not in 1 ... 50 Hz")


@dataclasses.dataclass(frozen=True)
class Job:
    """One exchange: `angles` [J] rad for TARGET, `opening` for GRIPPER."""

    kind: JobKind
    angles: np.ndarray | None = None
    opening: float | None = None


class WireSchedule:
    """The wishes that wait and the times that bind them.

    Attributes:
        superseded: targets replaced by a newer one, or dropped by a stop, before they were sent.
        expired: targets and openings dropped because they had become too old.
    """

    def __init__(self, pace: Pace, with_gripper: bool, now_ns: int) -> None:
        self.superseded = 0
        self.expired = 0
        self._pace = pace
        self._target: tuple[int, np.ndarray] | None = None
        # When an opening was first wished in vain, when last, and the opening.
        self._opening: tuple[int, int, float] | None = None
        self._opening_done: int | None = None  # count that the gripper acknowledged last
        self._stop = False
        self._stopped_ns: int | None = None  # when stopped, if nothing was told to move since
        self._arm_ns = self._gripper_ns = now_ns - SECOND  # when the last command ended
        self._read_is_next = True
        periods = {
            JobKind.READ_ANGLES: pace.angles_hz,
            JobKind.READ_GRIPPER: pace.gripper_hz if with_gripper else 0.0,
            JobKind.READ_STATUS: pace.status_hz,
        }
        self._periods = {kind: int(SECOND / hz) for kind, hz in periods.items() if hz > 0}
        self._due = dict.fromkeys(self._periods, now_ns)

    @property
    def stop_wanted(self) -> bool:
        """Whether a stop waits to be acknowledged."""
        return self._stop

    def want(self, angles: np.ndarray, opening: float | None, now_ns: int) -> None:
        """A new target [J] and opening (None: as it is) replace what was not sent yet.

        Raises:
            ValueError: an opening outside 0 ... 1.
        """
        if opening is not None:
            if gripper_count(opening) == self._opening_done:
                self._opening = None
            else:
                since = now_ns if self._opening is None else self._opening[0]
                self._opening = (since, now_ns, opening)
        self.superseded += self._target is not None
        self._target = (now_ns, angles)

    def want_stop(self, now_ns: int) -> None:
        """Stop before anything else; unsent targets are dropped."""
        self.drop()
        again_ns = self._pace.stop_again_s * SECOND
        if self._stopped_ns is None or now_ns - self._stopped_ns >= again_ns:
            self._stop = True

    def drop(self) -> None:
        """Forgets the target and opening that were not sent."""
        self.superseded += self._target is not None
        self._target = self._opening = None

    def forget(self) -> None:
        """The arm may have been restarted: nothing is known to have arrived; unsent is dropped."""
        self.drop()
        self._opening_done = self._stopped_ns = None

    def next(self, now_ns: int, may_move: bool) -> Job | None:
        """The job to do now, None for none; a motion that is returned is never returned again."""
        self._drop_old(now_ns)
        if self._stop:
            return Job(JobKind.STOP)
        read = self._read_due(now_ns)
        motion = self._motion(now_ns) if may_move else None
        if motion is None or (read is not None and self._read_is_next):
            return None if read is None else Job(read)
        if motion is JobKind.GRIPPER:
            assert self._opening is not None
            job = Job(motion, opening=self._opening[2])
            self._opening = None
        else:
            assert self._target is not None
            job = Job(motion, angles=self._target[1])
            self._target = None
        self._stopped_ns = None
        return job

    def done(self, job: Job, began_ns: int, now_ns: int, answered: bool) -> None:
        """The job's exchange, begun at `began_ns`, is over; whether it was acknowledged."""
        self._read_is_next = job.kind in (JobKind.TARGET, JobKind.GRIPPER)
        if job.kind in READS:
            # From the beginning of this one, but never a burst to catch up.
            self._due[job.kind] = max(began_ns + self._periods[job.kind], now_ns)
        elif job.kind is JobKind.STOP:
            if answered:
                self.stopped(now_ns)
        elif job.kind is JobKind.TARGET:
            self._arm_ns = now_ns
        else:
            assert job.opening is not None
            self._gripper_ns = now_ns
            self._opening_done = gripper_count(job.opening) if answered else None

    def stopped(self, now_ns: int) -> None:
        """The arm acknowledged a stop, asked for or not."""
        self._stop = False
        self._arm_ns = self._stopped_ns = now_ns

    def wait_s(self, now_ns: int, may_move: bool) -> float:
        """How long there is nothing to do unless something new is wished."""
        times = list(self._due.values())
        if may_move and self._target is not None:
            times.append(self._arm_free_ns())
        if may_move and self._opening is not None:
            times.append(self._gripper_free_ns())
        return max(0.0, (min(times) - now_ns) / SECOND) if times else 1.0

    def _arm_free_ns(self) -> int:
        return self._gripper_ns + int(self._pace.gap_s * SECOND)

    def _gripper_free_ns(self) -> int:
        gap, every = self._pace.gap_s * SECOND, self._pace.gripper_every_s * SECOND
        return max(self._arm_ns + int(gap), self._gripper_ns + int(every))

    def _motion(self, now_ns: int) -> JobKind | None:
        """Arm or gripper, whichever may be sent now."""
        if self._opening is not None:
            if self._target is None:
                return JobKind.GRIPPER if now_ns >= self._gripper_free_ns() else None
            impatient = now_ns - self._opening[0] >= self._pace.gripper_patience_s * SECOND
            rested = now_ns >= self._gripper_ns + self._pace.gripper_every_s * SECOND
            if impatient and rested:  # targets wait for the gap and the gripper's command
                return JobKind.GRIPPER if now_ns >= self._gripper_free_ns() else None
        if self._target is not None and now_ns >= self._arm_free_ns():
            return JobKind.TARGET
        return None

    def _read_due(self, now_ns: int) -> JobKind | None:
        """The reading that has been due for longest, so that none starves."""
        kind = min(self._due, key=self._due.__getitem__, default=None)
        return kind if kind is not None and self._due[kind] <= now_ns else None

    def _drop_old(self, now_ns: int) -> None:
        limit = self._pace.max_age_s * SECOND
        if self._target is not None and now_ns - self._target[0] > limit:
            self._target = None
            self.expired += 1
        if self._opening is not None and now_ns - self._opening[1] > limit:
            self._opening = None
            self.expired += 1
