"""robomimic's demonstrations as an RLDS dataset.

In: files (`robomimic_hdf5.py`) and names. Out: for the writer, one job a demonstration and the
function that reads it; for the specs, every demonstration's numbers.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.formats import robomimic_hdf5 as robomimic
from arp_jax.data.formats.array_episodes import Naming, PictureCoding, make_example
from arp_jax.data.formats.measured_specs import FoundEpisode, Meaning
from arp_jax.specs import CameraSpec

METADATA = {
    "file": tfds.features.Text(doc="name of the HDF5 file"),
    "demo": tfds.features.Text(doc="name of the demonstration in it"),
    "env_name": tfds.features.Text(doc="the simulator's task"),
}
METRIC_ACTION = Meaning(
    "m, m, m, rad, rad, rad, 1", "world", ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
)
METRIC_ABSOLUTE = (False,) * 6 + (True,)
# Units of observations that robosuite always names so.
_UNITS = {
    "_eef_pos": ("m", "world"),
    "_eef_quat": ("quaternion xyzw", "world"),
    "_joint_pos": ("rad", "joint"),
    "_joint_vel": ("rad/s", "joint"),
    "_gripper_qpos": ("m", "joint"),
    "_gripper_qvel": ("m/s", "joint"),
}


@dataclasses.dataclass(frozen=True)
class DemoJob:
    """One demonstration; `controller` turns its actions metric, None leaves them as stored."""

    path: Path
    demo: str
    env_name: str
    instruction: str | None
    controller: robomimic.Controller | None

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.path}: {self.demo}"


def list_files(sources: Sequence[Path]) -> list[Path]:
    """The files given, and those in folders given, in the order of their names."""
    found: list[Path] = []
    for source in sources:
        inner = sorted(source.rglob("*.hdf5")) if source.is_dir() else [source]
        if not inner:
            raise ValueError(f"{source}: no .hdf5 files in this folder")
        found.extend(inner)
    return found


def found_demo(job: DemoJob) -> FoundEpisode:
    """The numbers of a demonstration, actions as they will be stored.

    Raises:
        ValueError: a broken or incomplete file, or an action of another size than the controller's.
    """
    demo = robomimic.read_demo(job.path, job.demo)
    arrays = dict(demo.arrays)
    if job.controller is not None:
        actions = arrays["actions"]
        if actions.ndim != 2 or actions.shape[1] != 7 or actions.dtype.kind not in "fiu":
            raise ValueError(
                f"{job.where}: 'actions' is {actions.dtype} {actions.shape}, its controller takes "
                "7 numbers; keep what is stored with --raw_actions"
            )
        arrays["actions"] = robomimic.metric_actions(actions, job.controller)
    return FoundEpisode(job.where, arrays, demo.pictures)


def found_demos(jobs: Sequence[DemoJob]) -> Iterator[FoundEpisode]:
    """`found_demo` of each."""
    return map(found_demo, jobs)


def read_job(
    job: DemoJob,
    *,
    naming: Naming,
    cameras: tuple[CameraSpec, ...],
    coding: PictureCoding,
    upside_down: bool,
) -> dict[str, Any]:
    """The RLDS example of one demonstration; raises ValueError naming file, demo and field."""
    found = found_demo(job)
    order = slice(None, None, -1 if upside_down else 1)
    pictures = {
        camera.name: coding.encode(
            np.ascontiguousarray(frame[order])
            for frame in robomimic.read_pictures(job.path, job.demo, naming.cameras[camera.name])
        )
        for camera in cameras
    }
    dones = np.asarray(found.arrays.get("dones", [0]))
    return make_example(
        naming,
        cameras,
        found.arrays,
        pictures,
        job.where,
        success=bool(dones[-1]),
        metadata={"file": job.path.name, "demo": job.demo, "env_name": job.env_name},
        instruction=job.instruction,
    )


def reader(
    naming: Naming, cameras: tuple[CameraSpec, ...], coding: PictureCoding, upside_down: bool
) -> Any:
    """The picklable function job -> example."""
    return functools.partial(
        read_job, naming=naming, cameras=cameras, coding=coding, upside_down=upside_down
    )


def default_meanings(naming: Naming, controller: robomimic.Controller | None) -> dict[str, Meaning]:
    """Units that robosuite's names tell, and of the action."""
    meanings = {}
    for name, keys in naming.vectors.items():
        units = [u for key in keys for suffix, u in _UNITS.items() if key.endswith(suffix)]
        if len(units) == len(keys):
            frames = {frame for _, frame in units}
            frame = frames.pop() if len(frames) == 1 else "mixed"
            meanings[name] = Meaning(", ".join(unit for unit, _ in units), frame)
    if controller is None:
        meanings["action"] = Meaning("of the simulator's controller, -1..1", "controller")
    else:
        meanings["action"] = dataclasses.replace(METRIC_ACTION, frame=controller.frame)
    return meanings
