"""The bridge as a running thing: assembles the loop and its threads, runs them, ends them safely.

In: `Parts`. Out: an arm that follows the source while nothing is wrong, status for whoever asks, an
episode log per run. Threads: this one's caller waits for signals; the loop keeps the clock; the
recorder writes; robot, source and cameras have their own. What happens in a tick is
`control_loop.py`'s business.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from robot_bridge.log.recorder import Log, Recorder, Unrecorded
from robot_bridge.log.run_log import RunLog
from robot_bridge.loop.clock import Clock, Timing
from robot_bridge.loop.control_loop import ControlLoop
from robot_bridge.loop.joint_release import JointRelease
from robot_bridge.loop.obey import refused
from robot_bridge.loop.operator import COMMANDS, Gate, Operator
from robot_bridge.loop.parts import Parts
from robot_bridge.loop.real_time import Priorities, SlackCollector, Upkeep, quiet_interpreter
from robot_bridge.loop.snapshot import take_snapshot
from robot_bridge.observations import Frame

_LOG = logging.getLogger(__name__)
_FIRST_TICK_S = 10.0
# Quantiles of the timing are worked out this often, not at each tick.
_TIMING_NS = 500_000_000


class Bridge:
    """A bridge; a context manager: entering connects, leaving holds and closes everything.

    Nothing moves before `command("start")`.

    Args:
        parts: what it is made of; the bridge owns and closes them.
        real_time: ask for scheduling priority and collect garbage between ticks only; both are the
            whole process's, so not where something else than a bridge runs in it.

    Attributes:
        scheduling: what of the priorities was permitted, in words.
        lost_steps: that could not be written before `close` gave up; 0 in a healthy life.
    """

    def __init__(self, parts: Parts, real_time: bool = True) -> None:
        self.parts, self._real_time = parts, real_time
        self._gate = Gate(parts.robot)
        self._operator = Operator(self._gate, parts.joints)
        self._recorder: Log = Unrecorded()
        if parts.log_folder is not None:
            self._recorder = Recorder(parts.log_folder, parts.queue_bytes)
        self._release = JointRelease(parts.robot)
        log = RunLog(parts, self._recorder)
        self._loop = ControlLoop(parts, self._operator, self._gate, log, self._release)
        self._clock = Clock(parts.rate_hz)
        self._cameras = {camera.name: camera for camera in parts.cameras}
        self._status = take_snapshot(
            self._loop, self._recorder, 0, self._clock.timing.to_json(), time.monotonic_ns()
        )
        self._ending, self._ticked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run_loop, name="bridge-loop", daemon=True)
        self._opened = self._closed = False
        self.scheduling = ""
        self.lost_steps = 0

    def open(self) -> None:
        """Connects the arm and starts the loop, in mode idle.

        Raises:
            RobotError: the arm is not ready; the message says what to do.
        """
        try:
            self._loop.log.identity = dict(self.parts.robot.connect())
        except BaseException:
            self.close()
            raise
        self._opened = True
        self._thread.start()
        self._ticked.wait(_FIRST_TICK_S)

    def run(self, duration_s: float | None = None, until: Callable[[], bool] | None = None) -> str:
        """Waits for SIGINT, SIGTERM, the end of the loop, or `duration_s`; returns which, in words.

        For the main thread only (signals). Then the arm is held; `close` is still to be called.

        Args:
            duration_s: None: without end.
            until: asked a few times a second; True ends it too.
        """
        came: list[int] = []
        end = None if duration_s is None else time.monotonic() + duration_s
        with _signals(came):
            while True:
                if came:
                    reason = f"{signal.Signals(came[0]).name}"
                elif not self._thread.is_alive():
                    reason = "the loop ended"
                elif end is not None and time.monotonic() >= end:
                    reason = f"{duration_s:g} s are over"
                elif until is not None and until():
                    reason = "done"
                else:
                    # Short, and not the loop's `Event`: a handler sets no lock's state.
                    time.sleep(0.05)
                    continue
                self._operator.command("hold")
                return reason

    def status(self) -> dict[str, Any]:
        """State of everything at the last tick, plain JSON values; never waits for the loop.

        Keys (times in the names' units; what is not there is None):
            time_ns, tick, mode, reason, rate_hz, joints (names, the gripper included),
            reading {angles [J] rad, gripper, gripper_measured, powered, error, age_ms},
            target [A], plan {offsets_s [H] from now, actions [H, A]},
            source {name, kind, takeover, ready, queries, chunks, late, skipped, latency_ms,
                last_error},
            robot {name, identity, connected, reads, failed_reads, writes, superseded, expired,
                unanswered, reconnects, last_error},
            cameras {name: {height, width, age_ms}},
            interventions {name: count}, timing (see `clock.Timing.to_json`),
            ages_ms {reading, observation, policy},
            recorder {path, recording, steps, queued_bytes, trouble, lost_steps, episodes},
            episode {number, instruction}, commands [names that `command` takes in this mode].
        """
        return self._status.to_json()

    @property
    def timing(self) -> Timing:
        """How well the clock was kept, since the start or `restart_timing`."""
        return self._clock.timing

    def restart_timing(self) -> None:
        """Forgets the timing so far."""
        self._clock.timing = Timing()

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera; None before the first; ValueError for an unknown name."""
        if camera not in self._cameras:
            raise ValueError(f"no camera {camera!r}; there are {sorted(self._cameras)}")
        return self._cameras[camera].latest()

    def command(self, name: str, **arguments: Any) -> None:
        """Asks for something; returns at once, the loop acts at its next tick.

        Commands: start (idle: approach, then run: an episode begins), stop (ends the run: idle),
        hold, resume, estop (latched), reset (after a fault or e-stop: idle, once an error of the
        arm is cleared), power_on (after a restart of the arm; it stays where it is), success and
        failure (mark the episode and end it), note(text), instruction(text) (of the next episode),
        takeover(how="jog" | "free") (a person instead of the source: by `jog` and `gripper`, or by
        hand with free joints), give_back (ends it), jog(joint, change) (rad, at most
        `operator.MAX_JOG_RAD`), gripper(opening) (0 ... 1).

        Raises:
            ValueError: unknown, wrong arguments, or not possible in this mode; says why.
        """
        if name in COMMANDS and name not in ("hold", "estop"):
            loop = self._loop
            reason = refused(loop.mode, loop.takeover, name, loop.error)
            if reason is None and name in ("start", "resume"):
                problem = loop.unready()
                reason = f"{name} is refused: {problem}" if problem else None
            if reason is not None:
                raise ValueError(reason)
        self._operator.command(name, **arguments)

    def close(self) -> None:
        """Holds, ends the episode, stops all threads, closes all parts; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        if self._opened:
            try:
                self._gate.shut()
            except Exception:
                _LOG.exception("the arm could not be held at the end")
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        _close_quietly(self._release)
        self.lost_steps = self._recorder.close()
        for part in (self.parts.source, *self.parts.cameras, self.parts.robot):
            _close_quietly(part)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _run_loop(self) -> None:
        """The loop's thread: ticks until it is told to end, then holds and ends the episode."""
        with _quiet(self._real_time) as upkeep:
            self.scheduling = upkeep.scheduling
            timing, timing_ns = self._clock.timing.to_json(), 0
            while not self._ending.is_set():
                tick = self._clock.wait()
                self._loop.tick()
                if tick.woke_ns - timing_ns > _TIMING_NS:
                    timing, timing_ns = self._clock.timing.to_json(), tick.woke_ns
                self._tell(tick.number, timing, tick.woke_ns)
                self._ticked.set()
                upkeep.between_ticks(self._clock.slack_ns())
            self._loop.end("the bridge was closed")

    def _tell(self, number: int, timing: Mapping[str, Any], now_ns: int) -> None:
        try:
            self._status = take_snapshot(self._loop, self._recorder, number, timing, now_ns)
        except Exception as error:
            self._loop.fail(f"{type(error).__name__}: {error}")


@contextmanager
def _quiet(wanted: bool) -> Iterator[Upkeep]:
    if not wanted:
        yield Upkeep(None, None)
        return
    with quiet_interpreter():
        upkeep = Upkeep(Priorities(), SlackCollector())
        _LOG.info("scheduling: %s", upkeep.scheduling)
        yield upkeep


@contextmanager
def _signals(came: list[int]) -> Iterator[None]:
    """Puts SIGINT and SIGTERM into the list instead of raising."""
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close_quietly(part: Any) -> None:
    """One part that cannot be closed must not leave the others open."""
    try:
        part.close()
    except Exception:
        _LOG.exception("while closing %s", getattr(part, "name", type(part).__name__))
