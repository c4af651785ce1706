"""ACT's HDF5 episodes as an RLDS dataset: what is stored, under which names, in which units.

In: the files (`act_hdf5_read.py`) and options. Out: a `Conversion` and its jobs for
`rlds_write.convert`, one a file and one more for its mirror image where wanted.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.formats import act_hdf5_read as act
from arp_jax.data.formats.array_episodes import Naming, PictureCoding, make_example
from arp_jax.data.formats.measured_specs import FoundEpisode, Meaning, Measured
from arp_jax.specs import CameraSpec

# Default names of a file's arrays in our datasets.
VECTORS = {"qpos": "state", "qvel": "velocity", "effort": "effort"}
_ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_BASE_DIMS = ("base_linear", "base_turning")
METADATA = {
    "file": tfds.features.Text(doc="name of the HDF5 file"),
    "sim": tfds.features.Scalar(np.bool_, doc="recorded in simulation"),
    "mirrored": tfds.features.Scalar(np.bool_, doc="seen in a mirror, arms and cameras exchanged"),
}


@dataclasses.dataclass(frozen=True)
class ActOptions:
    """How files are read.

    Attributes:
        coding: of pictures.
        color_order: of the arrays that ACT's scripts see; `act_hdf5_read.py`.
        base: append the base's two velocities to the action; zeros for files without.
        smooth_base: as ACT++ trains on them.
        degrees: joints are stored in degrees; they become rad.
        gripper_percent: grippers are stored as 0 to 100; they become 0 to 1.
        shift_real: pair each observation of a real robot with the action of the step before, as
            ACT's training does.
    """

    coding: PictureCoding
    color_order: str = "rgb"
    base: bool = False
    smooth_base: bool = False
    shift_real: bool = False
    degrees: bool = False
    gripper_percent: bool = False


@dataclasses.dataclass(frozen=True)
class ActJob:
    """One episode to write: a file, or its mirror image."""

    path: Path
    name: str
    instruction: str | None
    mirrored: bool = False

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.path} (mirrored)" if self.mirrored else str(self.path)


def read_arrays(job: ActJob, options: ActOptions, episode: act.ActEpisode) -> dict[str, np.ndarray]:
    """The arrays of an episode as they will be stored: in our units, mirrored, with the base.

    Raises:
        ValueError: an array that is no arms of seven columns where this matters.
    """
    arrays = dict(episode.arrays)
    base = arrays.pop("base_action", None)
    if options.degrees or options.gripper_percent:
        for key in set(arrays) & {"action", "qpos", "qvel"}:
            arrays[key] = _in_our_units(arrays[key], options, f"{job.where}: {key!r}")
    if job.mirrored:
        arrays = {k: act.mirror_arms(v, f"{job.where}: {k!r}") for k, v in arrays.items()}
        base = None if base is None else act.mirror_base(base)
    if options.base:
        if base is None:
            base = np.zeros((episode.layout.steps, len(_BASE_DIMS)), np.float32)
        if options.smooth_base:
            base = act.smooth_base(base)
        arrays["action"] = np.concatenate([arrays["action"], base], axis=1)
    if options.shift_real and not episode.layout.sim:
        action = arrays["action"]
        arrays["action"] = np.concatenate([action[:1], action[:-1]])
    return arrays


def _in_our_units(values: np.ndarray, options: ActOptions, where: str) -> np.ndarray:
    """Joints [T, 7 * arms] in rad and grippers in 0 ... 1."""
    if values.shape[1] % 7:
        raise ValueError(
            f"{where}: {values.shape[1]} columns; --degrees and --gripper_percent know arms of six "
            "joints and a gripper"
        )
    joint = np.pi / 180 if options.degrees else 1.0
    gripper = 0.01 if options.gripper_percent else 1.0
    scale = np.tile([joint] * 6 + [gripper], values.shape[1] // 7)
    return (values * scale).astype(np.float32)


def read_job(
    job: ActJob, *, naming: Naming, cameras: tuple[CameraSpec, ...], options: ActOptions
) -> dict[str, Any]:
    """The RLDS example of one job; raises ValueError naming file and field."""
    sources = [naming.cameras[camera.name] for camera in cameras]
    episode = act.read_episode(job.path, sources, options.coding, options.color_order, job.mirrored)
    return make_example(
        naming,
        cameras,
        read_arrays(job, options, episode),
        {camera.name: episode.pictures[naming.cameras[camera.name]] for camera in cameras},
        job.where,
        success=False,
        metadata={
            "file": job.name,
            "sim": episode.layout.sim,
            "mirrored": job.mirrored or act.is_mirrored(job.path),
        },
        instruction=job.instruction,
    )


def found_episode(job: ActJob, options: ActOptions) -> FoundEpisode:
    """Everything about one job but its pictures."""
    episode = act.read_episode(job.path, (), options.coding)
    return FoundEpisode(job.where, read_arrays(job, options, episode), episode.layout.cameras)


def default_meanings(layout: act.ActLayout, options: ActOptions) -> dict[str, Meaning]:
    """Units and names of arms as ALOHA stores them: rad, grippers 0 (closed) to 1 (open)."""
    columns = layout.sizes["action"]
    arms = {7: ("",), 14: ("left_", "right_")}.get(columns, ())
    dims = tuple(f"{arm}{joint}" for arm in arms for joint in (*_ARM_JOINTS, "gripper"))
    unit, action_dims = "rad", dims
    if options.base:
        unit = "rad, base m/s and rad/s"
        action_dims = (*(dims or (f"action_{i}" for i in range(columns))), *_BASE_DIMS)
    return {
        "state": Meaning("rad, gripper 0..1", "joint", dims),
        "velocity": Meaning("rad/s, gripper 1/s", "joint", dims),
        "effort": Meaning("as the motors report it", "joint", dims),
        "action": Meaning(unit, "joint", action_dims),
    }


def check_radians(measured: Measured, unit: str) -> None:
    """Raises ValueError when actions said to be rad turn further than any arm does."""
    largest = float(np.max(np.abs([measured.low, measured.high])))
    if unit.startswith("rad") and largest > 4 * np.pi:
        raise ValueError(
            f"actions reach {largest:.1f}: these are no radians; convert with --degrees (and "
            "--gripper_percent), or say what they are with --unit action=... --unit state=..."
        )


def reader(naming: Naming, measured: Measured, options: ActOptions) -> Any:
    """The picklable function job -> example."""
    return functools.partial(read_job, naming=naming, cameras=measured.cameras, options=options)
