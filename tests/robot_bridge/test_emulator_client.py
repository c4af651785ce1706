"""The vendor's own client (pymycobot 4.0.7) against the emulated arm, on both ports.

Healthy, it must not notice that the arm is not there; with faults it must misbehave exactly as it
was measured to (mycobot.md b.3), for our drivers are built against that.
"""

import contextlib
import math
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from robot_bridge.emulator import ALWAYS, Emulator, EmulatorConfig, Faults, PtyPort, Rule, TcpPort
from robot_bridge.emulator.__main__ import main
from robot_bridge.wire.frames import Command, encode

pymycobot = pytest.importorskip("pymycobot")
POSE = [10.0, 20.0, -30.0, 40.0, -50.0, 60.0]


class Setup:
    """An arm, its port and a client."""

    def __init__(self, kind: str, open_port: contextlib.ExitStack) -> None:
        self.kind = kind
        self.arm = Emulator(EmulatorConfig(degrees=(0.0,) * 6, newest_only=True))
        if kind == "pty":
            self.port = open_port.enter_context(PtyPort(self.arm))
            self.client = pymycobot.MyCobot320(self.port.path)
            open_port.callback(self.client.close)
        else:
            self.port = open_port.enter_context(TcpPort(self.arm))
            self.client = pymycobot.MyCobot320Socket(*self.port.address)
            open_port.callback(self.client.sock.close)

    @property
    def serial(self) -> bool:
        return self.kind == "pty"

    def timed(self, call: Callable, *arguments: object) -> tuple[object, float]:
        """A call's result and duration in s."""
        began = time.monotonic()
        return call(*arguments), time.monotonic() - began


@pytest.fixture(params=["pty", "tcp"])
def setup(request) -> Iterator[Setup]:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        yield Setup(request.param, stack)
    assert threading.active_count() == threads


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_healthy_session(setup):
    client, arm = setup.client, setup.arm
    assert client.get_angles() == [0.0] * 6
    assert client.get_coords()[:3] == pytest.approx([0, -153.2, 523.8], abs=0.6)
    assert (client.get_system_version(), client.get_atom_version()) == (3.2, 6.6)
    assert client.is_power_on() == 1
    # The acknowledgement equals the request, so the vendor's server takes it for an echo.
    assert client.set_fresh_mode(1) == (1 if setup.serial else -1)
    assert client.get_fresh_mode() == 1
    assert client.send_angles(POSE, 100) == 1
    assert client.is_moving() == 1
    wait_until(lambda: not arm.state().moving)
    assert client.get_angles() == pytest.approx(POSE, abs=0.06)
    assert client.get_radians() == pytest.approx([math.radians(a) for a in POSE], abs=0.002)
    assert client.is_in_position(POSE, 0) == 1
    assert client.stop() == 1
    assert client.get_error_information() == 0
    assert client.get_servo_voltages() == [24.0] * 6
    assert client.get_servo_status() == [0] * 6
    assert client.is_servo_enable(2) == 1
    assert client.is_all_servo_enable() == 1
    assert client.get_angles_coords()[:6] == client.get_angles()
    assert client.get_joint_max_angle(2) == 135.0
    assert client.get_encoders()[0] == round(2048 + POSE[0] * 4096 / 360)
    assert client.read_next_error() == [0] * 7


def test_gripper_power_and_release(setup):
    client, arm = setup.client, setup.arm

    def gripper() -> object:
        return client._mesg(int(Command.GET_GRIPPER), has_reply=True)

    assert client.set_gripper_value(20, 100, 1) == 1
    wait_until(lambda: arm.state().gripper == 20)
    assert gripper() == 20
    arm.faults = Faults(gripper_unreadable=True)
    assert gripper() == 255
    arm.faults = Faults()
    assert client.set_gripper_state(0, 100) == 1
    wait_until(lambda: arm.state().gripper == 100)
    assert client.power_off() == 1
    assert client.is_power_on() == 0
    assert client.send_angles(POSE, 100) == 1
    assert client.power_on() == 1
    assert client.get_angles() == [0.0] * 6
    assert client.release_all_servos() == 1
    arm.push(POSE)
    assert client.get_angles() == POSE
    assert client.focus_all_servos() == 1
    assert client.is_all_servo_enable() == 1


