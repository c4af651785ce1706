"""Public datasets, one small pure function each: raw episode -> canonical episode.

In: an episode as `RldsDataset.episodes` yields it. Out: the episode in the units, names and
conventions that the dataset's card declares (see `source.py`). Pictures are only renamed, decoded
or not. Nothing is normalised here. Where documents of one dataset contradict each other, the notes
of its card say so and which one was followed. Callers go through `standardize.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from arp_jax.data.grippers import absolute_gripper, open_from_closed, open_from_sign
from arp_jax.data.rlds import Episode

# Canonical camera -> key in the raw observation.
CAMERAS: Mapping[str, Mapping[str, str]] = {
    "fractal20220817_data": {"image": "image"},
    "bridge": {"image": "image"},
    "bridge_dataset": {f"image{s}": f"image_{i}" for i, s in enumerate(("", "_2", "_3", "_4"))},
    "kuka": {"image": "image"},
    "taco_play": {"image": "rgb_static", "wrist_image": "rgb_gripper"},
    "jaco_play": {"image": "image", "wrist_image": "image_wrist"},
    "berkeley_cable_routing": {
        "image": "image",
        "image_2": "top_image",
        "wrist_image": "wrist45_image",
        "wrist_image_2": "wrist225_image",
    },
    "roboturk": {"image": "front_rgb"},
    "nyu_door_opening_surprising_effectiveness": {"image": "image"},
    "viola": {"image": "agentview_rgb", "wrist_image": "eye_in_hand_rgb"},
    "berkeley_autolab_ur5": {"image": "image", "wrist_image": "hand_image"},
    "toto": {"image": "image"},
    "language_table": {"image": "rgb"},
    "stanford_hydra": {"image": "image", "wrist_image": "wrist_image"},
    "austin_buds": {"image": "image", "wrist_image": "wrist_image"},
    "nyu_franka_play": {"image": "image", "image_2": "image_additional_view"},
    "utaustin_mutex": {"image": "image", "wrist_image": "wrist_image"},
    "fmb": {
        "image": "image_side_1",
        "image_2": "image_side_2",
        "wrist_image": "image_wrist_1",
        "wrist_image_2": "image_wrist_2",
    },
    "droid": {
        "image": "exterior_image_1_left",
        "image_2": "exterior_image_2_left",
        "wrist_image": "wrist_image_left",
    },
}


class _Language(NamedTuple):
    """Where a dataset keeps the alternative instructions (first one required) and their vector."""

    text: tuple[str, ...]
    embedding: str | None = None


# The sets that Google imported into Open-X, and those converted later.
_OBSERVED = _Language(
    ("observation/natural_language_instruction",), "observation/natural_language_embedding"
)
_PER_STEP = _Language(("language_instruction",), "language_embedding")
_POSE_DELTA = ("action/world_vector", "action/rotation_delta")


def instructions(columns: Iterable[Any]) -> tuple[str, ...]:
    """Distinct non-empty instructions of an episode, in the order of columns and steps.

    Args:
        columns: text of the episode or of its steps, as str or UTF-8 bytes.
    """
    flat = (text for column in columns for text in dict.fromkeys(np.atleast_1d(column).tolist()))
    texts = (t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in flat)
    return tuple(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))


def _closedness(
    name: str,
    to_open: Callable[[np.ndarray], np.ndarray],
    state: tuple[str, ...] = (),
    metadata: tuple[str, ...] = (),
) -> Callable[[Episode], Episode]:
    """Sets in RT-1's layout: displacement, rotation, and the gripper as `to_open` reads it."""

    def transform(raw: Episode) -> Episode:
        gripper = to_open(_vector(raw, "action/gripper_closedness_action"))
        return _episode(
            raw,
            name,
            action=_join(_columns(raw, *_POSE_DELTA), gripper),
            state=_columns(raw, *(f"observation/{key}" for key in state)) if state else None,
            metadata=metadata,
        )

    return transform


def _bridge(raw: Episode) -> Episode:
    return _episode(
        raw,
        "bridge",
        action=_columns(raw, *_POSE_DELTA, "action/open_gripper"),
        state=_columns(raw, "observation/state"),
    )


def _bridge_dataset(raw: Episode) -> Episode:
    return _episode(
        raw,
        "bridge_dataset",
        action=_columns(raw, "action"),
        state=_columns(raw, "observation/state"),
        language=_PER_STEP,
    )


def _taco_play(raw: Episode) -> Episode:
    command = _columns(raw, "action/rel_actions_world")  # [T, 7]
    # Stored as 50 times metres and 20 times radians.
    return _episode(
        raw,
        "taco_play",
        action=_join(command[:, :3] / 50, command[:, 3:6] / 20, open_from_sign(command[:, 6])),
        state=_columns(raw, "observation/robot_obs"),
        language=_OBSERVED._replace(
            text=(*_OBSERVED.text, "observation/structured_language_instruction")
        ),
    )


