"""The audit: a careful stream passes, and each kind of carelessness is found and named."""

import pytest

from robot_bridge.emulator import AuditLimits, Emulator, EmulatorConfig, audit
from robot_bridge.wire.frames import Command, encode, pack_angles, pack_int16s


class Sender:
    """Sends frames to an arm at times of its own."""

    def __init__(self, newest_only: bool = True) -> None:
        self.now_ns = 10**9
        self.arm = Emulator(
            EmulatorConfig(degrees=(0.0,) * 6, newest_only=newest_only), clock=lambda: self.now_ns
        )

    def send(self, command: int, data: bytes = b"", wait: float = 0.1) -> "Sender":
        self.arm.receive(encode(command, data))
        self.now_ns += round(wait * 1e9)
        return self

    def target(self, first: float, speed: int = 40, wait: float = 0.1) -> "Sender":
        return self.send(
            Command.SEND_ANGLES, pack_angles([first, 0, 0, 0, 0, 0]) + bytes((speed,)), wait
        )

    def gripper(self, value: int, wait: float = 0.1) -> "Sender":
        return self.send(Command.SET_GRIPPER, bytes((value, 50, 1)), wait)

    def rules(self, **limits) -> list[str]:
        found = audit(self.arm.journal.entries(), AuditLimits(**limits))
        return [violation.rule for violation in found]


def test_a_careful_stream_is_safe():
    sender = Sender()
    for tick in range(20):
        sender.target(3.0 * tick, wait=0.06).gripper(100 - tick, wait=0.06)
        sender.send(Command.GET_ANGLES, wait=0.0)
    sender.send(Command.STOP)
    now = float(sender.arm.state().degrees[0])
    sender.target(now + 2).target(now + 5)
    assert sender.rules() == []


def cases():
    def way(*targets, **arguments):
        sender = Sender()
        for target in targets:
            sender.target(target, **arguments)
        return sender

    yield "limit", way(*range(0, 170, 6))
    yield "step", way(0, 6, 37)
    yield "speed", way(0, 6, 27)
    yield "speed", way(*[0, 6, 12, 18], wait=0.02)
    yield "restart", way(28)
    yield "restart", way(0, 6, 12).send(Command.STOP).target(40)
    yield "restart", way(0, 6, 12, wait=1.5).target(41)
    yield "lead", way(*range(0, 130, 6), speed=10)
    yield "value", way(0, speed=0)
    yield "value", way(0, speed=101)
    yield "value", way().send(Command.SEND_ANGLES, pack_int16s([-0x8000] * 6) + b"\x14")
    yield "value", way().gripper(101)
    yield "gap", way(0, wait=0.04).gripper(50)
    yield "gap", way().gripper(50, wait=0.04).target(0)
    yield "form", way().send(Command.SEND_ANGLES, bytes(5))
    yield "form", way().send(Command.SET_GRIPPER, b"\x14")
    yield "command", way().send(Command.JOG_ANGLE, b"\x01\x01\x14")


@pytest.mark.parametrize(("rule", "sender"), list(cases()))
def test_carelessness_is_named(rule, sender):
    assert rule in sender.rules()


def test_queued_targets_are_found():
    sender = Sender(newest_only=False)
    for tick in range(10):
        sender.target(5.0 * tick)
    assert "queue" in sender.rules()


def test_broken_frames_are_found_and_harmless_bytes_are_not():
    sender = Sender()
    sender.arm.receive(b"\x00\x00\x00\x00")
    sender.arm.receive(b"\x00\x00\x00\x00" + encode(Command.STOP))
    assert sender.rules() == []
    sender.arm.receive(b"\xfe\xfe\x01\x00\x00")
    assert sender.rules() == ["form"]
    sender.arm.receive(encode(Command.STOP)[:3])
    sender.now_ns += 10**9
    sender.send(Command.STOP)
    assert sender.rules() == ["form", "form"]


def test_motion_in_forbidden_times_is_found():
    sender = Sender()
    begin = sender.now_ns
    sender.target(0).target(1).send(Command.GET_ANGLES)
    entries = sender.arm.journal.entries()
    found = audit(entries, forbidden=[(begin + 50_000_000, begin + 150_000_000)])
    assert [(v.rule, v.entry) for v in found] == [("forbidden", entries[1])]
    assert "had to stand" in str(found[0])


def test_an_interrupted_stream_may_go_on_near_the_arm():
    sender = Sender()
    for target in (0, 5, 10, 15):
        sender.target(target)
    sender.now_ns += 2 * 10**9
    assert sender.target(16).rules() == []
    sender.arm.set_power(False)
    sender.arm.set_power(True)
    assert sender.target(44).rules() == ["restart"]


def test_after_standing_the_first_target_must_be_nearer():
    sender = Sender()
    sender.target(0).send(Command.STOP)
    stood = (sender.now_ns, sender.now_ns + 10**8)
    sender.now_ns += 2 * 10**8
    entries = sender.target(12).arm.journal.entries()
    assert audit(entries) == []
    assert [violation.rule for violation in audit(entries, forbidden=[stood])] == ["restart"]
