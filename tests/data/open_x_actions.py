"""Raw action fields of each public dataset and what they mean, worked out by hand.

Every entry: the dataset, raw fields of three steps, and the canonical action of these steps as the
dataset's documents (named on its card) define it. The numbers are written down, not computed.
"""

from typing import Any

DELTAS = {
    "action/world_vector": [[0.01, -0.02, 0.03], [0, 0, 0], [0.005, 0, -0.01]],
    "action/rotation_delta": [[0.1, -0.2, 0.05], [0, 0, 0.02], [0, 0, 0]],
}
X = [[0.01, -0.02, 0.03, 0.1, -0.2, 0.05], [0, 0, 0, 0, 0, 0.02], [0.005, 0, -0.01, 0, 0, 0]]


def with_gripper(*values: float) -> list[list[float]]:
    """The motions of `DELTAS` and these gripper commands."""
    return [[*motion, value] for motion, value in zip(X, values, strict=True)]


HAND: dict[str, tuple[dict[str, Any], list[list[float]]]] = {
    # Relative: nothing yet (so it was open), then it closes and holds.
    "fractal20220817_data": (
        {**DELTAS, "action/gripper_closedness_action": [[0.0], [1.0], [0.0]]},
        with_gripper(1, 0, 0),
    ),
    "bridge": ({**DELTAS, "action/open_gripper": [True, True, False]}, with_gripper(1, 1, 0)),
    # Flat and continuous, 1 is open: kept as it is.
    "bridge_dataset": (
        {"action": [[*X[0], 1.0], [*X[1], 0.37], [*X[2], 0.0]]},
        with_gripper(1, 0.37, 0),
    ),
    # Relative: the first command opens, so it was closed before; 0.05 is noise.
    "kuka": (
        {**DELTAS, "action/gripper_closedness_action": [[0.05], [-1.0], [-0.02]]},
        with_gripper(0, 1, 1),
    ),
    # 50 is one metre, 20 one radian; 1 is open, -1 closed.
    "taco_play": (
        {
            "action/rel_actions_world": [
                [0.5, -1.0, 0.25, 0.4, -0.2, 1.0, 1.0],
                [0, 0, 0, 0, 0, 0, -1.0],
                [1.0, 0, 0, 0, 0, -2.0, -1.0],
            ]
        },
        [
            [0.01, -0.02, 0.005, 0.02, -0.01, 0.05, 1],
            [0, 0, 0, 0, 0, 0, 0],
            [0.02, 0, 0, 0, 0, -0.1, 0],
        ],
    ),
    "jaco_play": (
        {
            "action/world_vector": [[0.2, 0.0, -0.1], [0, 0.05, 0], [0, 0, 0]],
            "action/gripper_closedness_action": [[1.0], [0.0], [-1.0]],
        },
        [[0.2, 0, -0.1, 0, 0, 0, 0], [0, 0.05, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]],
    ),
    "berkeley_cable_routing": (dict(DELTAS), with_gripper(0, 0, 0)),
    # Absolute closedness: -1 and 0 are open.
    "roboturk": (
        {**DELTAS, "action/gripper_closedness_action": [[-1.0], [1.0], [0.0]]},
        with_gripper(1, 0, 1),
    ),
    "nyu_door_opening_surprising_effectiveness": (
        {**DELTAS, "action/gripper_closedness_action": [[0.0], [1.0], [0.0]]},
        with_gripper(1, 0, 0),
    ),
    "viola": (
        {**DELTAS, "action/gripper_closedness_action": [1.0, 1.0, -1.0]},
        with_gripper(0, 0, 1),
    ),
    # Relative; robot_state says that the gripper is closed at the start (13th of 15 numbers).
    "berkeley_autolab_ur5": (
        {
            **DELTAS,
            "action/gripper_closedness_action": [0.0, -1.0, 0.0],
            "observation/robot_state": [[0.0] * 13 + [1.0, 0.0]] * 3,
        },
        with_gripper(0, 1, 1),
    ),
    # A pose 0.4 m in front of the base, not a step of 0.4 m.
    "toto": (
        {
            "action/world_vector": [[0.4, 0.01, 0.36], [0.41, 0.01, 0.36], [0.42, 0.01, 0.35]],
            "action/rotation_delta": [[-0.7, 0.2, 0.03], [-0.7, 0.2, 0.03], [-0.6, 0.2, 0.03]],
            "action/open_gripper": [False, False, False],
        },
        [
            [0.4, 0.01, 0.36, -0.7, 0.2, 0.03, 0],
            [0.41, 0.01, 0.36, -0.7, 0.2, 0.03, 0],
            [0.42, 0.01, 0.35, -0.6, 0.2, 0.03, 0],
        ],
    ),
    "language_table": (
        {"action": [[0.01, -0.03], [0.0, 0.02], [0.0, 0.0]]},
        [[0.01, -0.03], [0.0, 0.02], [0.0, 0.0]],
    ),
    # "close gripper": 1 closes.
    "stanford_hydra": (
        {"action": [[*X[0], 0.0], [*X[1], 1.0], [*X[2], 1.0]]},
        with_gripper(1, 0, 0),
    ),
    "austin_buds": (
        {"action": [[*X[0], -1.0], [*X[1], 1.0], [*X[2], -1.0]]},
        with_gripper(1, 0, 1),
    ),
    # Joints first, then the end effector; -1 closes, 1 opens; a yaw of 3.1 became -3.1: 0.0832 on.
    "nyu_franka_play": (
        {
            "action": [
                [9, 9, 9, 9, 9, 9, 9, 0.01, 0.02, -0.03, 0.1, 0, -6.2, 1.0, 0.0],
                [9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, -1.0, 0.0],
                [9, 9, 9, 9, 9, 9, 9, 0, 0.05, 0, 6.2, 0, 0.3, -1.0, 1.0],
            ]
        },
        [
            [0.01, 0.02, -0.03, 0.1, 0, 0.0831853, 1],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0.05, 0, -0.0831853, 0, 0.3, 0],
        ],
    ),
    "utaustin_mutex": (
        {"action": [[*X[0], 1.0], [*X[1], 1.0], [*X[2], -1.0]]},
        with_gripper(0, 0, 1),
    ),
    # 0 opens, 1 closes.
    "fmb": ({"action": [[*X[0], 0.0], [*X[1], 1.0], [*X[2], 0.0]]}, with_gripper(1, 0, 1)),
    # Commanded pose; 0 is open, 1 closed, with everything between.
    "droid": (
        {
            "action_dict/cartesian_position": [
                [0.5, 0.1, 0.3, 3.1, 0.0, -0.2],
                [0.5, 0.1, 0.29, 3.1, 0.0, -0.2],
                [0.51, 0.1, 0.28, 3.1, 0.01, -0.2],
            ],
            "action_dict/gripper_position": [[0.0], [0.25], [1.0]],
        },
        [
            [0.5, 0.1, 0.3, 3.1, 0, -0.2, 1],
            [0.5, 0.1, 0.29, 3.1, 0, -0.2, 0.75],
            [0.51, 0.1, 0.28, 3.1, 0.01, -0.2, 0],
        ],
    ),
}
