"""The Push-T world in numbers: sizes, constants, body outlines, and maps between body frames.

Poses flow in, points flow out. Everything is elementwise over leading batch dimensions. Lengths
are pixels, y points down, angles are radians; a block *pose* is (x, y, angle) of the body origin
(middle of the bar's outer edge), not of the centre of gravity. No dynamics and no drawing here.
Source of every number: gym-pusht 0.1.8 (`gym_pusht/envs/pusht.py`), whose physics is that of
Diffusion Policy (Chi et al. 2023).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

WORLD_SIZE = 512.0  # px, square
SUBSTEP_SECONDS = 0.01
SUBSTEPS = 10  # per control step
CONTROL_HZ = 10.0
MAX_EPISODE_STEPS = 300

AGENT_RADIUS = 15.0
AGENT_STIFFNESS = 100.0  # 1/s^2, towards the target position
AGENT_DAMPING = 20.0  # 1/s: critical damping

# (low corner, high corner) in the body frame. The two boxes touch along y = 30.
BAR = ((-60.0, 0.0), (60.0, 30.0))
STEM = ((-15.0, 30.0), (15.0, 120.0))
BOXES = (BAR, STEM)
OUTLINE = np.array(  # [8, 2], same orientation as the corners of a box below
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], np.float64
)
BLOCK_AREA = 6300.0  # px^2
BLOCK_MASS = 1.0
# gym-pusht adds the bar's moment twice (the second term was meant to be the stem's).
BLOCK_INERTIA = 3000.0
# On the body's y axis: the mean of the two box centres, which is not the true centroid.
CENTER_OF_GRAVITY_Y = 45.0

# Walls are segments of this radius along x = low, y = low, x = high, y = high.
WALL_LOW, WALL_HIGH = 5.0, 506.0
WALL_RADIUS = 2.0

GOAL_POSE = (256.0, 256.0, np.pi / 4)
SUCCESS_COVERAGE = 0.95


def box_corners(box: tuple[tuple[float, float], tuple[float, float]]) -> np.ndarray:
    """Corners [4, 2] of a box in the order (lo,lo), (hi,lo), (hi,hi), (lo,hi)."""
    (x0, y0), (x1, y1) = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


KEYPOINTS_BODY = np.concatenate([box_corners(BAR), box_corners(STEM)])  # [8, 2]


def transform(pose: ArrayLike, points: ArrayLike) -> Array:
    """Moves body-frame points to the world.

    Args:
        pose: [..., 3] x, y (px), angle (rad).
        points: [N, 2] px, body frame.

    Returns:
        [..., N, 2] px, world frame.
    """
    pose = jnp.asarray(pose)
    points = jnp.asarray(points, pose.dtype)
    cos, sin = jnp.cos(pose[..., 2:]), jnp.sin(pose[..., 2:])  # [..., 1]
    x = pose[..., 0:1] + cos * points[:, 0] - sin * points[:, 1]
    y = pose[..., 1:2] + sin * points[:, 0] + cos * points[:, 1]
    return jnp.stack([x, y], -1)


def keypoints(pose: ArrayLike) -> Array:
    """World positions of the block's 8 box corners, as a policy sees them.

    Bar corners, then stem corners, each in the order of `box_corners`, x then y: the order of
    gym-pusht's `environment_state`.

    Args:
        pose: [..., 3] block pose.

    Returns:
        [..., 16] px.
    """
    points = transform(pose, KEYPOINTS_BODY)
    return points.reshape(*points.shape[:-2], 16)


def center_of_gravity(pose: ArrayLike) -> Array:
    """Centre of gravity [..., 2] (px) of a block with body-origin pose [..., 3]."""
    return transform(pose, np.array([[0.0, CENTER_OF_GRAVITY_Y]]))[..., 0, :]
