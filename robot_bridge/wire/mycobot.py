"""The myCobot 320 as a `Robot`: one thread owns the wire, everybody else only leaves wishes.

In: targets (rad), holds, requests. Out: readings and health. The owner does one exchange at a time,
in the order of `wire_schedule.py`; what needs care (opening, preparing after silence or a restart,
power) is in `arm_session.py`. After any loss the arm is stopped and asked anew before it may move:
what was wished before is dropped. Limits are `safety_filter.py`'s business.
"""

import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robot_bridge.robots import Reading, RobotError, RobotHealth
from robot_bridge.wire.arm_driver import ArmDriver, degrees_of
from robot_bridge.wire.arm_session import TRIES, TRY_AGAIN_S, ArmSession
from robot_bridge.wire.gripper_trust import GripperTrust
from robot_bridge.wire.mycobot_config import MyCobotConfig
from robot_bridge.wire.wire_schedule import Job, JobKind, WireSchedule

LOG = logging.getLogger(__name__)
SHORTEST_WAIT_S = 0.001
STOP_AGAIN_S = 0.01
RETRY_S = 0.25  # between attempts to find a lost arm
REQUEST_S = 20.0
SEARCHES_PER_OPENING = 8
LAST_STOPS = 3  # transmissions of the stop with which everything ends
DOUBTFUL_STOPS = 3
COUNTS = ("reads", "failed_reads", "writes", "unanswered", "reconnects")  # of RobotHealth


