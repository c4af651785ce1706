"""Converts BridgeData V2 as it was recorded (pickles and JPEG files) to RLDS.

Examples:
    python datasets/convert_bridge_raw.py bridgedata_raw/rss --name bridge_rss --out ~/rlds
    python datasets/convert_bridge_raw.py bridgedata_raw/datacol2 --name bridge_two_views \\
        --out ~/rlds --camera images0=image --camera images2=image_2

Takes each .../raw/traj_group*/traj*/ with obs_dict.pkl, policy_out.pkl, imagesN/im_*.jpg and, where
it is there, lang.txt. Pickles are read without running what they name. Pictures keep their bytes.
The last observation has no action and is left out; recordings before 2021-07-23 pair an observation
with the action of the step before, because their cameras were late. Names and units are those of
the card bridge_dataset. A run that was interrupted continues when started again.
"""

import argparse
import dataclasses
import datetime
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.cards import load_card
from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats.array_episodes import Naming, make_example
from arp_jax.data.formats.conversion_run import specs_of, write_dataset
from arp_jax.data.formats.measured_specs import FoundEpisode, Meaning, measure
from arp_jax.data.images import image_size
from arp_jax.interop.numpy_pickle import read_pickle
from arp_jax.specs import CameraSpec
from arp_jax.training.command_line import exit_status

METADATA = {"path": tfds.features.Text(doc="folder of the recording")}
_DATE = re.compile(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$")
# Before this day the camera's picture is of the moment of the next state.
_CAMERAS_IN_TIME = datetime.datetime(2021, 7, 23)


@dataclasses.dataclass(frozen=True)
class TrajJob:
    """One recording; `late` cameras shift its actions by one step."""

    path: Path
    name: str
    instruction: str | None
    late: bool

    @property
    def span(self) -> tuple[int, int]:
        """Steps cut off at the begin of observations and at the end of actions."""
        return (1, 1) if self.late else (0, 0)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "bridge_raw")
    parser.add_argument("source", type=Path, help="folder with recordings, at any depth")
    common.add_naming_flags(parser, None)
    parser.set_defaults(action="actions")
    return parser.parse_args(argv)


def find_recordings(source: Path) -> list[Path]:
    """Folders of recordings in the order of their numbers; raises ValueError without any."""
    found = [p.parent for p in source.rglob("policy_out.pkl") if "lmdb" not in str(p)]
    if not found:
        raise ValueError(f"{source}: no recordings (folders with policy_out.pkl)")
    return sorted(found, key=lambda path: [_number(part) for part in path.parts])


def _number(part: str) -> tuple[str, int]:
    digits = re.search(r"\d+$", part)
    return (part[: digits.start()], int(digits[0])) if digits else (part, -1)


def is_late(path: Path) -> bool:
    """Whether the recording is older than the cameras' correction; its folder has the date."""
    dates = [part for part in path.parts if _DATE.match(part)]
    date = datetime.datetime.strptime(dates[-1], "%Y-%m-%d_%H-%M-%S") if dates else None
    return date is not None and date < _CAMERAS_IN_TIME


def read_instruction(path: Path) -> str:
    """The first sentence in lang.txt ("" without): others, and a confidence, may follow."""
    file = path / "lang.txt"
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    sentences = [line.strip() for line in lines if not line.startswith("confidence")]
    return next((sentence for sentence in sentences if sentence), "")


