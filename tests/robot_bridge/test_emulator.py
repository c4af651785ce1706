"""The emulated arm on a clock of our own: motion, modes, power, gripper and what faults do."""

import dataclasses
import math

import numpy as np
import pytest

from robot_bridge.arm import HOME_DEGREES
from robot_bridge.emulator import ALWAYS, Emulator, EmulatorConfig, Faults, Rule
from robot_bridge.emulator.coordinates import forward, inverse, pack
from robot_bridge.emulator.core import REBOOT_S
from robot_bridge.emulator.motion import approach
from robot_bridge.wire.frames import Command, FrameReader, encode, pack_angles, unpack_angles

POSE = [10.0, 20.0, -30.0, 40.0, -50.0, 60.0]
ZERO = [0.0] * 6


@dataclasses.dataclass
class Bench:
    """An arm and its clock."""

    config: EmulatorConfig = dataclasses.field(
        default_factory=lambda: EmulatorConfig(degrees=(0.0,) * 6, byte_s=0.0, newest_only=True)
    )
    now_ns: int = 10**9

    def __post_init__(self) -> None:
        self.arm = Emulator(self.config, clock=lambda: self.now_ns)

    def wait(self, seconds: float) -> list[bytes]:
        """Time passes; returns what came out until then."""
        self.now_ns += round(seconds * 1e9)
        return [reply.content for reply in self.arm.take()]

    def tell(self, command: int, data: bytes = b"", seconds: float = 0.0) -> list[bytes]:
        """Sends a frame and waits."""
        self.arm.receive(encode(command, data))
        return self.wait(seconds)

    def ask(self, command: int, data: bytes = b"") -> bytes:
        """The data of the one reply."""
        (reply,) = self.tell(command, data)
        (frame,) = FrameReader().feed(reply)
        assert frame.command == command
        return frame.data

    def go(self, degrees: list[float], speed: int = 100, seconds: float = 0.0) -> None:
        """Sends a target and waits."""
        self.tell(Command.SEND_ANGLES, pack_angles(degrees) + bytes((speed,)), seconds)

    def angles(self) -> list[float]:
        """As the arm reports them."""
        return unpack_angles(self.ask(Command.GET_ANGLES))


REPLY_SIZES = {
    **dict.fromkeys((0x02, 0x09, 0xC1, 0x07, 0x08, 0x10, 0x11, 0x12, 0x13, 0x14), 1),
    **dict.fromkeys((0x16, 0x17, 0x26, 0x27, 0x28, 0x29, 0x2B, 0x51, 0x65, 0x69, 0x6E), 1),
    **dict.fromkeys((0x20, 0x23, 0x3D, 0xE1, 0xE2, 0x19), 12),
    **dict.fromkeys((0xE3, 0xE4, 0xE5), 6),
    0x15: 7,
    0xD5: 24,
}


@pytest.mark.parametrize(("command", "size"), REPLY_SIZES.items())
def test_answers_have_the_specified_size(command, size):
    data = b"\x01" if command == Command.SET_FRESH_MODE else b""
    assert len(Bench().ask(command, data)) == size


def test_questions_about_one_joint():
    bench = Bench()
    assert bench.ask(Command.IS_SERVO_ENABLED, b"\x02") == b"\x02\x01"
    assert bench.ask(Command.GET_JOINT_MIN, b"\x02") == b"\x02" + (-1350).to_bytes(
        2, "big", signed=True
    )
    bench.tell(Command.SET_JOINT_MAX, b"\x02" + (900).to_bytes(2, "big"))
    assert bench.ask(Command.GET_JOINT_MAX, b"\x02") == b"\x02" + (900).to_bytes(2, "big")
    assert int.from_bytes(bench.ask(Command.GET_ENCODER, b"\x01"), "big") == 2048


def test_what_it_does_not_know_is_acknowledged():
    bench = Bench()
    assert bench.ask(0x74, b"\x01") == b"\x01"
    assert bench.ask(Command.SEND_ANGLES, b"\x01") == b"\x01"
    assert not bench.arm.state().moving


def test_the_way_to_a_target_is_straight_then_exponential():
    assert approach(0, 10, tau=0.1, top_speed=20, seconds=0.2) == pytest.approx(4)
    # From 2 degrees on (.4 s later) the lag is slower than 20 degrees/s.
    assert approach(0, 10, tau=0.1, top_speed=20, seconds=0.5) == pytest.approx(10 - 2 / math.e)
    halves = approach(approach(0, -10, 0.1, 20, 0.25), -10, 0.1, 20, 0.25)
    assert halves == pytest.approx(approach(0, -10, 0.1, 20, 0.5))


