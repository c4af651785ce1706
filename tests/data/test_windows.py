"""Hand-written tables of windows; the published Push-T count; properties of every table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.windows import window_table


def all_ids(table):
    return np.arange(len(table))


def test_golden_two_episodes():
    # Episodes of 4 and 2 steps: absolute steps 0 1 2 3 | 4 5. W=2, H=3, chunk starts at t-1.
    table = window_table([4, 2], window=2, horizon=3, action_offset=-1)
    ids = all_ids(table)
    assert table.episode.tolist() == [0, 0, 0, 0, 1, 1]
    assert table.step.tolist() == [0, 1, 2, 3, 0, 1]
    assert table.observation_steps(ids).tolist() == [
        [0, 0], [0, 1], [1, 2], [2, 3], [4, 4], [4, 5],
    ]  # fmt: skip
    assert table.observation_is_pad(ids).astype(int).tolist() == [
        [1, 0], [0, 0], [0, 0], [0, 0], [1, 0], [0, 0],
    ]  # fmt: skip
    assert table.action_steps(ids).tolist() == [
        [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3], [4, 4, 5], [4, 5, 5],
    ]  # fmt: skip
    assert table.action_is_pad(ids).astype(int).tolist() == [
        [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1],
    ]  # fmt: skip


def test_golden_published_push_t():
    # Published ARP: an episode of L steps gives L-7 examples, t = 0 .. L-8.
    table = window_table([10], window=2, horizon=16, action_offset=-1, pad_after=7)
    ids = all_ids(table)
    assert table.step.tolist() == [0, 1, 2]
    assert table.action_steps(ids).tolist() == [
        [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9],
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9],
    ]
    assert table.action_is_pad(ids).sum(axis=1).tolist() == [1 + 5, 6, 7]


@pytest.mark.parametrize("length", [8, 9, 16, 17, 49, 246])
def test_published_count(length):
    table = window_table([length, 8, length], 2, 16, action_offset=-1, pad_after=7)
    counts = np.bincount(table.episode, minlength=3).tolist()
    assert counts == [length - 7, 1, length - 7]
    assert table.step[table.episode == 2].max() == length - 8


def test_golden_episode_shorter_than_horizon():
    table = window_table([1, 3], window=3, horizon=5, action_offset=-2)
    ids = all_ids(table)
    assert table.episode.tolist() == [0, 1, 1, 1]
    assert table.observation_steps(ids).tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 2], [1, 2, 3]]
    assert table.action_steps(ids).tolist() == [
        [0, 0, 0, 0, 0], [1, 1, 1, 2, 3], [1, 1, 2, 3, 3], [1, 2, 3, 3, 3],
    ]  # fmt: skip
    assert table.action_is_pad(ids).astype(int).tolist() == [
        [1, 1, 0, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 1, 1],
    ]  # fmt: skip


def test_no_padding_after_skips_short_episodes():
    table = window_table([3, 5], window=1, horizon=4, pad_after=0)
    assert table.episode.tolist() == [1, 1]
    assert not table.action_is_pad(all_ids(table)).any()


# Episode of 6 steps, t = 3, W = 2, H = 3: the action of slot w, index h belongs to time
# t - W + 1 + w + h. Written by hand; rows are the slots, columns the indices.
CHUNK_TIMES = [[2, 3, 4], [3, 4, 5]]
PAST_GOAL_4 = [[0, 0, 1], [0, 1, 1]]
PAST_GOAL_5 = [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("slot", [0, 1])
def test_golden_past_goal_of_every_slot(slot):
    """Octo's chunk_act_obs counts time as t - (W + 1) + w + h: it would flag none of these."""
    table = window_table([6], window=2, horizon=3, action_offset=slot - 1)
    ids = np.array([3])
    assert table.action_steps(ids).tolist() == [CHUNK_TIMES[slot]]
    for goal, expected in ((4, PAST_GOAL_4), (5, PAST_GOAL_5)):
        mask = table.action_is_past_goal(ids, np.array([goal]))
        assert mask.astype(int).tolist() == [expected[slot]]


