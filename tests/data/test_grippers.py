"""Gripper commands of all conventions as 1 = open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arp_jax.data.grippers import absolute_gripper, open_from_closed, open_from_sign


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([0, 0, 0], [1, 1, 1]),
        ([0, 1, 0, 0, -1, 0], [1, 0, 0, 0, 1, 1]),
        ([0, -1, 0, 1], [0, 1, 1, 0]),
        ([1, 0, 1, 0], [0, 0, 0, 0]),
        ([0.1, -0.1, 0.2], [1, 1, 0]),
        ([], []),
    ],
)
def test_relative_commands_add_up_by_hand(command, expected):
    absolute = absolute_gripper(np.array(command, np.float32))
    assert absolute.dtype == np.float32
    np.testing.assert_array_equal(absolute, expected)


def test_a_known_start_wins_over_the_inferred_one():
    np.testing.assert_array_equal(absolute_gripper(np.array([0, 1, 0]), start=0.0), [0, 0, 0])
    np.testing.assert_array_equal(absolute_gripper(np.zeros(2), start=0.0), [0, 0])


@given(st.lists(st.sampled_from([-1.0, -0.05, 0.0, 0.05, 1.0]), min_size=1, max_size=30))
def test_it_is_the_loop_that_a_gripper_runs(commands):
    moves = [c for c in commands if abs(c) == 1.0]
    state = (1.0 if moves[0] > 0 else 0.0) if moves else 1.0
    expected = []
    for command in commands:
        state = state if abs(command) < 1 else float(command < 0)
        expected.append(state)
    np.testing.assert_array_equal(absolute_gripper(np.array(commands)), expected)


def test_absolute_conventions():
    np.testing.assert_array_equal(
        open_from_closed(np.array([1.0, 0.0, -1.0, 0.25])), [0, 1, 1, 0.75]
    )
    np.testing.assert_array_equal(open_from_sign(np.array([1.0, -1.0, 0.0, 3.0])), [1, 0, 0.5, 1])