@pytest.mark.parametrize(("speed", "degrees_per_s"), [(10, 12), (20, 24), (100, 120)])
def test_speed_argument_limits_the_speed(speed, degrees_per_s):
    bench = Bench()
    bench.go([100.0] * 6, speed, seconds=0.5)
    np.testing.assert_allclose(bench.arm.state().degrees, 0.5 * degrees_per_s)
    assert bench.angles() == pytest.approx([0.5 * degrees_per_s] * 6, abs=0.01)


def test_a_moving_target_is_followed_with_the_logged_lag():
    """At 20 % speed and 10 degrees/s the arm is .1 to .3 s behind, as the real one was."""
    bench = Bench()
    for tick in range(40):
        bench.go([tick * 1.0] + [0.0] * 5, speed=20, seconds=0.1)
    behind_s = (39.0 + 1.0 - bench.arm.state().degrees[0]) / 10
    assert 0.1 <= behind_s <= 0.3
    bench.arm.faults = Faults(lag_s=1.0)
    for tick in range(40, 80):
        bench.go([tick * 1.0] + [0.0] * 5, speed=20, seconds=0.1)
    assert 80 - bench.arm.state().degrees[0] > 5


def test_latest_mode_replaces_and_queue_mode_queues():
    bench = Bench()
    for angle in (10.0, 20.0, 0.0):
        bench.go([angle] * 6)
    assert bench.arm.state().queued == 0
    bench.wait(5)
    assert bench.angles() == ZERO

    bench.tell(Command.SET_FRESH_MODE, b"\x00")
    assert bench.ask(Command.GET_FRESH_MODE) == b"\x00"
    for angle in (10.0, 20.0, 0.0):
        bench.go([angle] * 6)
    assert bench.arm.state().queued == 2
    highest = max(bench.angles()[0] for _ in range(200) if bench.wait(0.02) == [])
    assert highest == pytest.approx(20, abs=0.1)
    assert bench.angles() == pytest.approx(ZERO, abs=0.05)


def test_stop_ends_motion_and_queue_pause_only_interrupts():
    bench = Bench()
    bench.go([90.0] * 6, seconds=0.3)
    bench.tell(Command.PAUSE)
    at = bench.angles()
    bench.wait(1)
    assert bench.angles() == at
    assert bench.ask(Command.IS_PAUSED) == b"\x01"
    bench.tell(Command.RESUME, seconds=0.1)
    assert bench.angles()[0] > at[0]
    bench.tell(Command.STOP)
    at = bench.angles()
    bench.wait(1)
    assert bench.angles() == at
    assert bench.ask(Command.IS_MOVING) == b"\x00"


def test_one_joint_jogs_and_increments():
    bench = Bench()
    bench.tell(Command.SEND_ANGLE, b"\x02" + pack_angles([30]) + b"\x64", 3)
    bench.tell(Command.JOG_INCREMENT, b"\x03" + pack_angles([-7]) + b"\x64", 3)
    assert bench.angles() == pytest.approx([0, 30, -7, 0, 0, 0], abs=0.01)
    bench.tell(Command.JOG_ANGLE, b"\x01\x00\x64", 10)
    assert bench.angles()[0] == pytest.approx(-168)


def test_a_target_beyond_the_limit_is_an_error_and_no_motion():
    bench = Bench()
    bench.go([0, 0, 150.0, 0, 0, 0], seconds=1)
    assert bench.ask(Command.GET_ERROR) == b"\x03"
    assert bench.angles() == ZERO
    bench.tell(Command.CLEAR_ERROR)
    assert bench.ask(Command.GET_ERROR) == b"\x00"
    bench.arm.faults = Faults(error=17)
    assert bench.ask(Command.GET_ERROR) == b"\x11"


def test_without_power_it_answers_and_does_not_move():
    bench = Bench()
    bench.go(POSE, seconds=0.1)
    bench.arm.set_power(False)
    at = bench.angles()
    bench.go(ZERO, seconds=1)
    assert bench.angles() == at
    assert bench.ask(Command.IS_POWER_ON) == b"\x00"
    bench.arm.faults = Faults(power_stuck=True)
    bench.tell(Command.POWER_ON)
    assert not bench.arm.state().powered
    bench.arm.faults = Faults()
    bench.tell(Command.POWER_ON, seconds=1)
    assert bench.arm.state().powered
    assert bench.angles() == at


