"""Gripper commands of public datasets as one convention: 1 opens, 0 closes, held until changed.

In: a stored command per step. Out: the absolute command per step, float32 in [0, 1]. Nothing is
made binary here unless the source only knows open and closed.
"""

import numpy as np

# Relative commands below this size hold: teleoperation leaves noise around zero. The smallest
# deliberate command of the sources is 1.
DEAD_BAND = 0.1


def absolute_gripper(command: np.ndarray, start: float | None = None) -> np.ndarray:
    """What relative commands amount to: +1 closes, -1 opens, 0 leaves the gripper as it is.

    Args:
        command: [T] (Open-X `gripper_closedness_action`).
        start: state before the first command, 1 open or 0 closed. None infers it: a demonstrator
            does not open an open gripper, so the first command changed the state; without any
            command the gripper is taken to be open.

    Returns:
        float32 [T], 1 open, 0 closed.
    """
    command = np.asarray(command, np.float32)
    moves = np.abs(command) > DEAD_BAND  # [T]
    opens = (command < 0).astype(np.float32)  # [T], meant where it moves
    if start is None:
        start = 1.0 - float(opens[np.argmax(moves)]) if moves.any() else 1.0
    steps = np.arange(len(command))
    latest = np.maximum.accumulate(np.where(moves, steps, -1))  # [T], -1: none yet
    return np.where(latest < 0, np.float32(start), opens[latest])


def open_from_closed(closed: np.ndarray) -> np.ndarray:
    """An absolute command with 1 = close as one with 1 = open: float32 [T].

    Values at or below 0 (some sources store -1) open.
    """
    return 1.0 - np.clip(np.asarray(closed, np.float32), 0.0, 1.0)


def open_from_sign(sign: np.ndarray) -> np.ndarray:
    """An absolute command with +1 = open and -1 = close as one in [0, 1]: float32 [T]."""
    return (np.clip(np.asarray(sign, np.float32), -1.0, 1.0) + 1.0) / 2.0
