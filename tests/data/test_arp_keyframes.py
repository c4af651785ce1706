"""The keyframe rule on cases worked out by hand."""

import numpy as np
import pytest

from arp_jax.data.keyframes import find_keyframes

FAST, SLOW = 1.0, 0.05


def _speeds(frames: int, slow: tuple[int, ...]) -> np.ndarray:
    speeds = np.full((frames, 2), FAST)
    speeds[list(slow)] = SLOW
    return speeds


def test_change_of_the_gripper_and_the_last_frame() -> None:
    gripper = np.array([1, 1, 1, 0, 0, 0, 0, 1, 1, 1])
    assert find_keyframes(gripper, _speeds(10, ())) == (3, 7, 9)


def test_a_rest_counts_once_and_again_after_five_frames() -> None:
    # 3 stops and sets the counter to 4; it is 0 after frame 7, so 8 stops again.
    assert find_keyframes(np.ones(14), _speeds(14, tuple(range(3, 11)))) == (3, 8, 13)


def test_speed_at_the_limit_is_rest() -> None:
    speeds = _speeds(8, ())
    speeds[4] = [0.1, -0.1]
    assert find_keyframes(np.ones(8), speeds) == (4, 7)
    assert find_keyframes(np.ones(8), speeds, stopped_speed=0.09) == (7,)


def test_no_rest_near_a_change_of_the_gripper() -> None:
    # Frames 3 .. 5 see the change between 3 and 4 within i-2 .. i+1; 6 does not.
    gripper = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert find_keyframes(gripper, _speeds(10, (3, 5))) == (4, 9)
    assert find_keyframes(gripper, _speeds(10, (6,))) == (4, 6, 9)


def test_first_frames_compare_with_the_end() -> None:
    speeds = _speeds(9, (1,))
    assert find_keyframes(np.ones(9), speeds) == (1, 8)
    ends_otherwise = np.r_[np.ones(8), 0]
    assert find_keyframes(ends_otherwise, speeds) == (8,)
    # A stop of frame 0 is no keyframe, but starts the counter.
    assert find_keyframes(np.ones(9), _speeds(9, (0, 1, 2))) == (8,)


def test_last_two_frames_never_rest_and_neighbours_merge() -> None:
    assert find_keyframes(np.ones(8), _speeds(8, (6, 7))) == (7,)
    gripper = np.array([1, 1, 1, 1, 1, 1, 0, 0])
    assert find_keyframes(gripper, _speeds(8, ())) == (7,)


def test_one_frame_has_no_keyframe() -> None:
    assert find_keyframes(np.ones(1), _speeds(1, ())) == ()


@pytest.mark.parametrize(
    ("gripper", "velocities"), [(np.ones(3), np.ones((4, 7))), (np.ones(3), np.ones(3))]
)
def test_shapes_must_fit(gripper: np.ndarray, velocities: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"gripper_open \[T\] and joint_velocities \[T, J\]"):
        find_keyframes(gripper, velocities)
