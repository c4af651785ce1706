"""Are the joint zeros and the kinematics the ones that safety calculates with?

In: an arm's address. Out: a finding. The controller is asked for its angles and for where it thinks
that the flange is; forward kinematics of the angles must agree to the wire's resolution. Two
questions on a line of their own, before the bridge opens it; nothing moves.
"""

import time
from collections.abc import Iterator

import numpy as np

from robot_bridge.commands.findings import Finding
from robot_bridge.kinematics import controller_coords
from robot_bridge.robots import RobotError
from robot_bridge.settings.config import Config
from robot_bridge.wire.frames import Command, FrameReader, encode, unpack_int16s
from robot_bridge.wire.lines import Line, LineError
from robot_bridge.wire.ports import arm_line

# Another model or firmware is off by more; the fitted parameters by 0.1 mm (kinematics.py).
_GOOD_MM, _BAD_MM = 1.0, 5.0
# Single answers take up to 0.7 s on a bad day.
_ANSWER_S = 0.8
_ATTEMPTS = 3


def check_zero(config: Config) -> Iterator[Finding]:
    """The finding; a twin has the bridge's own kinematics."""
    if config.robot.url in ("sim", "sim:"):
        yield Finding("ok", "joint zeros", "the twin's are the model's")
        return
    line = arm_line(config.robot.url)
    try:
        line.open()
        yield _compare(line)
    except (RobotError, LineError) as error:
        yield Finding("fail", "joint zeros", "could not be asked", str(error))
    finally:
        line.close()


def _compare(line: Line) -> Finding:
    for _ in range(_ATTEMPTS):
        if (before := _ask(line, Command.GET_ANGLES)) is None:
            continue
        coords, after = _ask(line, Command.GET_COORDS), _ask(line, Command.GET_ANGLES)
        if coords is None or after is None:
            continue
        # Asked twice: an arm that moves in between is not compared (hundredths of a degree).
        if np.abs(before - after).max() > 20:
            continue
        away = coords[:3] / 10 - controller_coords(np.radians(after / 100))[:3]
        distance = float(np.linalg.norm(away))
        text = f"the controller's flange is {distance:.2f} mm from that of its angles"
        if distance > _BAD_MM:
            advice = "is it a myCobot 320? set the joints' zeros anew with the vendor's myStudio"
            return Finding("fail", "joint zeros", text, advice)
        if distance > _GOOD_MM:
            advice = "another firmware's link lengths? keep more distance (safety.table_distance_m)"
            return Finding("warn", "joint zeros", text, advice)
        return Finding("ok", "joint zeros", text)
    advice = "is it moving, or noisy? see the other lines"
    return Finding("warn", "joint zeros", "no complete answer", advice)


def _ask(line: Line, command: Command) -> np.ndarray | None:
    """The six numbers of a reply; None for no answer."""
    line.drain()
    line.write(encode(command))
    reader, deadline = FrameReader(), time.monotonic() + _ANSWER_S
    while time.monotonic() < deadline:
        for frame in reader.feed(line.read()):
            if frame.command == command and len(frame.data) == 12:
                return np.array(unpack_int16s(frame.data), np.float64)
    return None
