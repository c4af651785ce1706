"""Is the arm ready? Firmware, power, error, gripper, and how fast and whole its readings are.

In: a `Robot` that is not connected yet. Out: findings. Nothing moves: readings only.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from robot_bridge.arm import COMMAND_LIMITS, JOINTS, describe_error
from robot_bridge.commands.findings import Finding
from robot_bridge.robots import Reading, Robot, RobotError

# Vendor, issue 111: older ones answer get_angles after 1.5 s (mycobot.md b.7).
_GOOD_ATOM = 6.5
_FIRST_READING_S = 5.0


def check_arm(
    robot: Robot,
    rate_hz: float,
    with_gripper: bool,
    seconds: float,
    now_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Connects, looks at readings for `seconds`, and tells; the caller closes the robot.

    Args:
        rate_hz: of the control loop, which readings should reach.
        with_gripper: whether the configuration says that there is one.
    """
    try:
        identity = robot.connect()
    except RobotError as error:
        yield Finding("fail", "arm", "does not answer, or is not ready", str(error))
        return
    yield from _check_identity(identity)
    deadline = now_ns() + int(_FIRST_READING_S * 1e9)
    while (reading := robot.read()) is None and now_ns() < deadline:
        sleep(0.02)
    if reading is None:
        advice = robot.health().last_error or "is another program talking to it?"
        yield Finding("fail", "angles", f"no reading within {_FIRST_READING_S:.0f} s", advice)
        return
    yield from _check_state(reading)
    yield _check_rate(robot, rate_hz, seconds, now_ns, sleep)
    yield _check_gripper(robot.read() or reading, with_gripper)


def _check_identity(identity: Mapping[str, Any]) -> Iterator[Finding]:
    shown = ", ".join(f"{key} {value}" for key, value in identity.items())
    yield Finding("ok", "arm", f"connected, ready for streamed targets: {shown}")
    atom = identity.get("atom_version")
    if isinstance(atom, int | float) and atom < _GOOD_ATOM:
        yield Finding(
            "warn",
            "firmware",
            f"atomMain {atom} answers slowly",
            f"update it to {_GOOD_ATOM} or newer with the vendor's myStudio",
        )


def _check_state(reading: Reading) -> Iterator[Finding]:
    if reading.powered:
        yield Finding("ok", "power", "servos are on")
    else:
        advice = "release the e-stop button, then switch the arm off and on"
        yield Finding("fail", "power", "servos are off", advice)
    if reading.error:
        advice = "move the arm by hand (servos off) away from there, then reset"
        yield Finding("fail", "error", describe_error(reading.error), advice)
    else:
        yield Finding("ok", "error", "none")
    shown = " ".join(f"{degrees:.1f}" for degrees in np.degrees(reading.angles))
    outside = np.flatnonzero(np.abs(reading.angles) > np.array(COMMAND_LIMITS))
    if outside.size:
        name = JOINTS[outside[0]]
        advice = "move it inside by hand (`robot-bridge teach`), else safety refuses to start"
        yield Finding("warn", "angles", f"{shown} deg; {name} is at its limit", advice)
    else:
        yield Finding("ok", "angles", f"{shown} deg")


def _check_rate(
    robot: Robot,
    rate_hz: float,
    seconds: float,
    now_ns: Callable[[], int],
    sleep: Callable[[float], None],
) -> Finding:
    before, begin = robot.health(), now_ns()
    times: list[int] = []
    while now_ns() - begin < seconds * 1e9:
        reading = robot.read()
        if reading is not None and (not times or reading.time_ns != times[-1]):
            times.append(reading.time_ns)
        sleep(0.002)
    after, passed = robot.health(), (now_ns() - begin) / 1e9
    rate = (after.reads - before.reads) / passed
    missed = after.failed_reads - before.failed_reads
    gap_ms = float(np.max(np.diff(times))) / 1e6 if len(times) > 1 else seconds * 1e3
    text = f"{rate:.1f} a second, longest gap {gap_ms:.0f} ms, {missed} missed"
    if rate < 0.5 * rate_hz:
        advice = "another USB cable or port (no hub), atomMain 6.5 or newer; see docs/mycobot.md"
        return Finding("fail", "reading rate", text, advice)
    if rate < 1.5 * rate_hz:
        return Finding("warn", "reading rate", text, f"set loop.rate_hz to {rate / 1.5:.0f}")
    if gap_ms > 2500.0 / rate_hz or missed > 0.05 * (after.reads - before.reads):
        return Finding("warn", "reading rate", text, "noise on the line? other cable, no hub")
    return Finding("ok", "reading rate", text)


def _check_gripper(reading: Reading, with_gripper: bool) -> Finding:
    if not with_gripper:
        return Finding("ok", "gripper", "none, says robot.tool")
    if reading.gripper_measured:
        return Finding("ok", "gripper", f"reads {100 * reading.gripper:.0f} %")
    advice = (
        "common on this arm: the last command is used instead and marked so; "
        'without a gripper set robot.tool = "none"'
    )
    return Finding("warn", "gripper", "its reading is not usable (255 or none)", advice)
