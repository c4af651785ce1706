"""The 11 numbers that RT-1-X predicts, from the raw episodes of its training sets.

In: a dataset's name and a raw episode (`RldsDataset.episodes`). Out: float32 [T, 11] in the order
of RT-1's action tokens, each set brought to one range as the RT-1-X training notebook does. These
scales are that model's convention, not physics; units and signs of the sources are in
`standardize.py` and on the cards.
"""

from collections.abc import Callable, Mapping

import numpy as np

from arp_jax.data.rlds import Episode
from arp_jax.specs import ActionSpec

DIMS = (
    "terminate",  # class: 0 ends the episode, 1 moves arm and gripper, 2 moves the base
    "world_x",
    "world_y",
    "world_z",
    "roll",
    "pitch",
    "yaw",
    "gripper",  # +1 closes, -1 opens
    "base_rotation",
    "base_x",
    "base_y",
)
TERMINATE, MOVE_ARM = 0.0, 1.0
# Ranges that the model's tokens span (Open X-Embodiment 2023, released RT-1-X).
_RANGES = (
    (0.0, 2.0),
    *[(-2.0, 2.0)] * 3,
    *[(-float(np.pi / 2), float(np.pi / 2))] * 3,
    (-1.0, 1.0),
    (-float(np.pi), float(np.pi)),
    *[(-1.0, 1.0)] * 2,
)
# Name of this action space, and of its unit: no metres, no radians.
RTX = "rtx"

# taco_play: absolute poses, their bounds and the part of [-1, 1] that is used.
_TACO_ROTATION = ((-3.2, -0.8, -1.8), (3.2, 0.2, 2.5))
_TACO_WORLD = ((0.0, -0.5, 0.0), (0.8, 0.7, 0.6))
_MARGIN = 0.01
# jaco_play: mean and standard deviation of world_vector over the set.
_JACO_MEAN = np.array((0.00096585, -0.00580069, -0.00395066), np.float32)
_JACO_STD = np.array((0.12234575, 0.09676983, 0.11155209), np.float32)

_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]  # world [T, 3], rotation [T, 3], gripper [T]


def rtx_action(name: str, episode: Episode, as_published: bool = False) -> np.ndarray:
    """The shared RT-1-X action of every step.

    Args:
        name: of the dataset, as on its card.
        episode: raw; only its `action` is read.
        as_published: True repeats the notebook's slip in taco_play, which scales absolute poses by
            bridge's bounds so that nearly all of them are clipped; False uses the bounds that
            stand there unused.

    Returns:
        float32 [T, 11], columns `DIMS`.

    Raises:
        ValueError: RT-1-X has no rule for the dataset, or the episode lacks a field.
    """
    check_rule(name)
    rule = _taco_play_as_published if as_published and name == "taco_play" else _RULES[name]
    try:
        action = episode["action"]
        world, rotation, gripper = rule(action)
        steps = len(world)
        terminate, base = np.full(steps, MOVE_ARM, np.float32), np.zeros((steps, 3), np.float32)
        if name in _GOOGLE_ROBOTS:
            base[:, :1] = action["base_displacement_vertical_rotation"]
            base[:, 1:] = action["base_displacement_vector"]
        if name != "language_table":
            terminate = _terminate(np.asarray(action["terminate_episode"]))
    except KeyError as error:
        raise ValueError(f"{name}: field {error} is missing in the episode") from error
    columns = (terminate[:, None], world, rotation, gripper[:, None], base)
    return np.concatenate(columns, axis=1).astype(np.float32)


def rtx_spec(name: str, rate_hz: float) -> ActionSpec:
    """What the numbers of `rtx_action` mean.

    Args:
        name: of the dataset, as on its card.
        rate_hz: its control rate.

    Raises:
        ValueError: RT-1-X has no rule for the dataset.
    """
    check_rule(name)
    return ActionSpec(
        dims=DIMS,
        unit=RTX,
        frame=RTX,
        absolute=tuple(dim in ("terminate", "gripper") for dim in DIMS),
        low=tuple(low for low, _ in _RANGES),
        high=tuple(high for _, high in _RANGES),
        rate_hz=rate_hz,
        gripper="open=-1",
    )