class MyCobot:
    """`Robot` over a driver.

    Args:
        driver: not yet open; owned and closed by this.
        config: see there.
        clock_ns: monotonic nanoseconds; of the readings, too.
    """

    def __init__(
        self,
        driver: ArmDriver,
        config: MyCobotConfig | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = driver.port
        self.config = config or MyCobotConfig()
        self._driver = driver
        self._clock_ns = clock_ns
        # Guarded by `_wake`, which is never held during an exchange:
        self._wake = threading.Condition()
        self._schedule = WireSchedule(self.config.pace, self.config.with_gripper, clock_ns())
        self._requests: list[tuple[Callable[[], Any], concurrent.futures.Future[Any]]] = []
        self._stopping = False  # a stop is on the wire
        self._free = self._closing = False
        self._thread: threading.Thread | None = None
        # Changed by the owner's thread only:
        self._session = ArmSession(driver, self._stop_once, self._pause)
        self._trust = GripperTrust(self.config.trust)
        self._count = dict.fromkeys(COUNTS, 0)
        self._misses = 0  # exchanges in a row without an answer
        self._doubtful_stops = 0
        self._admitted = self._ready = False  # `connect` succeeded once; prepared, not lost since
        self._searches = 0
        self._search_ns: int | None = None  # lost: when to look for it again
        self._trouble = ""
        self._reading: Reading | None = None

    def connect(self) -> Mapping[str, Any]:
        """See `Robot.connect`; may be called again after it failed."""
        return self._request(self._connect)

    def read(self) -> Reading | None:
        """See `Robot.read`; flags and error are updated even when angles are not."""
        return self._reading

    def write(self, angles: np.ndarray, gripper: float | None) -> None:
        """See `Robot.write`.

        Raises:
            ValueError: no target (not six finite numbers, an opening outside 0 ... 1).
            RobotError: before `connect`, after `close`, while the joints are free.
        """
        angles = np.array(angles, np.float64)
        degrees_of(angles)
        if gripper is not None and not self.config.with_gripper:
            raise ValueError("an opening for an arm without a gripper (with_gripper is off)")
        with self._wake:
            if self._thread is None or self._closing:
                raise RobotError(f"{self.name}: not connected")
            if self._free:
                raise RobotError(f"{self.name}: the joints are free; grip them first")
            self._schedule.want(angles, gripper, self._clock_ns())
            self._wake.notify()

    def hold(self) -> None:
        """See `Robot.hold`."""
        with self._wake:
            self._want_stop()

    def set_power(self, on: bool) -> None:
        """See `Robot.set_power`; also before `connect`, which needs power."""
        self._request(lambda: self._switch_power(on))

    def set_free(self, free: bool) -> None:
        """See `Robot.set_free`."""
        self._request(lambda: self._set_free(free))

    def clear_error(self) -> None:
        """See `Robot.clear_error`."""
        self._request(self._clear_error)

    def health(self) -> RobotHealth:
        """See `Robot.health`."""
        with self._wake:
            superseded, expired = self._schedule.superseded, self._schedule.expired
        return RobotHealth(
            connected=self._ready and self._misses == 0,
            superseded=superseded,
            expired=expired,
            last_error=self._trouble,
            **self._count,
        )

    def close(self) -> None:
        """See `Robot.close`."""
        with self._wake:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._schedule.drop()
            self._closing = True
            if not self._stopping:
                self._driver.interrupt()  # the owner's last act is a stop
            self._wake.notify()
        thread.join()

    def _request(self, action: Callable[[], Any]) -> Any:
        """Lets the owner do something between two exchanges; its result or exception."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._wake:
            if self._closing:
                raise RobotError(f"{self.name}: closed")
            if self._thread is None:
                name = f"owner of {self.name}"
                self._thread = threading.Thread(target=self._own, name=name, daemon=True)
                self._thread.start()
            self._requests.append((action, future))
            self._wake.notify()
        try:
            return future.result(REQUEST_S)
        except concurrent.futures.TimeoutError:
            future.cancel()  # it must not happen later, unexpected
            raise RobotError(f"{self.name}: no result in {REQUEST_S:g} s") from None

    def _want_stop(self) -> None:
        """With the lock: a stop next; an exchange that waits for its answer gives way to it."""
        if self._thread is None or self._closing:
            return
        self._schedule.want_stop(self._clock_ns())
        if self._schedule.stop_wanted and not self._stopping:
            self._driver.interrupt()
        self._wake.notify()

    # From here on: the owner's thread.

    def _own(self) -> None:
        """One exchange after the other until `close`; a stop; the end."""
        while not self._closing:
            try:
                self._turn()
            except Exception as error:
                # The owner outlives all that goes wrong: without it nothing could stop the arm.
                LOG.exception("%s: unexpected error", self.name)
                self._lose(f"{type(error).__name__}: {error}")
        for _, future in self._requests:
            if future.set_running_or_notify_cancel():
                future.set_exception(RobotError(f"{self.name}: closed"))
        for _ in range(LAST_STOPS):
            if not self._driver.is_open or self._stop_once():
                break
        self._driver.close()

    def _turn(self) -> None:
        """Does what is next, or waits for something to do."""
        request = job = None
        with self._wake:
            now_ns = self._clock_ns()
            search = self._search_ns is not None and now_ns >= self._search_ns
            stop = self._schedule.stop_wanted and self._driver.is_open
            if self._requests and not (stop and self._ready):
                request = self._requests.pop(0)
            elif (self._ready or stop) and not search:
                job = self._schedule.next(now_ns, self._may_move)
            if request is None and job is None and not search:
                self._wake.wait(self._wait_s(now_ns))
                return
        if request is not None:
            self._serve(*request)
        elif job is not None:
            self._do(job)
        else:
            self._search()

    @property
    def _may_move(self) -> bool:
        return self._admitted and self._ready and self._session.powered and not self._free

    def _wait_s(self, now_ns: int) -> float:
        wait_s = 1.0
        if self._ready:
            wait_s = self._schedule.wait_s(now_ns, self._may_move)
        elif self._search_ns is not None:
            wait_s = (self._search_ns - now_ns) / 1e9
        return max(SHORTEST_WAIT_S, wait_s)

    def _serve(self, action: Callable[[], Any], future: concurrent.futures.Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(action())
        except Exception as error:  # whatever it is, it belongs to the caller, not to the owner
            future.set_exception(error)

    def _do(self, job: Job) -> None:
        """One exchange and what follows from it."""
        began_ns, answered, lost = self._clock_ns(), False, ""
        if job.kind is JobKind.STOP:
            if not self._stop_once():
                time.sleep(STOP_AGAIN_S)  # a broken port may fail at once
            return
        if job.kind is JobKind.TARGET:
            assert job.angles is not None
            answered = self._driver.send_angles(job.angles, self.config.speed)
        elif job.kind is JobKind.GRIPPER:
            assert job.opening is not None
            answered = self._driver.send_gripper(job.opening, self.config.gripper_speed)
            self._trust.command(job.opening, self._clock_ns())
        elif job.kind is JobKind.READ_ANGLES:
            answered = self._read_angles()
        elif job.kind is JobKind.READ_GRIPPER:
            self._trust.read(self._driver.get_gripper(), self._clock_ns())
        else:
            lost = self._session.poll()
            self._publish_flags()
        with self._wake:
            self._schedule.done(job, began_ns, self._clock_ns(), answered)
            gave_way = self._schedule.stop_wanted and not self._driver.answered
        if job.kind in (JobKind.TARGET, JobKind.GRIPPER) and not gave_way:
            self._count["writes"] += job.kind is JobKind.TARGET
            self._count["unanswered"] += not answered
        if job.kind is JobKind.READ_ANGLES and not gave_way:
            self._count["failed_reads"] += not answered
        if lost:
            self._lose(lost)
        if not gave_way:
            self._note_exchange()

    def _read_angles(self) -> bool:
        angles = self._driver.get_angles()
        if angles is None:
            return False
        self._count["reads"] += 1
        self._reading = Reading(
            time_ns=self._clock_ns(),
            angles=angles,
            gripper=self._trust.opening,
            gripper_measured=self.config.with_gripper and self._trust.measured,
            powered=self._session.powered,
            error=self._session.error,
        )
        return True

    def _publish_flags(self) -> None:
        """Power and error are told at once, even if angles are not answered any more."""
        if self._reading is not None:
            self._reading = dataclasses.replace(
                self._reading, powered=self._session.powered, error=self._session.error
            )
        if self._ready and not self._session.powered:
            self._trouble = f"{self.name}: the servos have no power (restarted, or e-stop pressed)"

    def _stop_once(self) -> bool:
        """Transmits a stop; whether it is known to have arrived."""
        with self._wake:
            self._stopping = True  # nobody interrupts it
        was_open, sure = self._driver.is_open, self._driver.stop()
        if sure:
            self._doubtful_stops = 0
        elif was_open:
            self._count["unanswered"] += 1
            # Old servers hand on no acknowledgement. A question that is answered afterwards says
            # that stops sent before it have been through, unless the line loses them all.
            self._doubtful_stops += self._driver.is_powered() is not None
            sure = self._doubtful_stops >= DOUBTFUL_STOPS
        with self._wake:
            self._stopping = False
            if sure:
                self._schedule.stopped(self._clock_ns())
        self._note_exchange()
        return sure

    def _note_exchange(self) -> None:
        """Counts misses; too many, or a broken port, and the arm is lost."""
        if self._driver.answered:
            self._misses = 0
            return
        self._misses += 1
        self._trouble = self._driver.trouble
        if self._misses >= self.config.lost_after or not self._driver.is_open:
            self._lose(self._driver.trouble)

    def _lose(self, why: str) -> None:
        """The arm must be found and prepared again before it may move; old wishes are void."""
        self._trouble = why
        if self._ready:
            LOG.warning("%s: lost: %s", self.name, why)
            self._ready = False
            self._search_ns = self._clock_ns()
        with self._wake:
            self._schedule.drop()

    def _search(self) -> None:
        try:
            self._prepare()
        except RobotError as error:
            self._trouble = str(error)
            self._search_ns = self._clock_ns() + int(RETRY_S * 1e9)
            self._searches += 1
            if self._searches % SEARCHES_PER_OPENING == 0:
                self._driver.close()  # the next search opens it: a stuck USB adapter recovers
            return
        self._count["reconnects"] += 1
        LOG.warning("%s: found again", self.name)

    def _prepare(self) -> None:
        """Stopped, power and mode verified; raises RobotError. What was wished before is void."""
        self._ready = False
        self._session.prepare()
        with self._wake:
            self._schedule.forget()
        self._misses, self._search_ns, self._ready = 0, None, True
        self._publish_flags()

    def _connect(self) -> Mapping[str, Any]:
        self._prepare()
        if not self._session.powered:
            raise RobotError(
                f"{self.name}: the servos have no power; release the e-stop button, then switch "
                f"them on (the arm may sag a little)"
            )
        for _ in range(TRIES):
            if self._read_angles():
                self._admitted = True
                return self._session.identity()
            self._pause(TRY_AGAIN_S)
        raise RobotError(f"{self.name}: the arm answers but does not tell its angles")

    def _switch_power(self, on: bool) -> None:
        self._session.switch_power(on)
        if on:
            self._prepare()  # the mode must be set again
        else:
            self._publish_flags()

    def _set_free(self, free: bool) -> None:
        if not self._ready:
            raise RobotError(f"{self.name}: not connected")
        with self._wake:
            self._free = True  # no targets while it is not sure
            self._schedule.drop()
        self._session.set_free(free)
        with self._wake:
            self._free = free

    def _clear_error(self) -> None:
        with self._wake:
            self._schedule.drop()
        self._session.clear_error()
        self._publish_flags()

    def _pause(self, seconds: float) -> None:
        """Waits; a stop that is wished meanwhile goes out. Raises RobotError when all ends."""
        end_ns = self._clock_ns() + int(seconds * 1e9)
        while (left_ns := end_ns - self._clock_ns()) > 0:
            with self._wake:
                if self._closing:
                    raise RobotError(f"{self.name}: closed")
                if not self._schedule.stop_wanted:
                    self._wake.wait(left_ns / 1e9)
                    continue
            if not self._stop_once():
                time.sleep(STOP_AGAIN_S)