def test_released_joints_are_moved_by_hand_only():
    bench = Bench()
    bench.arm.push(POSE)
    assert bench.angles() == ZERO
    bench.tell(Command.RELEASE_ALL_SERVOS)
    bench.arm.push(POSE)
    bench.go(ZERO, seconds=1)
    assert bench.angles() == POSE
    assert bench.ask(Command.ARE_ALL_SERVOS_ENABLED) == b"\x00"
    bench.tell(Command.FOCUS_SERVO, b"\x00", seconds=1)
    assert bench.angles() == POSE
    bench.go(ZERO, seconds=3)
    assert bench.angles() == pytest.approx(ZERO, abs=0.01)
    bench.tell(Command.RELEASE_SERVO, b"\x01")
    bench.arm.push(POSE)
    assert bench.angles() == pytest.approx([10, 0, 0, 0, 0, 0], abs=0.01)


def test_coordinates_and_their_inverse():
    for pose in (POSE, list(HOME_DEGREES)):
        coords = forward(np.array(pose))
        near = inverse(coords, np.array(pose) + 5)
        np.testing.assert_allclose(forward(near), coords, atol=0.1)
    assert inverse(np.array([900.0, 0, 0, 0, 0, 0]), np.zeros(6)) is None
    bench = Bench(EmulatorConfig(newest_only=True, byte_s=0.0))
    goal = forward(np.array(HOME_DEGREES)) + np.array([20, -10, 15, 0, 0, 0])
    bench.tell(Command.SEND_COORDS, pack(goal) + b"\x64\x01", seconds=3)
    np.testing.assert_allclose(forward(bench.arm.state().degrees), goal, atol=0.2)
    assert bench.ask(Command.IS_IN_POSITION, pack(goal) + b"\x01") == b"\x01"
    bench.tell(Command.SEND_COORDS, pack(np.array([900.0, 0, 0, 0, 0, 0])) + b"\x64\x01")
    assert bench.ask(Command.GET_ERROR) == bytes((32,))


def test_the_gripper_moves_and_can_lie():
    bench = Bench()
    bench.tell(Command.SET_GRIPPER, b"\x14\x64\x01", seconds=0.1)
    assert 20 < bench.ask(Command.GET_GRIPPER)[0] < 100
    assert bench.ask(Command.IS_GRIPPER_MOVING) == b"\x01"
    bench.wait(2)
    assert bench.ask(Command.GET_GRIPPER) == b"\x14"
    bench.arm.faults = Faults(gripper_unreadable=True)
    assert bench.ask(Command.GET_GRIPPER) == b"\xff"
    bench.arm.faults = Faults(gripper_stale=True)
    assert bench.ask(Command.GET_GRIPPER) == b"\x14"
    bench.tell(Command.SET_GRIPPER_STATE, b"\x00\x64", seconds=2)
    assert bench.ask(Command.GET_GRIPPER) == b"\x14"
    assert bench.arm.state().gripper == 100


def test_a_gripper_command_too_soon_after_the_arms_is_lost():
    bench = Bench()
    bench.arm.faults = Faults(gripper_deaf_s=0.05)
    bench.go(ZERO, seconds=0.03)
    assert bench.ask(Command.SET_GRIPPER, b"\x14\x64") == b"\x01"
    assert bench.arm.state().gripper_target == 100
    assert bench.arm.state().gripper_lost == 1
    bench.wait(0.03)
    bench.tell(Command.SET_GRIPPER, b"\x14\x64")
    assert bench.arm.state().gripper_target == 20


def test_a_reboot_is_silence_then_no_power_and_queue_mode():
    bench = Bench()
    bench.go(POSE, seconds=0.1)
    bench.arm.reboot()
    at = bench.arm.state().degrees
    assert bench.arm.state().rebooting
    assert bench.tell(Command.GET_ANGLES, seconds=REBOOT_S - 0.1) == []
    assert bench.wait(0.2) == []
    assert bench.angles() == pytest.approx(at, abs=0.01)
    assert bench.ask(Command.IS_POWER_ON) == b"\x00"
    assert bench.ask(Command.GET_FRESH_MODE) == b"\x00"


def test_a_torso_is_forgotten_after_a_while():
    bench = Bench()
    bench.arm.receive(encode(Command.SEND_ANGLES, bytes(13))[:6])
    bench.wait(0.2)
    assert bench.angles() == ZERO


# Faults of the line. Those of ports (noise, truncate, fragment) are in test_emulator_client.py.


