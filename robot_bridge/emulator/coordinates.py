"""Flange coordinates as the controller reports them: mm and degrees, and back to angles.

[x, y, z, rx, ry, rz] in the controller's base frame, R = Rz Ry Rx. On the wire mm x 10 and
degrees x 100. The inverse is a damped least-squares descent from given angles: enough for an arm
that is not there; the real controller's choice among its solutions is not published.
"""

import numpy as np

from robot_bridge.kinematics import controller_coords, link_frames, rotation
from robot_bridge.wire.frames import pack_int16s, unpack_int16s

SCALE = np.array([10.0, 10.0, 10.0, 100.0, 100.0, 100.0])
_NEAR_M, _NEAR_RAD = 1e-5, 1e-4
_STEPS = 200
_DAMPING = 1e-4  # m^2: a radian weighs as much as a meter
_LONGEST_RAD = 0.3


def forward(degrees: np.ndarray) -> np.ndarray:
    """Angles [6] in degrees -> coordinates [6]."""
    return controller_coords(np.radians(degrees))


def inverse(coords: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """Coordinates [6] -> angles [6] in degrees near `start`; None when none was found."""
    goal = np.asarray(coords, float)
    turn = rotation(tuple(np.radians(goal[3:])))
    angles = np.radians(np.asarray(start, float))
    for _ in range(_STEPS):
        frames = link_frames(angles[None])[0]
        position, matrix = frames[-1, :3, 3], frames[-1, :3, :3]
        away = goal[:3] / 1000 - position
        # Half the sum of the axes' cross products: the rotation vector, for small angles.
        turned = np.cross(matrix, turn, axis=0).sum(axis=1) / 2
        trace = np.trace(matrix.T @ turn)
        if np.abs(away).max() < _NEAR_M and np.abs(turned).max() < _NEAR_RAD and trace > 0:
            degrees = np.degrees(angles)
            return (degrees + 180) % 360 - 180
        axes, origins = frames[1:, :3, 2], frames[1:, :3, 3]
        jacobian = np.concatenate([np.cross(axes, position - origins), axes], axis=1).T
        square = jacobian.T @ jacobian + _DAMPING * np.eye(6)
        step = np.linalg.solve(square, jacobian.T @ np.concatenate([away, turned]))
        angles = angles + step * min(1.0, _LONGEST_RAD / np.abs(step).max())
    return None


def pack(coords: np.ndarray) -> bytes:
    """12 bytes."""
    return pack_int16s([round(value) for value in coords * SCALE])


def unpack(data: bytes) -> np.ndarray:
    """Coordinates [6] from 12 bytes; ValueError for another number."""
    values = unpack_int16s(data)
    if len(values) != len(SCALE):
        raise ValueError(f"{len(data)} bytes are no coordinates")
    return np.array(values) / SCALE