def _jaco_play(raw: Episode) -> Episode:
    moves = _columns(raw, "action/world_vector")
    gripper = absolute_gripper(_vector(raw, "action/gripper_closedness_action"))
    return _episode(
        raw,
        "jaco_play",
        action=_join(moves, np.zeros_like(moves), gripper),
        state=_columns(raw, "observation/end_effector_cartesian_pos", "observation/joint_pos"),
    )


def _berkeley_cable_routing(raw: Episode) -> Episode:
    velocity = _columns(raw, *_POSE_DELTA)
    return _episode(
        raw,
        "berkeley_cable_routing",
        # The gripper holds the cable throughout and is not commanded.
        action=_join(velocity, np.zeros(len(velocity), np.float32)),
        state=_columns(raw, "observation/robot_state"),
    )


def _berkeley_autolab_ur5(raw: Episode) -> Episode:
    state = _columns(raw, "observation/robot_state")
    # gripper_is_closed says how the episode begins.
    gripper = absolute_gripper(
        _vector(raw, "action/gripper_closedness_action"), start=float(state[0, 13] < 0.5)
    )
    return _episode(
        raw,
        "berkeley_autolab_ur5",
        action=_join(_columns(raw, *_POSE_DELTA), gripper),
        state=state,
    )


def _toto(raw: Episode) -> Episode:
    # Absolute pose, whatever the names say (card).
    return _episode(
        raw,
        "toto",
        action=_columns(raw, *_POSE_DELTA, "action/open_gripper"),
        state=_columns(raw, "observation/state"),
    )


def _language_table(raw: Episode) -> Episode:
    # The bytes of a sentence as integers, padded with zeros.
    letters = _numbers(raw, "observation/instruction").astype(np.uint8)  # [T, 512]
    sentences = [row.tobytes().rstrip(b"\0") for row in np.unique(letters, axis=0)]
    position = ("observation/effector_translation", "observation/effector_target_translation")
    episode = _episode(
        raw,
        "language_table",
        action=_columns(raw, "action"),
        state=_columns(raw, *position),
        language=_Language(()),
        metadata=("episode_id",),
    )
    return {**episode, "language": instructions(sentences)}


def _stanford_hydra(raw: Episode) -> Episode:
    command, robot = _columns(raw, "action"), _columns(raw, "observation/state")
    return _episode(
        raw,
        "stanford_hydra",
        action=_join(command[:, :6], open_from_closed(command[:, 6])),
        state=np.delete(robot, np.s_[17:24], axis=1),
        features={"velocity": robot[:, 17:24]},
        language=_PER_STEP,
    )


def _deoxys(name: str) -> Callable[[Episode], Episode]:
    """Sets of UT Austin recorded with Deoxys: one layout, -1 opens and 1 closes."""

    def transform(raw: Episode) -> Episode:
        command = _columns(raw, "action")
        return _episode(
            raw,
            name,
            action=_join(command[:, :6], open_from_closed(command[:, 6])),
            state=_columns(raw, "observation/state"),
            language=_PER_STEP,
        )

    return transform


def _nyu_franka_play(raw: Episode) -> Episode:
    command = _columns(raw, "action")  # 7 joints, 3 position, 3 rpy, gripper, terminate
    # Differences of Euler angles that were stored between -pi and pi jump by 2 pi.
    turns = (command[:, 10:13] + np.pi) % (2 * np.pi) - np.pi
    return _episode(
        raw,
        "nyu_franka_play",
        action=_join(command[:, 7:10], turns, open_from_sign(command[:, 13])),
        state=_columns(raw, "observation/state"),
        language=_PER_STEP,
    )


def _fmb(raw: Episode) -> Episode:
    command = _columns(raw, "action")
    sentence = _numbers(raw, "episode_metadata/episode_language_embedding")  # [512]
    robot = ("eef_pose", "state_gripper_pose", "joint_pos")
    return _episode(
        raw,
        "fmb",
        action=_join(command[:, :6], open_from_closed(command[:, 6])),
        state=_columns(raw, *(f"observation/{key}" for key in robot)),
        features={
            "velocity": _columns(raw, "observation/eef_vel", "observation/joint_vel"),
            "wrench": _columns(raw, "observation/eef_force", "observation/eef_torque"),
            "language_embedding": np.tile(sentence, (len(command), 1)),
        },
        # A step's own instruction names the motion primitive, the episode's the task.
        language=_Language(("episode_metadata/episode_language_instruction",)),
    )


