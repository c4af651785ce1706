"""The emulated myCobot 320: bytes in, bytes out, each at its time; faults and a journal.

`receive` takes what arrives, `take` hands out what has left by then, `next_ns` says when there will
be more; ports (`pty_port.py`, `tcp_port.py`) turn that into a device and a socket. One frame after
the other is executed, as the real controller does, so that a slow one delays those behind it.
All methods may be called from any thread. Time is the clock that is passed in.
"""

import dataclasses
import heapq
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from robot_bridge.arm import HOME_DEGREES
from robot_bridge.emulator.faults import Dice, Faults, oversized
from robot_bridge.emulator.firmware import Firmware, Versions
from robot_bridge.emulator.journal import Entry, Journal
from robot_bridge.emulator.motion import Gripper, Joints
from robot_bridge.wire.frames import HEADER, Command, Frame, FrameReader, encode

# A question is answered even where acknowledgements are lost.
_SETTERS = frozenset(
    command
    for command in Command
    if command.name.startswith(("SET_", "SEND_", "JOG_", "POWER_", "RELEASE_", "FOCUS_", "CLEAR_"))
) | {Command.STOP, Command.PAUSE, Command.RESUME, Command.CALIBRATE_GRIPPER}
REBOOT_S = 3.0
# A beginning of a frame whose rest does not come is forgotten after this time.
_TORSO_NS = 100_000_000


@dataclasses.dataclass(frozen=True)
class EmulatorConfig:
    """The arm when it is switched on.

    Attributes:
        degrees: [6], where the joints are.
        gripper: 0 (closed) ... 100 (open).
        powered: whether the servos are on.
        newest_only: fresh mode 1; the real one starts in queue mode.
        lag_s: time constant of the joints.
        turnaround_s: from a frame's last byte to its reply; 10 to 30 ms on the real one.
        byte_s: duration of a byte on the wire, both ways (115200 baud).
        journal: so many received frames are kept.
        seed: of everything random.
    """

    degrees: tuple[float, ...] = HOME_DEGREES
    gripper: float = 100.0
    powered: bool = True
    newest_only: bool = False
    lag_s: float = 0.12
    turnaround_s: float = 0.0
    byte_s: float = 10 / 115200
    versions: Versions = dataclasses.field(default_factory=Versions)
    journal: int = 200_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ArmState:
    """The truth about the arm, whatever the wire says; degrees, gripper 0 ... 100.

    `gripper_lost` counts commands to which the gripper was deaf (`Faults.gripper_deaf_s`).
    """

    degrees: np.ndarray
    target: np.ndarray
    moving: bool
    gripper: float
    gripper_target: float
    gripper_lost: int
    powered: bool
    newest_only: bool
    queued: int
    rebooting: bool


@dataclasses.dataclass(frozen=True)
class Reply:
    """Bytes that leave the arm together.

    Attributes:
        content: the bytes.
        command: id of the frame that they answer.
    """

    content: bytes
    command: int


