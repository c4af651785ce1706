"""Which frames of a recorded manipulation are keyframes: where the hand changed or came to rest.

Flows in: the gripper state and the joint velocities of one demonstration. Flows out: the indices
of its keyframes. Keyframe policies learn to jump from one to the next (James and Davison 2022,
Q-attention, section on keyframe discovery; ARP on RLBench). Not here: reading demonstrations.
"""

import numpy as np

STOPPED_SPEED = 0.1
# After a stop, this many frames pass before the hand can stop again: one rest, one keyframe.
REST_FRAMES = 4


def find_keyframes(
    gripper_open: np.ndarray, joint_velocities: np.ndarray, stopped_speed: float = STOPPED_SPEED
) -> tuple[int, ...]:
    """Indices of the keyframes of one demonstration, ascending; frame 0 is never one.

    A frame is a keyframe if the gripper state differs from the frame before, if the hand has
    stopped, or if it is the last. If the last two are neighbours, the earlier is dropped.

    Args:
        gripper_open: [T] state of the gripper; only equality of frames matters.
        joint_velocities: [T, J] in rad/s.
        stopped_speed: the hand may be at rest if no joint is faster than this, in rad/s.

    Raises:
        ValueError: the shapes do not belong to one demonstration of at least one frame.
    """
    gripper, velocities = np.asarray(gripper_open), np.asarray(joint_velocities)
    if gripper.ndim != 1 or velocities.ndim != 2 or len(gripper) != len(velocities):
        raise ValueError(
            "find_keyframes: expected gripper_open [T] and joint_velocities [T, J], found "
            f"{gripper.shape} and {velocities.shape}"
        )
    if not len(gripper):
        raise ValueError("find_keyframes: gripper_open is empty; give at least one frame")
    changed = gripper[1:] != gripper[:-1]
    rests = _may_rest(gripper, velocities, stopped_speed)
    found, wait = [], 0
    for i in range(len(gripper)):
        stopped = rests[i] and wait <= 0
        wait = REST_FRAMES if stopped else wait - 1
        if i and (changed[i - 1] or stopped or i == len(gripper) - 1):
            found.append(i)
    if len(found) > 1 and found[-1] - found[-2] == 1:
        found.pop(-2)
    return tuple(found)


def _may_rest(gripper: np.ndarray, velocities: np.ndarray, stopped_speed: float) -> np.ndarray:
    """[T] bool: slow, and the gripper equal in frames i-2 .. i+1; never the last two frames.

    Frames 0 and 1 compare with the demonstration's end, because -1 and -2 are read as Python
    indices there; published keyframes depend on it.
    """
    slow = (np.abs(velocities) <= stopped_speed).all(axis=1)
    steady = np.ones(len(gripper), bool)
    for shift in (-1, 1, 2):  # np.roll wraps around exactly as negative indices do
        steady &= np.roll(gripper, shift) == gripper
    steady[-2:] = False  # frame i+1 of the last one would wrap, too
    return slow & steady