def read_arrays(job: TrajJob) -> dict[str, np.ndarray]:
    """Actions [T, 7] and whatever numbers obs_dict has of each step, [T, ...].

    Raises:
        ValueError: a pickle is broken or lacks a field; or lengths that do not fit.
    """
    policy, observed = job.path / "policy_out.pkl", job.path / "obs_dict.pkl"
    actions = read_pickle(policy)
    if isinstance(actions, list) and actions and isinstance(actions[0], dict):
        actions = [step.get("actions") if isinstance(step, dict) else None for step in actions]
    if not isinstance(actions, list | np.ndarray) or not len(actions):
        raise ValueError(f"{policy}: expected a list of steps")
    for number, action in enumerate(actions):
        if not isinstance(action, np.ndarray) or action.shape != np.shape(actions[0]):
            raise ValueError(f"{policy}: 'actions' of step {number} is no array as in step 0")
    stacked = np.stack(list(actions))
    content = read_pickle(observed)
    if not isinstance(content, dict):
        raise ValueError(f"{observed}: expected a dict of observations")
    begin, end = job.span
    steps = len(stacked)
    arrays = {"actions": stacked[: steps - end]}
    for key, values in content.items():
        numbers = np.asarray(values) if _is_numeric(values) else np.zeros(0)
        if numbers.ndim and len(numbers) == steps + 1:
            arrays[str(key)] = numbers[begin:steps]
        elif key == "full_state":
            raise ValueError(
                f"{observed}: 'full_state' has {len(numbers)} steps, {steps} actions need "
                f"{steps + 1}"
            )
    return arrays


def _is_numeric(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiub"
    return isinstance(values, list) and all(isinstance(v, int | float) for v in values)


def picture_files(job: TrajJob, camera: str) -> list[Path]:
    """Files im_0.jpg ... of a camera, for the steps that are stored.

    Raises:
        ValueError: a picture is missing.
    """
    found = sorted((job.path / camera).glob("im_*.jpg"), key=lambda path: _number(path.stem))
    for number, path in enumerate(found):
        if path.name != f"im_{number}.jpg":
            raise ValueError(f"{job.path}/{camera}: im_{number}.jpg is missing; copy it again")
    return found[job.span[0] : len(found) - 1]


def found_recordings(jobs: Sequence[TrajJob]) -> Iterator[FoundEpisode]:
    """The numbers of all recordings, and the sizes of their pictures."""
    for job in jobs:
        folders = sorted(p.name for p in job.path.glob("images*") if "depth" not in p.name)
        files = {name: picture_files(job, name) for name in folders}
        sizes = {name: _size(paths[0]) for name, paths in files.items() if paths}
        yield FoundEpisode(str(job.path), read_arrays(job), sizes)


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_job(job: TrajJob, *, naming: Naming, cameras: tuple[CameraSpec, ...]) -> dict[str, Any]:
    """The RLDS example of one recording; raises ValueError naming file and field."""
    return make_example(
        naming,
        cameras,
        read_arrays(job),
        {
            camera.name: [p.read_bytes() for p in picture_files(job, naming.cameras[camera.name])]
            for camera in cameras
        },
        str(job.path),
        success=False,
        metadata={"path": job.name},
        instruction=job.instruction,
    )


def list_jobs(flags: argparse.Namespace) -> list[TrajJob]:
    """All recordings in order."""
    paths = find_recordings(flags.source)
    names = [path.relative_to(flags.source).as_posix() for path in paths]
    sentences = common.sentences_of(flags)
    sentences.check(names)
    texts = [
        sentences.of(name) or read_instruction(path)
        for path, name in zip(paths, names, strict=True)
    ]
    return [
        TrajJob(path, name, text if any(texts) else None, is_late(path.absolute()))
        for path, name, text in zip(paths, names, texts, strict=True)
    ]


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    jobs = list_jobs(flags)
    card = load_card("bridge_dataset")
    # Recordings have one to four views and depth; the first is the one that all have.
    naming = common.naming_of(flags, {"full_state": "state"}, {"images0": "image"})
    measured = measure(naming, found_recordings(jobs))
    state, action = card.specs.observation.feature("state"), card.specs.action
    known = {
        "state": Meaning(state.unit, state.frame, state.dims),
        "action": Meaning(action.unit, action.frame, action.dims),
    }
    specs = specs_of(
        flags,
        measured,
        known,
        rate_hz=action.rate_hz,
        absolute=action.absolute,
        gripper=action.gripper,
    )
    write_dataset(
        flags,
        specs,
        jobs,
        functools.partial(read_job, naming=naming, cameras=measured.cameras),
        description=f"{len(jobs)} recordings of BridgeData V2, as published before RLDS.",
        digest=measured.digest,
        metadata=METADATA,
        reward=None,
        language=jobs[0].instruction is not None,
        image_format="jpeg",
    )


def main(argv: Sequence[str]) -> int:
    """Converts recordings; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
