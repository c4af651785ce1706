"""The frames of the myCobot 320's wire: bytes to commands with data, and back.

A frame is `FE FE LEN CMD DATA... FA`, LEN = len(DATA) + 2, without a checksum; numbers are signed
big-endian 16-bit integers, angles in hundredths of a degree. A reply has the command of its
request. Pure: no ports, no time, no knowledge of what a command does. Used by the driver
(`wire_driver.py`) and by the arm that stands in for the real one (`emulator/`).
"""

import dataclasses
import enum
import math
import struct
from collections.abc import Iterable, Sequence

HEADER = b"\xfe\xfe"
FOOTER = 0xFA
# What the vendor's own client believes; a longer LEN is noise (mycobot.md b.3).
MAX_LENGTH = 30
_SHORTEST = 5  # header, LEN, CMD, footer


class Command(enum.IntEnum):
    """Ids of the 320's commands (mycobot.md b.2)."""

    ROBOT_VERSION = 0x02
    GET_ERROR = 0x07
    CLEAR_ERROR = 0x08
    ATOM_VERSION = 0x09
    POWER_ON = 0x10
    POWER_OFF = 0x11
    IS_POWER_ON = 0x12
    RELEASE_ALL_SERVOS = 0x13
    IS_CONTROLLER_CONNECTED = 0x14
    READ_NEXT_ERROR = 0x15
    SET_FRESH_MODE = 0x16
    GET_FRESH_MODE = 0x17
    SELF_TEST = 0x19
    GET_ANGLES = 0x20
    SEND_ANGLE = 0x21
    SEND_ANGLES = 0x22
    GET_COORDS = 0x23
    SEND_COORD = 0x24
    SEND_COORDS = 0x25
    PAUSE = 0x26
    IS_PAUSED = 0x27
    RESUME = 0x28
    STOP = 0x29
    IS_IN_POSITION = 0x2A
    IS_MOVING = 0x2B
    JOG_ANGLE = 0x30
    JOG_COORD = 0x32
    JOG_INCREMENT = 0x33
    JOG_INCREMENT_COORD = 0x34
    SET_ENCODER = 0x3A
    GET_ENCODER = 0x3B
    SET_ENCODERS = 0x3C
    GET_ENCODERS = 0x3D
    GET_JOINT_MIN = 0x4A
    GET_JOINT_MAX = 0x4B
    SET_JOINT_MIN = 0x4C
    SET_JOINT_MAX = 0x4D
    IS_SERVO_ENABLED = 0x50
    ARE_ALL_SERVOS_ENABLED = 0x51
    SET_SERVO_DATA = 0x52
    GET_SERVO_DATA = 0x53
    RELEASE_SERVO = 0x56
    FOCUS_SERVO = 0x57
    GET_GRIPPER = 0x65
    SET_GRIPPER_STATE = 0x66
    SET_GRIPPER = 0x67
    CALIBRATE_GRIPPER = 0x68
    IS_GRIPPER_MOVING = 0x69
    SET_COLOR = 0x6A
    SET_ELECTRIC_GRIPPER = 0x6B
    INIT_ELECTRIC_GRIPPER = 0x6C
    SET_GRIPPER_MODE = 0x6D
    GET_GRIPPER_MODE = 0x6E
    INVERSE_KINEMATICS = 0x8D
    SET_GPIO_MODE = 0xAA
    SET_GPIO_UP = 0xAB
    SET_GPIO_OUTPUT = 0xAC
    GET_GPIO_INPUT = 0xAD
    BASIC_VERSION = 0xC1
    GET_ANGLES_COORDS = 0xD5
    GET_SERVO_SPEEDS = 0xE1
    GET_SERVO_CURRENTS = 0xE2
    GET_SERVO_VOLTAGES = 0xE3
    GET_SERVO_STATUS = 0xE4
    GET_SERVO_TEMPERATURES = 0xE5
    SET_FORCE_GRIPPER = 0xE8
    GET_FORCE_GRIPPER = 0xE9


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame: its command (maybe one that `Command` does not know) and its data bytes."""

    command: int
    data: bytes = b""


def encode(command: int, data: bytes = b"") -> bytes:
    """The bytes of a frame; raises ValueError for data that no frame can hold."""
    if not 0 <= command <= 0xFF:
        raise ValueError(f"command {command} is not a byte")
    length = len(data) + 2
    if length > MAX_LENGTH:
        raise ValueError(f"{len(data)} data bytes: a frame holds at most {MAX_LENGTH - 2}")
    return HEADER + bytes((length, command)) + data + bytes((FOOTER,))


def pack_int16s(values: Sequence[int]) -> bytes:
    """Signed big-endian 16-bit integers; raises ValueError for one that does not fit."""
    for value in values:
        if not -0x8000 <= value <= 0x7FFF:
            raise ValueError(f"{value} does not fit into 16 bits")
    return struct.pack(f">{len(values)}h", *values)


def unpack_int16s(data: bytes) -> list[int]:
    """The integers of `pack_int16s`; raises ValueError for an odd number of bytes."""
    if len(data) % 2:
        raise ValueError(f"{len(data)} bytes are no 16-bit integers")
    return list(struct.unpack(f">{len(data) // 2}h", data))


def pack_angles(degrees: Iterable[float]) -> bytes:
    """Angles in degrees as hundredths.

    Rounded to the nearest; the vendor's client truncates, which is up to .01 degree toward zero.
    Raises ValueError for what is not finite or does not fit.
    """
    degrees = [float(angle) for angle in degrees]
    if not all(math.isfinite(angle) for angle in degrees):
        raise ValueError(f"angles {degrees} are not finite")
    return pack_int16s([round(100 * angle) for angle in degrees])


def unpack_angles(data: bytes) -> list[float]:
    """Angles in degrees; raises ValueError for an odd number of bytes."""
    return [value / 100 for value in unpack_int16s(data)]


class FrameReader:
    """Finds frames in a stream that comes in pieces and may hold noise.

    After anything that is not a frame the search goes on at the next byte, so that a good frame
    behind noise, or behind the torso of another one, is found. A beginning whose rest never comes
    holds back what follows until enough bytes stand behind it: `reset` before asking anew.

    Attributes:
        junk: bytes thrown away so far, those of `reset` included.
    """

    def __init__(self) -> None:
        self.junk = 0
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes received that may become a frame."""
        return len(self._buffer)

    def reset(self) -> int:
        """Throws away an unfinished beginning; returns how many bytes that were."""
        dropped = len(self._buffer)
        self._buffer.clear()
        self.junk += dropped
        return dropped

    def feed(self, data: bytes) -> list[Frame]:
        """Takes the next bytes; returns the frames that they complete, in order."""
        self._buffer += data
        frames = []
        while self._skip_to_header() and len(self._buffer) >= _SHORTEST:
            length = self._buffer[2]
            end = length + 3
            if not 2 <= length <= MAX_LENGTH:
                self._drop(1)
            elif len(self._buffer) < end:
                break
            elif self._buffer[end - 1] != FOOTER:
                self._drop(1)
            else:
                frames.append(Frame(self._buffer[3], bytes(self._buffer[4 : end - 1])))
                del self._buffer[:end]
        return frames

    def _skip_to_header(self) -> bool:
        """Drops bytes until a header, or the first half of one, stands in front."""
        start = self._buffer.find(HEADER)
        if start < 0:
            half = self._buffer[-1:] == HEADER[:1]
            start = len(self._buffer) - half
        self._drop(start)
        return self._buffer.startswith(HEADER)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self.junk += count
