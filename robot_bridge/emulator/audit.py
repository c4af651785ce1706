"""Judges what reached the arm: was any of it unsafe? Knows the wire, none of the bridge's code.

In: the emulator's journal (`Entry`s, with where the arm truly was). Out: violations, each with the
entry that it is about. Tests of the bridge assert that there is none, whatever went wrong; the
limits here are those of a person standing beside the arm, a little wider than the bridge's own.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence

from robot_bridge.emulator.journal import GRIPPER_MOTION, MOTION, Entry
from robot_bridge.wire.frames import HEADER, Command, encode, unpack_int16s

# Events after which the first target must be near the arm, wherever the last one was.
_BREAKS = frozenset({Command.STOP, Command.POWER_ON, Command.POWER_OFF, Command.FOCUS_SERVO})


@dataclasses.dataclass(frozen=True)
class AuditLimits:
    """What is still safe; degrees, seconds.

    Attributes:
        joint_limits: both ways, the smallest of the published tables less 2 degrees.
        top_speed: between any two targets, degrees/s.
        period_s: added to the time between them: a delayed target is soon followed by the next.
        max_step: between two targets, however long the time between them.
        max_lead: of a target before the arm's true position (it lags).
        max_break: of the first target after a stop, a switch of power or `break_s` of silence,
            which a reconnection may cause in the middle of a motion.
        max_restart: of the first target after the arm had to stand (`forbidden` of `audit`).
        break_s: see there.
        gap_s: between arm and gripper commands; `tolerance_s` for what the machine adds.
        speeds: range of the speed argument.
        queued: so many targets may wait in an arm that is in queue mode.
        allowed: motion commands that a streaming bridge may use.
    """

    joint_limits: tuple[float, ...] = (165.87, 132.64, 142.96, 143.0, 165.87, 177.9)
    top_speed: float = 75.0
    period_s: float = 0.15
    max_step: float = 30.0
    max_lead: float = 35.0
    max_break: float = 27.0
    max_restart: float = 10.0
    break_s: float = 1.0
    gap_s: float = 0.05
    tolerance_s: float = 0.005
    speeds: tuple[int, int] = (1, 100)
    queued: int = 0
    allowed: frozenset[int] = frozenset(
        {Command.SEND_ANGLES, Command.SET_GRIPPER, Command.SET_GRIPPER_STATE}
    )


@dataclasses.dataclass(frozen=True)
class Violation:
    """Something unsafe.

    Attributes:
        rule: "limit", "step", "speed", "lead", "restart", "gap", "value", "form", "command",
            "queue" or "forbidden".
        text: in words, with numbers.
        entry: what it is about.
    """

    rule: str
    text: str
    entry: Entry

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}: {self.entry}"


def audit(
    entries: Iterable[Entry],
    limits: AuditLimits = AuditLimits(),
    forbidden: Sequence[tuple[int, int]] = (),
) -> list[Violation]:
    """Everything unsafe among the entries, in order.

    Args:
        entries: of a journal, oldest first.
        limits: what is safe.
        forbidden: (from, until) monotonic ns in which no motion may be commanded at all, e.g.
            while the bridge was in e-stop; in order.
    """
    judge = _Judge(limits, forbidden)
    for entry in entries:
        judge.see(entry)
    return judge.violations


class _Judge:
    """Reads the journal once, from front to back."""

    def __init__(self, limits: AuditLimits, forbidden: Sequence[tuple[int, int]]) -> None:
        self.violations: list[Violation] = []
        self._limits, self._forbidden = limits, forbidden
        self._to_stand = deque(forbidden)  # those that still lie ahead
        self._stood = False
        # Targets of the last `break_s`, unless something broke the stream.
        self._recent: deque[tuple[int, tuple[float, ...]]] = deque()
        self._arm_ns = self._gripper_ns = -(10**15)

    def see(self, entry: Entry) -> None:
        # Bytes without a header's begin nothing, whatever follows them.
        own = b"" if entry.frame is None else encode(entry.command, entry.frame.data)
        if entry.junk and HEADER[0] in entry.block.replace(own, b""):
            self._blame(entry, "form", f"{entry.junk} bytes that are no frame")
        while self._to_stand and self._to_stand[0][1] < entry.time_ns:
            self._to_stand.popleft()
            self._stood = True
            self._recent.clear()
        if entry.event or entry.command in _BREAKS:
            self._recent.clear()
        if entry.command in MOTION | GRIPPER_MOTION:
            self._judge_permission(entry)
        if entry.command in GRIPPER_MOTION:
            self._judge_gripper(entry)
        if entry.command in MOTION:
            self._judge_gap(entry, self._gripper_ns)
            self._arm_ns = entry.time_ns
        if entry.command == Command.SEND_ANGLES:
            self._judge_target(entry)

    def _blame(self, entry: Entry, rule: str, text: str) -> None:
        self.violations.append(Violation(rule, text, entry))

    def _judge_permission(self, entry: Entry) -> None:
        if entry.command not in self._limits.allowed:
            self._blame(entry, "command", f"motion command {entry.command:#04x} is not for streams")
        if any(begin <= entry.time_ns <= end for begin, end in self._forbidden):
            self._blame(entry, "forbidden", "motion while the arm had to stand")

    def _judge_gap(self, entry: Entry, other_ns: int) -> None:
        gap = (entry.time_ns - other_ns) / 1e9
        if gap < self._limits.gap_s - self._limits.tolerance_s:
            self._blame(entry, "gap", f"arm and gripper commands {1000 * gap:.1f} ms apart")

    def _judge_gripper(self, entry: Entry) -> None:
        self._judge_gap(entry, self._arm_ns)
        self._gripper_ns = entry.time_ns
        data = entry.frame.data if entry.frame is not None else b""
        if len(data) < 2:
            self._blame(entry, "form", f"gripper command with {len(data)} data bytes")
        elif data[0] > 100 or not 1 <= data[1] <= 100:
            self._blame(entry, "value", f"gripper value {data[0]} at speed {data[1]}")

    def _judge_target(self, entry: Entry) -> None:
        target, frame = entry.target, entry.frame
        if target is None or frame is None:
            self._blame(entry, "form", "send_angles with a wrong number of bytes")
            return
        # What NaN and infinity become when they are cast to 16 bits.
        if {-0x8000, 0x7FFF} & set(unpack_int16s(frame.data[:12])):
            self._blame(entry, "value", "an extreme number: NaN or overflow")
        low, high = self._limits.speeds
        if not low <= frame.data[12] <= high:
            self._blame(entry, "value", f"speed argument {frame.data[12]}")
        for joint, (angle, limit) in enumerate(zip(target, self._limits.joint_limits, strict=True)):
            if abs(angle) > limit:
                self._blame(entry, "limit", f"joint{joint + 1} to {angle}, limit {limit}")
        if entry.queued > self._limits.queued:
            self._blame(entry, "queue", f"{entry.queued} targets queue up in the arm")
        self._judge_way(entry, target)
        self._recent.append((entry.time_ns, target))

    def _judge_way(self, entry: Entry, target: tuple[float, ...]) -> None:
        """From the last targets and from where the arm is."""
        limits, recent = self._limits, self._recent
        lead = _largest(target, entry.degrees)
        if lead > limits.max_lead:
            self._blame(entry, "lead", f"target {lead:.1f} degrees from the arm")
        while recent and entry.time_ns - recent[0][0] > 1e9 * limits.break_s:
            recent.popleft()
        if not recent:
            allowed = limits.max_restart if self._stood else limits.max_break
            self._stood = False
            if lead > allowed:
                self._blame(entry, "restart", f"first target {lead:.1f} degrees from the arm")
            return
        step = _largest(target, recent[-1][1])
        if step > limits.max_step:
            self._blame(entry, "step", f"{step:.1f} degrees from one target to the next")
            return
        for time_ns, other in recent:
            way, seconds = _largest(target, other), (entry.time_ns - time_ns) / 1e9
            if way > limits.top_speed * (seconds + limits.period_s):
                self._blame(entry, "speed", f"{way:.1f} degrees within {seconds:.3f} s")
                return


def _largest(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))
