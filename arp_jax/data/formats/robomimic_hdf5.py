"""Reads the HDF5 layout of robomimic, also used by MimicGen and LIBERO.

In: a file with data/demo_N/{actions, rewards, dones, obs/KEY}, filter keys in mask/, and the
attribute env_args that describes the simulator. Out: names of demonstrations, their arrays and
pictures; and actions of robosuite's operational-space controller in metric units. Training examples
are made of them by `robomimic_convert.py`.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.formats.hdf5 import contents, dataset_of, open_hdf5, read_array
from arp_jax.data.grippers import open_from_sign

DATA, OBS = "data", "obs"
# Raw states of MuJoCo: wide, and of use in the simulator only.
_LEFT_OUT = "states"


@dataclasses.dataclass(frozen=True)
class Controller:
    """robosuite's OSC_POSE controller of one arm, for changes of the pose.

    Attributes:
        input_min, input_max: [6] range that actions are clipped to.
        output_min, output_max: [6] what that range means: m, then rad (a rotation vector).
        frame: of the changes.
    """

    input_min: np.ndarray
    input_max: np.ndarray
    output_min: np.ndarray
    output_max: np.ndarray
    frame: str


@dataclasses.dataclass(frozen=True)
class RobomimicInfo:
    """What a file says about itself.

    Attributes:
        env_name: the task, "" when the file does not say.
        rate_hz: of control, or None.
        controller: or None when it is another one than `Controller` describes.
        language: the instruction (LIBERO stores it), "" without.
    """

    env_name: str
    rate_hz: float | None
    controller: Controller | None
    language: str


def read_info(path: Path) -> RobomimicInfo:
    """Reads the attributes; raises ValueError for a file that is none of robomimic's."""
    with open_hdf5(path) as file:
        attributes = _data(file, path).attrs
        env = _json_attribute(attributes, "env_args", path)
        problem = _json_attribute(attributes, "problem_info", path)
    kwargs = env.get("env_kwargs") or {}
    rate = kwargs.get("control_freq")
    return RobomimicInfo(
        env_name=str(env.get("env_name", "")),
        rate_hz=float(rate) if rate else None,
        controller=_controller(kwargs.get("controller_configs")),
        language=str(problem.get("language_instruction", "")),
    )


def _json_attribute(attributes: Any, name: str, path: Path) -> dict[str, Any]:
    if name not in attributes:
        return {}
    try:
        found = json.loads(attributes[name])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: attribute {name!r} of 'data' is no JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _controller(config: Any) -> Controller | None:
    """The controller of the only arm, in the form of robosuite 1.0 to 1.4 or of 1.5."""
    if isinstance(config, dict) and isinstance(config.get("body_parts"), dict):
        parts = [p for p in config["body_parts"].values() if isinstance(p, dict) and "type" in p]
        config = parts[0] if len(parts) == 1 else None
    if not isinstance(config, dict) or config.get("type") != "OSC_POSE":
        return None
    if not config.get("control_delta", config.get("input_type", "delta") == "delta"):
        return None
    try:
        ranges = {
            key: np.broadcast_to(np.asarray(config[key], np.float64), (6,))
            for key in ("input_min", "input_max", "output_min", "output_max")
        }
    except (KeyError, ValueError, TypeError):
        return None
    return Controller(**ranges, frame=str(config.get("input_ref_frame", "world")))


def list_demos(path: Path, filter_key: str | None = None) -> list[str]:
    """Names of demonstrations by their number, all or those of a filter key.

    Raises:
        ValueError: no such filter key, it names a demonstration that is absent, or there are none.
    """
    with open_hdf5(path) as file:
        found = sorted(_data(file, path), key=_number)
        if filter_key is not None:
            keys = sorted(file["mask"]) if "mask" in file else []
            if filter_key not in keys:
                raise ValueError(f"{path}: no filter key {filter_key!r}; there are {keys}")
            mask = read_array(dataset_of(file, f"mask/{filter_key}", str(path)), str(path))
            wanted = [n.decode() if isinstance(n, bytes) else str(n) for n in mask.tolist()]
            for name in wanted:
                if name not in found:
                    raise ValueError(f"{path}: filter key {filter_key!r} names {name}: not there")
            found = sorted(wanted, key=_number)
    if not found:
        raise ValueError(f"{path}: no demonstrations under 'data'")
    return found


def _number(name: str) -> tuple[int, str]:
    match = re.search(r"\d+$", name)
    return int(match[0]) if match else -1, name


def _data(file: Any, path: Path) -> Any:
    if DATA not in file or not hasattr(file[DATA], "keys"):
        raise ValueError(f"{path}: no group 'data', so it is no robomimic file: {contents(file)}")
    return file[DATA]


