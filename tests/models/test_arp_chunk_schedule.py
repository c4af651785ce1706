"""Schedules: chunk ranks, attention tables drawn by hand, clear refusals, and the text."""

import numpy as np
import pytest

from arp_jax.models.chunk_schedule import (
    ChunkSchedule,
    allowed_pairs,
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


def table(*rows: str) -> np.ndarray:
    """A mask drawn by hand: x sees, . does not; spaces and bars only help the eye."""
    return np.array([[c == "x" for c in row if c in "x."] for row in rows])


# Value rows, then query rows; value keys | query keys.
PROMPT_OF_TWO_CHUNKS = [
    "x.... | .....",
    "xx... | .....",
    "xxx.. | .....",
    "xxxx. | .....",
    "xxxxx | .....",
    "..... | xx...",
    "..... | xx...",
    "xx... | ..x..",
    "xxx.. | ...xx",
    "xxx.. | ...xx",
]
# Tokens state pixel pixel action action; an action never attends to a pixel, a pixel never to a
# state. Blocked pairs are gone from value rows and from both halves of query rows.
BLOCKED = [
    "x.... | .....",
    ".x... | .....",
    ".xx.. | .....",
    "x..x. | .....",
    "x..xx | .....",
    "..... | x....",
    "..... | .xx..",
    "..... | .xx..",
    "x.... | ...xx",
    "x.... | ...xx",
]


@pytest.mark.parametrize(
    ("chunks", "rows"),
    [
        ([0], ["x | .", ". | x"]),
        (
            [0, 1, 1, 2],
            [
                "x... | ....",
                "xx.. | ....",
                "xxx. | ....",
                "xxxx | ....",
                ".... | x...",
                "x... | .xx.",
                "x... | .xx.",
                "xxx. | ...x",
            ],
        ),
        ([0, 0], ["x. | ..", "xx | ..", ".. | xx", ".. | xx"]),
        ([0, 0, 1, 2, 2], PROMPT_OF_TWO_CHUNKS),
    ],
)
def test_two_stream_mask_tables(chunks: list[int], rows: list[str]) -> None:
    np.testing.assert_array_equal(two_stream_mask(chunks), table(*rows))
    schedule = ChunkSchedule((ACTION,) * len(chunks), tuple(chunks))
    np.testing.assert_array_equal(schedule_mask(schedule), table(*rows))


def test_schedule_mask_table_with_blocked_pairs() -> None:
    schedule = ChunkSchedule(
        (STATE, PIXEL, PIXEL, ACTION, ACTION),
        (0, 1, 1, 2, 2),
        blocked=((ACTION, PIXEL), (PIXEL, STATE)),
    )
    np.testing.assert_array_equal(schedule_mask(schedule), table(*BLOCKED))


@pytest.mark.parametrize(
    ("blocked", "rows"),
    [
        # Prompt of two tokens with a chunk each, one generated chunk before, two queries now.
        ((), ["x.....", "xx....", "xxx...", "xxxx..", "xxxxxx", "xxxxxx"]),
        (
            ((ACTION, PIXEL),),
            ["x.....", "xx....", "xxx...", "xxxx..", "xx..xx", "xx..xx"],
        ),
    ],
)
def test_generation_mask_tables(blocked: tuple, rows: list[str]) -> None:
    """Values 0..3 and queries 4, 5 of the last chunk: the square that a pass works with."""
    schedule = ChunkSchedule(
        (STATE, STATE, PIXEL, PIXEL, ACTION, ACTION), (0, 1, 2, 2, 3, 3), blocked
    )
    rows_of_pass = [0, 1, 2, 3, 6 + 4, 6 + 5]
    found = schedule_mask(schedule)[np.ix_(rows_of_pass, rows_of_pass)]
    np.testing.assert_array_equal(found, table(*rows))


def test_blocked_directions_reach_both_streams() -> None:
    schedule = ChunkSchedule((STATE, PIXEL, ACTION), (0, 1, 1), blocked=((ACTION, STATE),))
    mask = schedule_mask(schedule)
    free = two_stream_mask(schedule.chunk_ids)
    removed = np.argwhere(free & ~mask).tolist()
    assert removed == [[2, 0], [5, 0]]


def test_pairs_may_differ_between_rows_of_a_batch() -> None:
    ids = np.array([[STATE, PIXEL], [PIXEL, STATE]])
    found = allowed_pairs(ids, [(PIXEL, STATE)])
    expected = [table("xx", ".x"), table("x.", "xx")]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("token_ids", "chunk_ids", "message"),
    [
        ((), (), "empty"),
        ((0, 1), (0,), "2 token_ids, 1 chunk_ids"),
        ((0, 1), (1, 2), "position 0 has chunk id 1 at the start; .* start at 0"),
        ((0, 1), (0, 2), "rise by 1"),
        ((0, 1), (0, 2), "position 1 has chunk id 2 after 0"),
        ((0, 1, 1), (0, 1, 0), "position 2 has chunk id 0 after 1; .* rise by 1"),
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