def test_golden_past_goal_at_the_edges():
    # Episodes 0 1 2 3 | 4 5, H = 4 from t-1. Time goes on behind the end, before the start it is
    # earlier than any goal; padding is flagged on its own.
    table = window_table([4, 2], window=2, horizon=4, action_offset=-1)
    ids = np.array([0, 2, 3, 4, 5])
    assert table.current_steps(ids).tolist() == [0, 2, 3, 4, 5]
    mask = table.action_is_past_goal(ids, np.array([1, 3, 3, 5, 5]))
    assert mask.astype(int).tolist() == [
        [0, 0, 1, 1],  # times -1 0 1 2, goal 1
        [0, 0, 1, 1],  # times 1 2 3 4, goal 3
        [0, 1, 1, 1],  # times 2 3 4 5: the last step is its own goal
        [0, 0, 1, 1],
        [0, 1, 1, 1],
    ]
    assert table.action_is_pad(ids).astype(int).tolist() == [
        [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1],
    ]  # fmt: skip


def test_golden_stride():
    # Starts 0 2 4 | 5 7: every second step, counted anew in each episode.
    table = window_table([5, 3], window=2, horizon=2, stride=2)
    ids = all_ids(table)
    assert table.current_steps(ids).tolist() == [0, 2, 4, 5, 7]
    assert table.step.tolist() == [0, 2, 4, 0, 2]
    assert table.observation_steps(ids).tolist() == [[0, 0], [1, 2], [3, 4], [5, 5], [6, 7]]
    assert table.action_steps(ids).tolist() == [[0, 1], [2, 3], [4, 4], [5, 6], [7, 7]]
    # With no padding behind the end, starts are 0 .. 3 and 0 .. 1 of which 0 2 and 0 are left.
    short = window_table([5, 3], window=2, horizon=2, pad_after=0, stride=2)
    assert short.current_steps(all_ids(short)).tolist() == [0, 2, 5]
    assert len(window_table([5, 3], window=1, horizon=1, stride=100)) == 2


def test_subset_keeps_absolute_indices():
    table = window_table([4, 2, 3], 1, 2, episodes=[2, 0])
    assert table.episode.tolist() == [2, 2, 2, 0, 0, 0, 0]
    assert table.observation_steps(all_ids(table))[:, 0].tolist() == [6, 7, 8, 0, 1, 2, 3]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    window=st.integers(1, 4),
    horizon=st.integers(1, 9),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_properties(lengths, window, horizon, data):
    offset = -data.draw(st.integers(0, horizon - 1))
    table = window_table(lengths, window, horizon, offset)
    ids = all_ids(table)
    assert len(table) == sum(lengths)  # by default every step is a start
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    for steps in (table.observation_steps(ids), table.action_steps(ids)):
        owner = np.searchsorted(bounds, steps, side="right") - 1
        assert (owner == table.episode[:, None]).all()  # never a step of another episode
    current = bounds[table.episode] + table.step
    assert (table.observation_steps(ids)[:, -1] == current).all()
    assert not table.observation_is_pad(ids)[:, -1].any()
    # The action of the current step sits at index -offset and is real.
    assert (table.action_steps(ids)[:, -offset] == current).all()
    assert not table.action_is_pad(ids)[:, -offset].any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"episode_lengths": []}, "no episodes"),
        ({"episode_lengths": [3, 0]}, "episode 1 has no steps"),
        ({"window": 0}, "window, horizon and stride"),
        ({"stride": 0}, "window, horizon and stride"),
        ({"action_offset": 1}, "action_offset"),
        ({"action_offset": -4}, "action_offset"),
        ({"pad_after": 4}, "pad_after"),
        ({"pad_after": 0, "episode_lengths": [3]}, "longest has 3 steps"),
        ({"episodes": [0, 2]}, "episode 2 does not exist"),
        ({"episodes": []}, "episodes is empty"),
    ],
)
def test_errors(kwargs, message):
    arguments = {"episode_lengths": [3, 5], "window": 2, "horizon": 4} | kwargs
    with pytest.raises(ValueError, match=message):
        window_table(**arguments)
