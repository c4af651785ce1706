"""Schedules: chunk ranks, golden attention tables, clear refusals, and the drawing."""

import numpy as np
import pytest

from arp_jax.models.chunk_schedule import (
    ChunkSchedule,
    describe,
    relative_index,
    schedule_mask,
    two_stream_mask,
)
from tests.models.small_arp import ACTION, CONFIG, GRIP, PIXEL, STATE


@pytest.mark.parametrize(
    ("chunks", "ranks"),
    [([0, 0, 0, 1, 2, 2], [0, 1, 2, 0, 0, 1]), ([0], [0]), ([0, 1, 2], [0, 0, 0])],
)
def test_relative_index(chunks: list[int], ranks: list[int]) -> None:
    assert relative_index(chunks).tolist() == ranks


def test_two_stream_mask_table() -> None:
    table = [
        # value keys | query keys
        "x... | ....",
        "xx.. | ....",
        "xxx. | ....",
        "xxxx | ....",
        ".... | x...",
        "x... | .xx.",
        "x... | .xx.",
        "xxx. | ...x",
    ]
    expected = np.array([[c == "x" for c in row if c in "x."] for row in table])
    np.testing.assert_array_equal(two_stream_mask([0, 1, 1, 2]), expected)


def test_blocked_directions_reach_both_streams() -> None:
    schedule = ChunkSchedule((STATE, PIXEL, ACTION), (0, 1, 1), blocked=((ACTION, STATE),))
    mask = schedule_mask(schedule)
    free = two_stream_mask(schedule.chunk_ids)
    removed = np.argwhere(free & ~mask).tolist()
    assert removed == [[2, 0], [5, 0]]


@pytest.mark.parametrize(
    ("token_ids", "chunk_ids", "message"),
    [
        ((), (), "empty"),
        ((0, 1), (0,), "2 token_ids, 1 chunk_ids"),
        ((0, 1), (1, 2), "start at 0"),
        ((0, 1), (0, 2), "rise by 1"),
        ((0, 1, 1), (0, 1, 0), "rise by 1"),
    ],
)
def test_impossible_schedules_are_refused(token_ids, chunk_ids, message) -> None:
    with pytest.raises(ValueError, match=message):
        ChunkSchedule(token_ids, chunk_ids)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (ChunkSchedule((9,), (0,)), "token ids must lie in 0..4"),
        (ChunkSchedule((0,) * 17, tuple(range(17))), "exceed max_seq_len 16"),
        (ChunkSchedule((3,) * 7, (0,) * 7), "chunk of 7 tokens exceeds max_chunk_size 6"),
        (ChunkSchedule((0,), (0,), layer_match="z"), "selects none"),
    ],
)
def test_schedules_that_do_not_fit_a_model_are_refused(schedule, message) -> None:
    with pytest.raises(ValueError, match=message):
        schedule.check(CONFIG)


def test_describe_draws_the_mask() -> None:
    schedule = ChunkSchedule((STATE, PIXEL, GRIP), (0, 1, 1), ((GRIP, STATE),), "self")
    text = describe(schedule, CONFIG)
    assert "state (given)" in text
    assert "pixel (predicted by upsample_from_2d_attn)" in text
    assert "grip never attends to state" in text
    assert "layers run: [2]" in text
    assert "q1   x.. .xx" in text
    assert "q2   ... .xx" in text