def _droid(raw: Episode) -> Episode:
    gripper = open_from_closed(_vector(raw, "action_dict/gripper_position"))
    robot = ("cartesian_position", "gripper_position", "joint_position")
    return _episode(
        raw,
        "droid",
        action=_join(_columns(raw, "action_dict/cartesian_position"), gripper),
        state=_columns(raw, *(f"observation/{key}" for key in robot)),
        language=_Language((*_PER_STEP.text, "language_instruction_2", "language_instruction_3")),
    )


TRANSFORMS: Mapping[str, Callable[[Episode], Episode]] = {
    "fractal20220817_data": _closedness(
        "fractal20220817_data",
        absolute_gripper,
        state=("base_pose_tool_reached", "gripper_closed"),
        metadata=("aspects", "attributes"),
    ),
    "bridge": _bridge,
    "bridge_dataset": _bridge_dataset,
    "kuka": _closedness(
        "kuka",
        absolute_gripper,
        # The slash belongs to the key.
        state=("clip_function_input/base_pose_tool_reached", "gripper_closed"),
        metadata=("success",),
    ),
    "taco_play": _taco_play,
    "jaco_play": _jaco_play,
    "berkeley_cable_routing": _berkeley_cable_routing,
    "roboturk": _closedness("roboturk", open_from_closed),
    "nyu_door_opening_surprising_effectiveness": _closedness(
        "nyu_door_opening_surprising_effectiveness", absolute_gripper
    ),
    "viola": _closedness(
        "viola", open_from_closed, state=("joint_states", "gripper_states", "ee_states")
    ),
    "berkeley_autolab_ur5": _berkeley_autolab_ur5,
    "toto": _toto,
    "language_table": _language_table,
    "stanford_hydra": _stanford_hydra,
    "austin_buds": _deoxys("austin_buds"),
    "nyu_franka_play": _nyu_franka_play,
    "utaustin_mutex": _deoxys("utaustin_mutex"),
    "fmb": _fmb,
    "droid": _droid,
}


def _episode(
    raw: Episode,
    card: str,
    *,
    action: np.ndarray,
    state: np.ndarray | None = None,
    features: Mapping[str, np.ndarray] | None = None,
    language: _Language = _OBSERVED,
    metadata: tuple[str, ...] = (),
) -> Episode:
    """Puts a canonical episode together from its parts and what all datasets have in common."""
    observation = {} if state is None else {"state": state}
    observation.update(features or {})
    if language.embedding is not None:
        observation["language_embedding"] = _columns(raw, language.embedding)
    pictures = CAMERAS[card].items()
    stored_pictures = raw.get("observation", {})
    observation.update({c: stored_pictures[key] for c, key in pictures if key in stored_pictures})
    first, more = language.text[:1], language.text[1:]
    texts = [_field(raw, name) for name in first]
    texts += [_field(raw, name) for name in more if _has(raw, name)]
    stored = {name: raw[name] for name in metadata if name in raw}
    return {
        "observation": observation,
        "action": action,
        "language": instructions(texts),
        **{name: raw[name] for name in ("is_first", "is_last", "is_terminal") if name in raw},
        **({"reward": np.asarray(raw["reward"], np.float32)} if "reward" in raw else {}),
        "metadata": {**raw.get("episode_metadata", {}), **stored},
    }


def _field(raw: Episode, name: str) -> Any:
    """A raw field; only the first "/" of a name separates group and key."""
    group, _, key = name.partition("/")
    try:
        return raw[group][key] if key else raw[group]
    except KeyError:
        raise KeyError(name) from None


def _has(raw: Episode, name: str) -> bool:
    group, _, key = name.partition("/")
    return key in raw.get(group, {}) if key else group in raw


def _numbers(raw: Episode, name: str) -> np.ndarray:
    """A field as float32 [T, ...]."""
    try:
        return np.asarray(_field(raw, name), np.float32)
    except (ValueError, TypeError):
        raise ValueError(f"field {name!r} does not hold numbers") from None


def _vector(raw: Episode, name: str) -> np.ndarray:
    """A field with one number a step, stored as [T] or [T, 1]: float32 [T]."""
    return _numbers(raw, name).reshape(-1)


def _columns(raw: Episode, *names: str) -> np.ndarray:
    """Fields side by side, each flattened per step: float32 [T, D]."""
    return _join(*(_numbers(raw, name) for name in names))


def _join(*parts: np.ndarray) -> np.ndarray:
    """Arrays [T] or [T, ...] side by side: float32 [T, D]."""
    flat = [a.reshape(len(a), int(np.prod(a.shape[1:], dtype=int))) for a in parts]
    return np.concatenate(flat, axis=1).astype(np.float32, copy=False)