def check_rule(name: str) -> None:
    """Raises ValueError unless RT-1-X has a rule for the dataset."""
    if name not in _RULES:
        raise ValueError(f"dataset {name!r}: RT-1-X has no rule for it; it has {sorted(_RULES)}")


def rescale(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, top: float, margin: float
) -> np.ndarray:
    """[low, high] linearly to [-top, top], clipped to `margin` inside of that."""
    scaled = (values - low) / (high - low) * (2 * top) - top
    return np.clip(scaled, -top + margin, top - margin)


def _terminate(stored: np.ndarray) -> np.ndarray:
    """Class of terminate_episode: one-hot [T, 3] or a flag [T] that is 1 at the end."""
    if stored.ndim == 1:
        return np.where(stored == 1.0, TERMINATE, MOVE_ARM)
    # Zero padding has no class set; its argmax would read as the end of the episode.
    return np.where(stored.any(axis=1), stored.argmax(axis=1), MOVE_ARM)


def _scaled(world: float, rotation: float) -> Callable[[Episode], _Parts]:
    """Both motions times a constant, the gripper as stored."""

    def rule(action: Episode) -> _Parts:
        gripper = np.asarray(action["gripper_closedness_action"]).reshape(-1)
        return action["world_vector"] * world, action["rotation_delta"] * rotation, gripper

    return rule


def _bridge(action: Episode) -> _Parts:
    world, rotation = _as_bridge(action["world_vector"], action["rotation_delta"])
    return world, rotation, np.where(action["open_gripper"], -1.0, 1.0)


def _as_bridge(world: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    far, turn = np.full(3, 0.05), np.full(3, 0.25)
    return (
        rescale(world, -far, far, 1.75, _MARGIN),
        rescale(rotation, -turn, turn, 1.4, _MARGIN),
    )


def _taco_play(action: Episode) -> _Parts:
    pose = action["actions"]
    world, turn = np.asarray(_TACO_WORLD), np.asarray(_TACO_ROTATION)
    return (
        rescale(pose[:, :3], world[0], world[1], 1.0, _MARGIN),
        rescale(pose[:, 3:6], turn[0], turn[1], 1.0, _MARGIN),
        pose[:, 6],
    )


def _taco_play_as_published(action: Episode) -> _Parts:
    pose = action["actions"]
    return *_as_bridge(pose[:, :3], pose[:, 3:6]), pose[:, 6]


def _jaco_play(action: Episode) -> _Parts:
    world = (action["world_vector"] - _JACO_MEAN) / _JACO_STD
    return world, np.zeros_like(world), action["gripper_closedness_action"][:, 0]


def _cable_routing(action: Episode) -> _Parts:
    world = action["world_vector"]
    return world, action["rotation_delta"], np.zeros(len(world))


def _toto(action: Episode) -> _Parts:
    # 1 opens here, against all other sets: the notebook casts the flag and leaves it so.
    gripper = np.asarray(action["open_gripper"], np.float32)
    return action["world_vector"] * 2.0, action["rotation_delta"], gripper


def _language_table(action: np.ndarray) -> _Parts:
    steps = len(action)
    world = np.concatenate([action, np.zeros((steps, 1))], axis=1)
    return world, np.zeros((steps, 3)), np.zeros(steps)


# The last two stand in the notebook's list without a rule: kuka's fields are RT-1's, and a plane's
# displacement is (dx, dy, 0).
_RULES: Mapping[str, Callable[..., _Parts]] = {
    "fractal20220817_data": _scaled(1.0, 1.0),
    "bridge": _bridge,
    "taco_play": _taco_play,
    "jaco_play": _jaco_play,
    "berkeley_cable_routing": _cable_routing,
    "roboturk": _scaled(1.0, 1.0),
    "nyu_door_opening_surprising_effectiveness": _scaled(20.0, 15.0),
    "viola": _scaled(1.75, 3.0),
    "berkeley_autolab_ur5": _scaled(100.0, 15.0),
    "toto": _toto,
    "kuka": _scaled(1.0, 1.0),
    "language_table": _language_table,
}
_GOOGLE_ROBOTS = ("fractal20220817_data", "kuka")
