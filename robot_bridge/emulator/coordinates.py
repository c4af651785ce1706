"""Flange coordinates as the controller reports them: mm and degrees, and back to angles.

[x, y, z, rx, ry, rz] in the controller's base frame, R = Rz Ry Rx. On the wire mm x 10 and
degrees x 100. The inverse is a damped least-squares descent from given angles: enough for an arm
that is not there; the real controller's choice among its solutions is not published.
"""

import numpy as np

from robot_bridge.frames import pack_int16s, unpack_int16s

SCALE = np.array([10.0, 10.0, 10.0, 100.0, 100.0, 100.0])
# Standard DH rows (theta offset, d, a, alpha) in rad and mm, fitted to the real arm's readings.
_DH = (
    (0.0, 173.86, 0.0, -np.pi / 2),
    (-np.pi / 2, 0.0, 135.00, 0.0),
    (0.0, 0.0, 119.98, 0.0),
    (np.pi / 2, 87.73, 0.0, np.pi / 2),
    (0.0, 94.97, 0.0, -np.pi / 2),
    (0.0, 65.49, 0.0, 0.0),
)
_TOLERANCE = 0.05  # mm, degrees
_STEPS = 100
# A degree weighs as much as a millimetre: both change by about the same when a joint turns.
_DAMPING = 1e-2


def forward(degrees: np.ndarray) -> np.ndarray:
    """Angles [6] in degrees -> coordinates [6]."""
    # The controller's base frame is the DH base turned by 180 degrees about z.
    pose = np.diag([-1.0, -1.0, 1.0, 1.0])
    for (offset, d, a, alpha), angle in zip(_DH, np.radians(degrees), strict=True):
        c, s = np.cos(angle + offset), np.sin(angle + offset)
        ca, sa = np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        )
    r = pose[:3, :3]
    turns = (
        np.arctan2(r[2, 1], r[2, 2]),
        np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2])),
        np.arctan2(r[1, 0], r[0, 0]),
    )
    return np.concatenate([pose[:3, 3], np.degrees(turns)])


def inverse(coords: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """Coordinates [6] -> angles [6] in degrees near `start`; None when none was found."""
    angles = np.array(start, float)
    for _ in range(_STEPS):
        error = _difference(coords, forward(angles))
        if np.all(np.abs(error) < _TOLERANCE):
            return angles
        jacobian = np.stack(
            [
                _difference(forward(angles + step), forward(angles - step)) / 0.02
                for step in 0.01 * np.eye(6)
            ],
            axis=1,
        )
        square = jacobian.T @ jacobian + _DAMPING * np.eye(6)
        angles += np.clip(np.linalg.solve(square, jacobian.T @ error), -10, 10)
        angles = (angles + 180) % 360 - 180
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


def _difference(to: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """`to` - `origin`, angles the short way round."""
    difference = to - origin
    difference[3:] = (difference[3:] + 180) % 360 - 180
    return difference
