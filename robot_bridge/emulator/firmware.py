"""What the emulated controller does with each command: the 320's ids, as its firmware answers.

In: a frame and the present state of joints, gripper and power. Out: the reply's data bytes. No
time of its own (the emulator advances the motion before each frame), no bytes of the wire, no
faults except those that are states (`Faults`: gripper readings, stuck modes, error codes).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from robot_bridge.emulator import coordinates
from robot_bridge.emulator.faults import Faults
from robot_bridge.emulator.journal import MOTION
from robot_bridge.emulator.motion import JOINTS, Gripper, Joints
from robot_bridge.wire.frames import (
    Command,
    Frame,
    pack_angles,
    pack_int16s,
    unpack_angles,
    unpack_int16s,
)

# What the firmware itself refuses: the SDK's table, degrees both ways.
LIMITS = (168.0, 135.0, 145.0, 145.0, 168.0, 180.0)
ACKNOWLEDGED = b"\x01"
UNREADABLE = 255
# Error codes of 07: 1 ... 6 joint n beyond its limit, 32 no solution of the inverse kinematics.
NO_SOLUTION = 32
_NO_ANGLES = pack_int16s([8241] * JOINTS)
_NEAR_DEGREES, _NEAR_MM = 0.5, 2.0  # is_in_position


@dataclasses.dataclass(frozen=True)
class Versions:
    """What the controller says about itself, tenths (66 is 6.6)."""

    robot: int = 32
    atom: int = 66
    basic: int = 24


class Firmware:
    """State and answers of the controller.

    Args:
        joints, gripper: what it moves.
        versions: to report.

    Attributes:
        powered: the servos have power; without, commands are acknowledged and nothing moves.
        error: the register of 07.
        heard_arm_ns: when the last arm command came, for the gripper that is deaf after it.
        gripper_lost: commands that it did not hear.
    """

    def __init__(self, joints: Joints, gripper: Gripper, versions: Versions) -> None:
        self.joints, self.gripper, self.versions = joints, gripper, versions
        self.powered = True
        self.error = 0
        self.heard_arm_ns = -(10**12)
        self.gripper_lost = 0
        self.faults = Faults()
        self._now_ns = 0
        self._stale_gripper: int | None = None
        self._gripper_mode = 0
        self._high = np.array(LIMITS)
        self._low = -self._high
        self._handlers = self._table()

    def execute(self, frame: Frame, faults: Faults, now_ns: int) -> bytes:
        """Does what the frame says; returns the reply's data. Unknown commands answer 1."""
        self.faults, self._now_ns = faults, now_ns
        if not faults.gripper_stale:
            self._stale_gripper = None
        elif self._stale_gripper is None:
            self._stale_gripper = round(self.gripper.value)
        handler = self._handlers.get(frame.command)
        if frame.command in MOTION:
            self.heard_arm_ns = now_ns
        try:
            reply = None if handler is None else handler(frame.data)
        except (ValueError, IndexError):
            # Data of the wrong size: the real one answers something; never anything of use.
            reply = None
        return ACKNOWLEDGED if reply is None else reply

    def set_power(self, on: bool) -> None:
        """Servos on (gripping where they are) or off."""
        self.powered = on
        self.joints.stop()
        self.joints.set_gripped(None, on)

    def restart(self) -> None:
        """As after switching on: no power to the servos, queue mode, no error."""
        self.set_power(False)
        self.joints.newest_only = False
        self.error = 0
        self._gripper_mode = 0

    def _table(self) -> dict[int, Callable[[bytes], bytes | None]]:
        joints, versions = self.joints, self.versions
        return {
            Command.ROBOT_VERSION: lambda data: bytes((versions.robot,)),
            Command.ATOM_VERSION: lambda data: bytes((versions.atom,)),
            Command.BASIC_VERSION: lambda data: bytes((versions.basic,)),
            Command.GET_ERROR: lambda data: bytes((self.faults.error or self.error,)),
            Command.CLEAR_ERROR: self._clear_error,
            Command.POWER_ON: self._power_on,
            Command.POWER_OFF: lambda data: self.set_power(False),
            Command.IS_POWER_ON: lambda data: bytes((self.powered,)),
            Command.RELEASE_ALL_SERVOS: lambda data: joints.set_gripped(None, False),
            Command.READ_NEXT_ERROR: lambda data: bytes(7),
            Command.SET_FRESH_MODE: self._set_fresh_mode,
            Command.GET_FRESH_MODE: lambda data: bytes((joints.newest_only,)),
            Command.SELF_TEST: lambda data: bytes(12),
            Command.GET_ANGLES: lambda data: pack_angles(joints.degrees),
            Command.SEND_ANGLE: self._send_angle,
            Command.SEND_ANGLES: lambda data: self._go(unpack_angles(data[:-1]), data[-1]),
            Command.GET_COORDS: self._get_coords,
            Command.SEND_COORD: self._send_coord,
            Command.SEND_COORDS: lambda data: self._go_to(coordinates.unpack(data[:12]), data[12]),
            Command.PAUSE: lambda data: self._pause(True),
            Command.IS_PAUSED: lambda data: bytes((joints.paused,)),
            Command.RESUME: lambda data: self._pause(False),
            Command.STOP: lambda data: joints.stop(),
            Command.IS_IN_POSITION: self._is_in_position,
            Command.IS_MOVING: lambda data: bytes((joints.moving,)),
            Command.JOG_ANGLE: self._jog_angle,
            Command.JOG_INCREMENT: self._jog_increment,
            Command.GET_ENCODER: lambda data: pack_int16s([self._encoders()[data[0] - 1]]),
            Command.GET_ENCODERS: lambda data: pack_int16s(self._encoders()),
            Command.GET_JOINT_MIN: lambda data: self._limit(self._low, data),
            Command.GET_JOINT_MAX: lambda data: self._limit(self._high, data),
            Command.SET_JOINT_MIN: lambda data: self._set_limit(self._low, data),
            Command.SET_JOINT_MAX: lambda data: self._set_limit(self._high, data),
            Command.IS_SERVO_ENABLED: self._is_servo_enabled,
            Command.ARE_ALL_SERVOS_ENABLED: lambda data: bytes((bool(joints.gripped.all()),)),
            Command.GET_SERVO_DATA: lambda data: bytes(1),
            Command.RELEASE_SERVO: lambda data: self._grip(data, False),
            Command.FOCUS_SERVO: lambda data: self._grip(data, True),
            Command.GET_GRIPPER: self._get_gripper,
            Command.SET_GRIPPER_STATE: lambda data: self._grasp((100, 0)[data[0]], data[1]),
            Command.SET_GRIPPER: lambda data: self._grasp(data[0], data[1]),
            Command.IS_GRIPPER_MOVING: lambda data: bytes((self.gripper.moving,)),
            Command.SET_GRIPPER_MODE: self._set_gripper_mode,
            Command.GET_GRIPPER_MODE: lambda data: bytes((self._gripper_mode,)),
            Command.INVERSE_KINEMATICS: self._inverse,
            Command.GET_ANGLES_COORDS: lambda data: (
                pack_angles(joints.degrees) + coordinates.pack(coordinates.forward(joints.degrees))
            ),
            Command.GET_SERVO_SPEEDS: lambda data: bytes(12),
            Command.GET_SERVO_CURRENTS: lambda data: pack_int16s([60] * JOINTS),
            Command.GET_SERVO_VOLTAGES: lambda data: bytes([240] * JOINTS),
            Command.GET_SERVO_STATUS: lambda data: bytes(self.faults.servo_status),
            Command.GET_SERVO_TEMPERATURES: lambda data: bytes([35] * JOINTS),
        }

    # Power, modes, errors.

    def _clear_error(self, data: bytes) -> None:
        self.error = 0

    def _power_on(self, data: bytes) -> None:
        if not self.faults.power_stuck and not self.powered:
            self.set_power(True)

    def _set_fresh_mode(self, data: bytes) -> None:
        if not self.faults.fresh_mode_stuck:
            self.joints.newest_only = data[0] == 1

    def _pause(self, paused: bool) -> None:
        self.joints.paused = paused

    def _grip(self, data: bytes, gripped: bool) -> None:
        # Servo 0 means all; the gripper's own servo is number 7.
        if data[0] <= JOINTS and self.powered:
            self.joints.set_gripped(None if data[0] == 0 else data[0] - 1, gripped)

    def _is_servo_enabled(self, data: bytes) -> bytes:
        enabled = data[0] > JOINTS or bool(self.joints.gripped[data[0] - 1])
        return bytes((data[0], enabled and self.powered))

    def _limit(self, limits: np.ndarray, data: bytes) -> bytes:
        return data[:1] + pack_int16s([round(10 * limits[data[0] - 1])])

    def _set_limit(self, limits: np.ndarray, data: bytes) -> None:
        limits[data[0] - 1] = unpack_int16s(data[1:3])[0] / 10

    # Motion.

    def _go(self, target: list[float] | np.ndarray, speed: int) -> None:
        if len(target) != JOINTS:
            raise ValueError(f"{len(target)} angles")
        beyond = np.flatnonzero((target < self._low) | (target > self._high))
        if beyond.size:
            self.error = int(beyond[0]) + 1
        elif self.powered and not self.joints.paused:
            self.joints.go(np.asarray(target), float(np.clip(speed, 1, 100)))

    def _go_to(self, coords: np.ndarray, speed: int) -> None:
        angles = coordinates.inverse(coords, self.joints.degrees)
        if angles is None:
            self.error = NO_SOLUTION
        else:
            self._go(angles, speed)

    def _send_angle(self, data: bytes) -> None:
        target = self.joints.target
        target[data[0] - 1] = unpack_angles(data[1:3])[0]
        self._go(target, data[3])

    def _send_coord(self, data: bytes) -> None:
        coords = coordinates.forward(self.joints.target)
        axis = data[0] - 1
        coords[axis] = unpack_int16s(data[1:3])[0] / coordinates.SCALE[axis]
        self._go_to(coords, data[3])

    def _jog_angle(self, data: bytes) -> None:
        joint, direction, speed = data[:3]
        target = self.joints.degrees.copy()
        target[joint - 1] = (self._high if direction else self._low)[joint - 1]
        self._go(target, speed)

    def _jog_increment(self, data: bytes) -> None:
        target = self.joints.target
        target[data[0] - 1] += unpack_angles(data[1:3])[0]
        self._go(target, data[3])

    # Questions.

    def _get_coords(self, data: bytes) -> bytes:
        angles = unpack_angles(data) if data else self.joints.degrees
        return coordinates.pack(coordinates.forward(np.asarray(angles)))

    def _is_in_position(self, data: bytes) -> bytes:
        if data[12]:
            error = np.abs(coordinates.unpack(data[:12]) - coordinates.forward(self.joints.degrees))
            near = bool(np.all(error[:3] < _NEAR_MM))
        else:
            error = np.abs(np.array(unpack_angles(data[:12])) - self.joints.degrees)
            near = bool(np.all(error < _NEAR_DEGREES))
        return bytes((near,))

    def _encoders(self) -> list[int]:
        return [round(2048 + angle * 4096 / 360) for angle in self.joints.degrees]

    def _inverse(self, data: bytes) -> bytes:
        angles = coordinates.inverse(
            coordinates.unpack(data[:12]), np.array(unpack_angles(data[12:24]))
        )
        return _NO_ANGLES if angles is None else pack_angles(angles)

    # Gripper.

    def _grasp(self, value: int, speed: int) -> None:
        deaf = (self._now_ns - self.heard_arm_ns) / 1e9 < self.faults.gripper_deaf_s
        self.gripper_lost += deaf
        if self.powered and not deaf and value <= 100:
            self.gripper.go(value, float(np.clip(speed, 1, 100)))

    def _get_gripper(self, data: bytes) -> bytes:
        if self.faults.gripper_unreadable:
            return bytes((UNREADABLE,))
        if self._stale_gripper is not None:
            return bytes((self._stale_gripper,))
        return bytes((round(self.gripper.value),))

    def _set_gripper_mode(self, data: bytes) -> None:
        self._gripper_mode = data[0]
