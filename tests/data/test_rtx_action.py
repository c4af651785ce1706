"""The shared action of RT-1-X: every row of the training notebook's table, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.rtx_action import DIMS, rtx_action
from arp_jax.data.standardize import standardize
from arp_jax.data.synthetic import synthetic_raw_episode

# Two steps: one that moves, the last one of the episode at rest.
MOVES = {
    "world_vector": np.array([[0.02, -0.01, 0.3], [0, 0, 0]], np.float32),
    "rotation_delta": np.array([[0.1, -0.05, 0.3], [0, 0, 0]], np.float32),
    "terminate_episode": np.array([0, 1], np.float32),
}
CLOSES = {"gripper_closedness_action": np.array([[1.0], [0.0]], np.float32)}
SCALAR = {"gripper_closedness_action": np.array([1.0, -1.0], np.float32)}
END: list[float] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]

TABLE: list[tuple[str, Any, list[float], list[float]]] = [
    # name, action, the two rows: terminate, world, rotation, gripper, base
    (
        "bridge",
        {**MOVES, "open_gripper": np.array([True, False])},
        # 0.02 of 0.05 is 0.4 of 1.75; 0.3 is out of range: 1.74. 0.1 of 0.25 is 0.4 of 1.4.
        [1, 0.7, -0.35, 1.74, 0.56, -0.28, 1.39, -1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ),
    (
        "berkeley_cable_routing",
        MOVES,
        [1, 0.02, -0.01, 0.3, 0.1, -0.05, 0.3, 0, 0, 0, 0],
        END,
    ),
    (
        "roboturk",
        {**MOVES, **CLOSES},
        [1, 0.02, -0.01, 0.3, 0.1, -0.05, 0.3, 1, 0, 0, 0],
        END,
    ),
    (
        "nyu_door_opening_surprising_effectiveness",
        {**MOVES, **CLOSES},
        [1, 0.4, -0.2, 6.0, 1.5, -0.75, 4.5, 1, 0, 0, 0],
        END,
    ),
    (
        "viola",
        {**MOVES, **SCALAR},
        [1, 0.035, -0.0175, 0.525, 0.3, -0.15, 0.9, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0],
    ),
    (
        "berkeley_autolab_ur5",
        {**MOVES, **SCALAR},
        [1, 2, -1, 30, 1.5, -0.75, 4.5, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0],
    ),
    (
        "toto",
        {**MOVES, "open_gripper": np.array([True, False])},
        [1, 0.04, -0.02, 0.6, 0.1, -0.05, 0.3, 1, 0, 0, 0],
        END,
    ),
    (
        "jaco_play",
        {
            # The mean, and the mean plus one standard deviation in z.
            "world_vector": np.array(
                [
                    [0.00096585, -0.00580069, 0.10760143],
                    [0.00096585, -0.00580069, -0.00395066],
                ],
                np.float32,
            ),
            "terminate_episode": np.array([[0, 1, 0], [1, 0, 0]], np.int32),
            **CLOSES,
        },
        [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
        END,
    ),
    (
        "language_table",
        np.array([[0.01, -0.03], [0, 0]], np.float32),
        [1, 0.01, -0.03, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
]
TACO = {
    "actions": np.array(
        [[0.4, 0.1, 0.3, 0.0, -0.3, 0.35, 1.0], [0.8, -0.5, 0.15, 1.6, 0.2, -1.8, -1.0]],
        np.float32,
    ),
    "terminate_episode": np.array([0, 1], np.float32),
}


@pytest.mark.parametrize(("name", "action", "first", "last"), TABLE, ids=[row[0] for row in TABLE])
def test_rows_of_the_table(name, action, first, last):
    result = rtx_action(name, {"action": action})
    assert (result.dtype, result.shape) == (np.float32, (2, len(DIMS)))
    np.testing.assert_allclose(result, [first, last], atol=1e-6)


@pytest.mark.parametrize("name", ["fractal20220817_data", "kuka"])
def test_google_robots_keep_all_fields(name):
    action = {
        **MOVES,
        **CLOSES,
        "base_displacement_vertical_rotation": np.array([[0.7], [0]], np.float32),
        "base_displacement_vector": np.array([[0.1, -0.2], [0, 0]], np.float32),
        "terminate_episode": np.array([[0, 0, 1], [1, 0, 0]], np.int32),
    }
    first = [2, 0.02, -0.01, 0.3, 0.1, -0.05, 0.3, 1, 0.7, 0.1, -0.2]
    np.testing.assert_allclose(rtx_action(name, {"action": action}), [first, END], atol=1e-6)


def test_zero_padding_does_not_end_the_episode():
    action = {**TABLE[7][1], "terminate_episode": np.zeros((2, 3), np.int32)}
    np.testing.assert_array_equal(rtx_action("jaco_play", {"action": action})[:, 0], [1, 1])


def test_taco_play_uses_its_own_bounds():
    # Middles of the bounds become 0, their ends the margin 0.99.
    expected: list[list[float]] = [
        [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0.99, -0.99, -0.5, 0.5, 0.99, -0.99, -1, 0, 0, 0],
    ]
    np.testing.assert_allclose(rtx_action("taco_play", {"action": TACO}), expected, atol=1e-6)


def test_taco_play_as_published_clips_nearly_everything():
    expected: list[list[float]] = [
        [1, 1.74, 1.74, 1.74, 0, -1.39, 1.39, 1, 0, 0, 0],
        [0, 1.74, -1.74, 1.74, 1.39, 1.12, -1.39, -1, 0, 0, 0],
    ]
    published = rtx_action("taco_play", {"action": TACO}, as_published=True)
    np.testing.assert_allclose(published, expected, atol=1e-6)


def test_the_slip_is_taco_plays_alone():
    name, action, first, last = TABLE[4]
    np.testing.assert_allclose(
        rtx_action(name, {"action": action}, as_published=True), [first, last], atol=1e-6
    )


def test_errors_name_the_dataset():
    with pytest.raises(ValueError, match="'droid': RT-1-X has no rule"):
        rtx_action("droid", {"action": MOVES})
    with pytest.raises(ValueError, match="viola: field 'gripper_closedness_action' is missing"):
        rtx_action("viola", {"action": MOVES})
    with pytest.raises(ValueError, match="viola: field 'action' is missing"):
        rtx_action("viola", {})


def test_card_with_the_actions_of_rtx():
    card = load_card("viola:rtx")
    assert card.specs.action.dims == DIMS
    raw = synthetic_raw_episode(card, length=5, seed=0)
    episode = standardize(raw, card)
    np.testing.assert_array_equal(episode["action"], rtx_action("viola", raw))
    assert card.specs.observation == load_card("viola").specs.observation
    with pytest.raises(ValueError, match=r"card viola:rlds: no action space 'rlds'"):
        load_card("viola:rlds")
    with pytest.raises(ValueError, match=r"dataset 'droid': RT-1-X has no rule"):
        load_card("droid:rtx")