def test_latency_and_jitter_delay_the_reply():
    bench = Bench(EmulatorConfig(turnaround_s=0.01, byte_s=0.0))
    bench.arm.faults = Faults(latency_s=0.02, jitter_s=0.01)
    assert bench.tell(Command.IS_MOVING, seconds=0.029) == []
    assert len(bench.wait(0.012)) == 1


def test_a_spike_delays_execution_and_all_behind_it():
    bench = Bench()
    bench.arm.faults = Faults(spike=Rule(times=1))
    bench.go([90.0] * 6)
    assert bench.tell(Command.GET_ANGLES, seconds=0.6) == []
    assert bench.arm.state().target.tolist() == ZERO
    assert len(bench.wait(0.2)) == 2
    assert bench.arm.state().moving
    assert bench.arm.struck("spike") == 1


def test_a_late_reply_does_not_delay_execution_nor_is_it_overtaken():
    bench = Bench()
    bench.arm.faults = Faults(late=Rule(times=1), late_s=0.5)
    bench.go([90.0] * 6)
    assert bench.arm.state().moving
    assert bench.tell(Command.IS_MOVING, seconds=0.4) == []
    first, second = bench.wait(0.2)
    assert (first[3], second[3]) == (Command.SEND_ANGLES, Command.IS_MOVING)


def test_lost_replies_and_acknowledgements():
    bench = Bench()
    bench.arm.faults = Faults(drop_reply=Rule(times=2))
    assert bench.tell(Command.GET_ANGLES) == bench.tell(Command.SET_FRESH_MODE, b"\x01") == []
    assert bench.arm.state().newest_only
    assert bench.angles() == ZERO
    bench.arm.faults = Faults(no_ack=ALWAYS)
    assert bench.tell(Command.STOP) == []
    assert bench.tell(Command.SEND_ANGLES, pack_angles([90] * 6) + b"\x64", 0.1) == []
    assert bench.angles()[0] > 0
    bench.arm.faults = Faults(drop_reply=Rule(commands={Command.GET_ANGLES}))
    assert bench.tell(Command.GET_ANGLES) == []
    assert bench.ask(Command.IS_MOVING) == b"\x01"


def test_echo_oversize_and_silence():
    bench = Bench()
    bench.arm.faults = Faults(echo=ALWAYS)
    echo, reply = bench.tell(Command.IS_MOVING)
    assert echo == encode(Command.IS_MOVING)
    assert reply == encode(Command.IS_MOVING, b"\x00")
    bench.arm.faults = Faults(oversize=ALWAYS)
    (reply,) = bench.tell(Command.GET_ANGLES)
    assert len(reply) == 38 + 5
    bench.arm.faults = Faults(silent=True)
    bench.go(POSE, seconds=1)
    assert bench.wait(1) == []
    assert bench.arm.state().degrees.tolist() == ZERO


def test_stuck_fresh_mode_and_servo_status():
    bench = Bench()
    bench.arm.faults = Faults(fresh_mode_stuck=True, servo_status=(0, 0, 4, 0, 0, 0))
    assert bench.ask(Command.SET_FRESH_MODE, b"\x00") == b"\x01"
    assert bench.ask(Command.GET_FRESH_MODE) == b"\x01"
    assert bench.ask(Command.GET_SERVO_STATUS) == bytes((0, 0, 4, 0, 0, 0))
    bench.go(POSE, seconds=3)
    assert bench.angles() == pytest.approx([10, 20, 0, 40, -50, 60], abs=0.01)
    bench.arm.forget_mode()
    assert bench.ask(Command.GET_FRESH_MODE) == b"\x00"


def test_shares_are_reproducible():
    def answered() -> list[bool]:
        bench = Bench()
        bench.arm.faults = Faults(drop_reply=Rule(share=0.3))
        return [bool(bench.tell(Command.IS_MOVING)) for _ in range(200)]

    first = answered()
    assert first == answered()
    assert 110 < sum(first) < 170


def test_the_journal_says_what_came_and_keeps_the_newest():
    bench = Bench(dataclasses.replace(Bench().config, journal=3))
    bench.go(POSE)
    bench.arm.receive(b"\x00\xfe\xfe\x01\x02" + encode(Command.STOP))
    bench.arm.set_power(False)
    target, stop, power = bench.arm.journal.entries()
    assert target.target == tuple(POSE)
    assert "send_angles" in str(target)
    assert "FE FE 0F 22" in str(target)
    assert (stop.command, stop.junk) == (Command.STOP, 5)
    assert power.event == "power off"
    bench.tell(Command.GET_ANGLES)
    assert bench.arm.journal.dropped == 1
    assert bench.arm.journal.count(Command.GET_ANGLES) == 1
