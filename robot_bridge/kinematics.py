"""Forward kinematics of the myCobot 320, with the numbers that reproduce its own readings.

In: joint angles. Out: link frames and the flange's pose in the controller's base frame: z up from
the table, x pointing to the back of the arm (the simulator's world is this one turned by 180
degrees about z). The chain is the vendor's URDF with lengths fitted to 25 readings of a real arm.
No shapes (`clearance.py`), no inverse, no limits.
"""

import numpy as np

# Standard DH, m: d1, a2, a3, d4, d5, d6. Nominal 173.9 135 120 88.78 95 65.5 mm are 1 mm off.
D1, A2, A3, D4, D5, D6 = 0.17386, 0.13500, 0.11998, 0.08773, 0.09497, 0.06549

# Parent frame -> joint frame: xyz (m), rpy (rad, fixed axes); each joint turns about its local z.
_CHAIN = (
    ((0.0, 0.0, D1), (0.0, 0.0, 0.0)),
    ((0.0, -D4, 0.0), (0.0, -np.pi / 2, np.pi / 2)),
    ((A2, 0.0, -D4), (0.0, 0.0, 0.0)),
    ((A3, 0.0, D4), (0.0, 0.0, np.pi / 2)),
    ((0.0, -D5, 0.0), (np.pi / 2, 0.0, 0.0)),
    ((0.0, D6, 0.0), (-np.pi / 2, 0.0, 0.0)),
)
_JOINTS = len(_CHAIN)


def rotation(rpy: tuple[float, float, float]) -> np.ndarray:
    """Matrix [3, 3] of angles (rad) about the fixed x, then y, then z axis."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ]
    )


def _joint_frames() -> np.ndarray:
    frames = np.tile(np.eye(4), (_JOINTS, 1, 1))
    for frame, (xyz, rpy) in zip(frames, _CHAIN, strict=True):
        frame[:3, :3], frame[:3, 3] = rotation(rpy), xyz
    return frames


_FRAMES = _joint_frames()


def link_frames(angles: np.ndarray) -> np.ndarray:
    """Frames of the base and the six links.

    Args:
        angles: [S, 6], rad.

    Returns:
        float64 [S, 7, 4, 4]; index 0 is the base (identity), 6 the flange.
    """
    angles = np.asarray(angles, np.float64)
    cos, sin = np.cos(angles)[..., None], np.sin(angles)[..., None]
    local = np.empty((len(angles), _JOINTS, 4, 4))
    local[..., 0] = _FRAMES[..., 0] * cos + _FRAMES[..., 1] * sin
    local[..., 1] = _FRAMES[..., 1] * cos - _FRAMES[..., 0] * sin
    local[..., 2:] = _FRAMES[..., 2:]
    frames = np.empty((len(angles), _JOINTS + 1, 4, 4))
    frames[:, 0] = np.eye(4)
    for index in range(_JOINTS):
        np.matmul(frames[:, index], local[:, index], out=frames[:, index + 1])
    return frames


def flange_pose(angles: np.ndarray) -> np.ndarray:
    """Pose of the flange [4, 4] (m) for one set of angles [6] (rad)."""
    return link_frames(np.asarray(angles)[None])[0, -1]


def controller_coords(angles: np.ndarray) -> np.ndarray:
    """What the controller reports for these angles [6]: x y z (mm), rx ry rz (degrees)."""
    pose = flange_pose(angles)
    matrix = pose[:3, :3]
    rx = np.arctan2(matrix[2, 1], matrix[2, 2])
    ry = np.arctan2(-matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0]))
    rz = np.arctan2(matrix[1, 0], matrix[0, 0])
    return np.concatenate([1000.0 * pose[:3, 3], np.degrees([rx, ry, rz])])