@dataclasses.dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
        arrays: numbers [T] or [T, D]: actions, rewards, dones, action_dict/KEY ... and
            observations.
        vectors: names of those that are observations.
        pictures: camera -> (height, width).
    """

    arrays: dict[str, np.ndarray]
    vectors: tuple[str, ...]
    pictures: dict[str, tuple[int, int]]


def read_demo(path: Path, name: str) -> Demo:
    """Reads everything but pictures.

    Arrays with more than two axes that are no pictures (depth) are left out.

    Raises:
        ValueError: a broken file, a missing field, or fields of unequal length.
    """
    where = f"{path}: {name}"
    with open_hdf5(path) as file:
        demo = _demo(file, path, name)
        observed = dict(_observations(demo, where))
        sets = {"actions": dataset_of(demo, "actions", where), **_others(demo), **observed}
        arrays = {k: read_array(v, where) for k, v in sets.items() if 1 <= v.ndim <= 2}
        pictures = {k: v.shape[1:3] for k, v in observed.items() if _is_picture(v)}
        lengths = {key: len(sets[key]) for key in (*arrays, *pictures)}
        steps = lengths.get("actions", 0)
        said = int(demo.attrs.get("num_samples", steps))
    if said != steps:
        raise ValueError(f"{where}: 'actions' has {steps} steps, num_samples says {said}")
    for key, length in lengths.items():
        if length != steps:
            raise ValueError(f"{where}: {key!r} has {length} steps, 'actions' {steps}")
    return Demo(arrays, tuple(key for key in observed if key in arrays), pictures)


def _others(demo: Any) -> dict[str, Any]:
    """Arrays of a demonstration that are no observations, such as action_dict/abs_pos."""
    found: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if name.split("/")[0] not in (OBS, f"next_{OBS}", _LEFT_OUT) and hasattr(node, "shape"):
            found[name] = node

    demo.visititems(visit)
    return found


def read_pictures(path: Path, name: str, key: str) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] of a camera, one by one."""
    where = f"{path}: {name}"
    with open_hdf5(path) as file:
        sets = dict(_observations(_demo(file, path, name), where))
        if key not in sets or not _is_picture(sets[key]):
            raise ValueError(f"{where}: 'obs/{key}' holds no pictures uint8 [T, H, W, 3]")
        for step in range(len(sets[key])):
            yield read_array(sets[key], where, step)


def _demo(file: Any, path: Path, name: str) -> Any:
    demo = _data(file, path).get(name)
    if demo is None:
        raise ValueError(f"{path}: no demonstration {name!r}")
    return demo


def _observations(demo: Any, where: str) -> Iterator[tuple[str, Any]]:
    if OBS not in demo:
        raise ValueError(
            f"{where}: no 'obs': raw states only; let robomimic's dataset_states_to_obs.py add "
            "observations"
        )
    for key in demo[OBS]:
        yield key, dataset_of(demo, f"{OBS}/{key}", where)


def _is_picture(values: Any) -> bool:
    return values.ndim == 4 and values.shape[3] == 3 and values.dtype == np.uint8


def metric_actions(actions: np.ndarray, controller: Controller) -> np.ndarray:
    """What the controller makes of actions [T, 7] in -1..1.

    Returns:
        float32 [T, 7]: x, y, z (m), roll, pitch, yaw (rad), changes in the controller's frame; the
        gripper's command, 1 = open (robosuite: -1 opens, 1 closes).
    """
    low, high = controller.input_min, controller.input_max
    scale = (controller.output_max - controller.output_min) / (high - low)
    pose = controller.output_min + (np.clip(actions[:, :6], low, high) - low) * scale
    gripper = open_from_sign(-actions[:, 6:])
    return np.concatenate([pose[:, :3], rpy_of_vector(pose[:, 3:]), gripper], 1).astype(np.float32)


def rpy_of_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation vectors [T, 3] as roll, pitch, yaw [T, 3] with R = Rz(yaw) Ry(pitch) Rx(roll)."""
    angle = np.linalg.norm(vector, axis=1, keepdims=True)  # [T, 1]
    axis = vector / np.maximum(angle, 1e-12)
    x, y, z = axis.T
    c, s = np.cos(angle[:, 0]), np.sin(angle[:, 0])
    roll = np.arctan2(y * z * (1 - c) + x * s, c + z * z * (1 - c))
    pitch = np.arcsin(np.clip(y * s - x * z * (1 - c), -1.0, 1.0))
    yaw = np.arctan2(x * y * (1 - c) + z * s, c + x * x * (1 - c))
    return np.stack([roll, pitch, yaw], axis=1)