def test_linear_motion_finds_its_angles(setup):
    client, arm = setup.client, setup.arm
    client.send_angles(POSE, 100)
    wait_until(lambda: not arm.state().moving)
    goal = client.get_coords()
    goal[2] -= 20
    assert client.send_coords(goal, 100, 1) == 1
    wait_until(lambda: not arm.state().moving)
    assert client.get_coords() == pytest.approx(goal, abs=0.5)


def test_three_threads_do_not_mix_replies(setup):
    wrong = []

    def ask(call: Callable, expected: object) -> None:
        wrong.extend(answer for _ in range(30) if (answer := call()) != expected)

    client = setup.client
    calls = [(client.get_angles, [0.0] * 6), (client.is_power_on, 1), (client.is_moving, 0)]
    threads = [threading.Thread(target=ask, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# The table of b.3 (slow: where the client waits for seconds). No upper bounds of durations: the
# machine may be busy.


@pytest.mark.slow
def test_a_setter_without_acknowledgement_is_sent_three_times(setup):
    setup.arm.faults = Faults(no_ack=ALWAYS)
    result, seconds = setup.timed(setup.client.send_angles, POSE, 50)
    assert result == -1
    assert seconds > (1.4 if setup.serial else 0.85)
    assert setup.arm.journal.count(Command.SEND_ANGLES) == 3


def test_one_lost_reply_costs_one_window(setup):
    setup.arm.faults = Faults(drop_reply=Rule(times=1))
    result, seconds = setup.timed(setup.client.get_angles)
    assert result == [0.0] * 6
    assert seconds > (0.45 if setup.serial else 0.28)


def test_fragments_only_hurt_on_tcp(setup):
    client = setup.client
    setup.arm.faults = Faults(fragment=Rule(times=1), fragment_s=0.05)
    result = client.get_angles()
    if setup.serial:
        assert result == [0.0] * 6
        return
    # The first half is taken for a whole; the second is the answer to the next question.
    assert result != [0.0] * 6
    time.sleep(0.1)
    # Now an answer is the one to the question before, and the client asks again; on a busy machine
    # two answers may come together and end that.
    questions = {Command.IS_MOVING: client.is_moving, Command.IS_POWER_ON: client.is_power_on}
    for question in questions.values():
        question()
    assert max(setup.arm.journal.count(command) for command in questions) == 2


def test_stray_bytes_only_hurt_on_tcp(setup):
    setup.arm.faults = Faults(noise=Rule(times=3))
    result = setup.client.get_angles()
    # Noise may begin with the byte of a header, which this client takes for one on serial, too.
    assert result in ([0.0] * 6, -1) if setup.serial else result == -1


@pytest.mark.slow
def test_a_late_reply_desynchronizes_tcp_only(setup):
    client, arm = setup.client, setup.arm
    # Later than all three attempts of either port; the next question is another one.
    arm.faults = Faults(late=Rule(times=1), late_s=1.7)
    assert client.get_angles() == -1
    arm.faults = Faults()
    time.sleep(1.0)
    answers = [client.is_moving(), client.get_angles(), client.is_power_on()]
    assert answers == [0, [0.0] * 6, 1] if setup.serial else -1 in answers


def test_an_echo_confuses_questions_on_serial_and_is_stripped_on_tcp(setup):
    setup.arm.faults = Faults(echo=ALWAYS)
    assert setup.client.get_angles() == (-1 if setup.serial else [0.0] * 6)
    # The setter takes its own echo for the acknowledgement; one of 13 bytes is too much for it.
    setup.arm.faults = Faults(echo=ALWAYS, no_ack=ALWAYS)
    assert setup.client.set_fresh_mode(1) == (1 if setup.serial else -1)
    if setup.serial:
        with pytest.raises(struct.error):
            setup.client.send_angles(POSE, 50)


def test_a_header_then_silence(setup):
    setup.arm.faults = Faults(truncate=ALWAYS)
    if setup.serial:
        with pytest.raises(struct.error):
            setup.client.get_angles()
    else:
        assert setup.client.get_angles() == -1
        assert setup.arm.journal.count(Command.GET_ANGLES) == 3


@pytest.mark.slow
def test_a_reply_that_is_too_long(setup):
    setup.arm.faults = Faults(oversize=ALWAYS)
    result = setup.client.get_angles()
    assert result == -1 if setup.serial else len(result) == 28


@pytest.mark.slow
def test_a_dead_arm(setup):
    setup.arm.faults = Faults(silent=True)
    assert setup.client.get_angles() == -1
    with pytest.raises(TypeError):
        setup.client.get_radians()


def test_the_device_goes_and_comes_back_under_its_path():
    with contextlib.ExitStack() as stack:
        setup = Setup("pty", stack)
        setup.port.disconnect()
        with pytest.raises((OSError, termios.error)):
            setup.client.get_angles()
        setup.port.connect()
        again = pymycobot.MyCobot320(setup.port.path)
        stack.callback(again.close)
        assert again.get_angles() == [0.0] * 6


def receive(connection: socket.socket) -> bytes:
    connection.settimeout(5)
    return connection.recv(1024)


def test_the_server_serves_one_client_after_the_other():
    with TcpPort(Emulator()) as port:
        first = socket.create_connection(port.address)
        second = socket.create_connection(port.address)
        question = encode(Command.IS_POWER_ON)
        for connection in (first, second):
            connection.sendall(question)
        assert receive(first) == encode(Command.IS_POWER_ON, b"\x01")
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(10)
        first.close()
        assert receive(second) == encode(Command.IS_POWER_ON, b"\x01")
        second.close()


def test_the_server_has_no_framing():
    """Two commands in one segment: one answer; the other one answers the next block."""
    with TcpPort(Emulator()) as port, socket.create_connection(port.address) as connection:
        connection.sendall(encode(Command.IS_POWER_ON) + encode(Command.IS_MOVING))
        assert receive(connection)[3] == Command.IS_POWER_ON
        connection.sendall(encode(Command.GET_ERROR))
        assert receive(connection)[3] == Command.IS_MOVING
        # Fewer than four bytes: its exception comes over the wire, then it hangs up.
        connection.sendall(b"\xfe\xfe\x02")
        assert b"Traceback" in receive(connection)
        assert receive(connection) == b""


def test_the_server_keeps_gpio_to_itself():
    arm = Emulator()
    with TcpPort(arm) as port, socket.create_connection(port.address) as connection:
        connection.sendall(encode(Command.SET_GPIO_OUTPUT, b"\x05\x01"))
        assert receive(connection) == encode(Command.SET_GPIO_OUTPUT, b"\x01")
        connection.sendall(encode(Command.GET_GPIO_INPUT, b"\x05"))
        assert receive(connection) == encode(Command.GET_GPIO_INPUT, b"\x01")
    assert [entry for entry in arm.journal.entries() if entry.frame] == []


def test_reset_and_death_of_the_server():
    with TcpPort(Emulator()) as port:
        connection = socket.create_connection(port.address)
        connection.sendall(encode(Command.IS_POWER_ON))
        receive(connection)
        port.reset()
        with pytest.raises(ConnectionResetError):
            receive(connection)
        connection.close()
        port.disconnect()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(port.address)
        port.connect()
        with socket.create_connection(port.address) as connection:
            connection.sendall(encode(Command.IS_POWER_ON))
            assert receive(connection) == encode(Command.IS_POWER_ON, b"\x01")


@pytest.mark.parametrize("tcp", [False, True])
def test_the_command_line_prints_a_port_and_an_audit(tcp, capsys):
    arguments = ["--seconds", "0.3", "--fault", "drop_reply=0.5", *(["--tcp"] if tcp else [])]
    assert main(arguments) == 0
    url, result = capsys.readouterr().out.splitlines()
    assert url.startswith("tcp:127.0.0.1:" if tcp else "serial:/")
    assert result.endswith("0 unsafe")


def test_the_command_line_names_unknown_faults(capsys):
    with pytest.raises(SystemExit):
        main(["--fault", "typhoon"])
    assert "typhoon" in capsys.readouterr().err