class Emulator:
    """A myCobot 320 that exists on the wire only.

    Args:
        config: how it starts.
        clock: monotonic ns.

    Attributes:
        journal: what it received.
    """

    def __init__(
        self,
        config: EmulatorConfig = EmulatorConfig(),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.config, self.clock = config, clock
        self.journal = Journal(config.journal)
        self._joints = Joints(config.degrees, config.lag_s)
        self._joints.newest_only = config.newest_only
        self._gripper = Gripper(config.gripper)
        self._firmware = Firmware(self._joints, self._gripper, config.versions)
        self._firmware.set_power(config.powered)
        self._reader, self._dice, self._faults = FrameReader(), Dice(config.seed), Faults()
        self._lock = threading.RLock()
        self._order = 0
        self._work: list[tuple[int, int, Frame]] = []
        self._outgoing: list[tuple[int, int, Reply]] = []
        self._moved_ns = self._heard_ns = self._busy_ns = clock()
        self._reboot_end_ns = self._last_reply_ns = 0

    @property
    def faults(self) -> Faults:
        """What is wrong at the moment; assign another value at any time."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._advance(self.clock())
            self._faults = faults
            self._dice.renew(faults)

    def struck(self, fault: str) -> int:
        """How often a fault with a rule has struck."""
        with self._lock:
            return self._dice.struck[fault]

    def state(self) -> ArmState:
        """Where everything truly is."""
        with self._lock:
            self._advance(self.clock())
            joints = self._joints
            return ArmState(
                joints.degrees.copy(),
                joints.target,
                joints.moving,
                self._gripper.value,
                self._gripper.target,
                self._firmware.gripper_lost,
                self._firmware.powered,
                joints.newest_only,
                joints.queued,
                self._rebooting(self.clock()),
            )

    # What happens to the arm.

    def set_power(self, on: bool) -> None:
        """Somebody presses the e-stop or the power button; no frame says so."""
        with self._lock:
            self._advance(self.clock())
            self._firmware.set_power(on)
            self.note(f"power {'on' if on else 'off'}")

    def reboot(self) -> None:
        """The controller restarts: silent for `REBOOT_S`, then without power and in queue mode."""
        with self._lock:
            now = self.clock()
            self._advance(now)
            self._firmware.restart()
            self._work.clear()
            self._outgoing.clear()
            self._reader.reset()
            self._last_reply_ns = now
            self._busy_ns = self._reboot_end_ns = now + round(REBOOT_S * 1e9)
            self.note("reboot")

    def forget_mode(self) -> None:
        """The controller falls back to queue mode by itself."""
        with self._lock:
            self._advance(self.clock())
            self._joints.newest_only = False
            self.note("queue mode")

    def push(self, degrees: Sequence[float]) -> None:
        """Somebody moves the arm by hand: joints whose servos are released go there [6]."""
        with self._lock:
            self._advance(self.clock())
            self._joints.push(np.asarray(degrees, float))

    def note(self, event: str) -> None:
        """Writes an event into the journal."""
        with self._lock:
            self._record(self.clock(), None, event=event)

    # What ports do.

    def receive(self, data: bytes) -> None:
        """Bytes arrive."""
        with self._lock:
            now = self.clock()
            self._advance(now)
            if now - self._heard_ns > _TORSO_NS and (torso := self._reader.reset()):
                self._record(now, None, torso, HEADER)
            self._heard_ns = now
            junk = self._reader.junk
            for frame in self._reader.feed(data):
                self._record(now, frame, self._reader.junk - junk, data)
                junk = self._reader.junk
                self._accept(frame, now)
            if self._reader.junk > junk:
                self._record(now, None, self._reader.junk - junk, data)

    def take(self) -> list[Reply]:
        """What has left the arm by now and was not taken yet."""
        with self._lock:
            now = self.clock()
            self._advance(now)
            left = []
            while self._outgoing and self._outgoing[0][0] <= now:
                left.append(heapq.heappop(self._outgoing)[2])
            return left

    def next_ns(self) -> int | None:
        """When `take` may have more; None: not before something is received."""
        with self._lock:
            times = [queue[0][0] for queue in (self._work, self._outgoing) if queue]
            return min(times, default=None)

    def strikes(self, fault: str, command: int) -> bool:
        """Whether a fault of the line strikes this reply: for ports."""
        with self._lock:
            return self._dice.strikes(self._faults, fault, command)

    def noise(self) -> bytes:
        """A few random bytes: for ports."""
        with self._lock:
            return self._dice.noise()

    def _accept(self, frame: Frame, now: int) -> None:
        """Puts a frame behind those that are not executed yet."""
        faults = self._faults
        if faults.silent or self._rebooting(now):
            return
        duration = self.config.turnaround_s + faults.latency_s + self._dice.jitter_s(faults)
        duration += self.config.byte_s * (len(frame.data) + 5)
        if self._dice.strikes(faults, "spike", frame.command):
            duration += faults.spike_s
        self._busy_ns = max(now, self._busy_ns) + round(duration * 1e9)
        self._push(self._work, self._busy_ns, frame)
        if self._dice.strikes(faults, "echo", frame.command):
            echo = Reply(encode(frame.command, frame.data), frame.command)
            self._push(self._outgoing, now, echo)

    def _advance(self, now: int) -> None:
        """Executes what is due, in order, with the motion in between."""
        while self._work and self._work[0][0] <= now:
            due, _, frame = heapq.heappop(self._work)
            self._move(due)
            self._answer(frame, self._firmware.execute(frame, self._faults, due), due)
        self._move(now)

    def _move(self, until: int) -> None:
        seconds = (until - self._moved_ns) / 1e9
        if seconds > 0:
            stuck = {i for i, bits in enumerate(self._faults.servo_status) if bits}
            self._joints.advance(seconds, self._faults.lag_s, stuck)
            self._gripper.advance(seconds)
            self._moved_ns = until

    def _answer(self, frame: Frame, data: bytes, now: int) -> None:
        faults, command = self._faults, frame.command
        if faults.silent or self._dice.strikes(faults, "drop_reply", command):
            return
        if command in _SETTERS and self._dice.strikes(faults, "no_ack", command):
            return
        content = encode(command, data)
        if self._dice.strikes(faults, "oversize", command):
            content = oversized(command)
        due = now + round(self.config.byte_s * len(content) * 1e9)
        if self._dice.strikes(faults, "late", command):
            due += round(faults.late_s * 1e9)
        # One UART: replies never overtake each other.
        self._last_reply_ns = max(due, self._last_reply_ns)
        self._push(self._outgoing, self._last_reply_ns, Reply(content, command))

    def _push(self, queue: list, due: int, item: Frame | Reply) -> None:
        self._order += 1
        heapq.heappush(queue, (due, self._order, item))

    def _rebooting(self, now: int) -> bool:
        return now < self._reboot_end_ns

    def _record(
        self, now: int, frame: Frame | None, junk: int = 0, block: bytes = b"", event: str = ""
    ) -> None:
        self.journal.append(
            Entry(
                now,
                frame,
                tuple(self._joints.degrees.tolist()),
                self._firmware.powered,
                self._joints.newest_only,
                self._joints.queued,
                junk,
                block if junk else b"",
                event,
            )
        )


def disturbed(emulator: Emulator, command: int, content: bytes) -> list[tuple[float, bytes]]:
    """A reply as it comes over a bad line: pieces with the pause (s) before each."""
    if emulator.strikes("truncate", command):
        content = HEADER
    if emulator.strikes("noise", command):
        content = emulator.noise() + content
    if len(content) > 1 and emulator.strikes("fragment", command):
        half = len(content) // 2
        return [(0.0, content[:half]), (emulator.faults.fragment_s, content[half:])]
    return [(0.0, content)]
