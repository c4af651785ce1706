"""LeRobot's episodes under this project's names, and as RLDS examples.

In: an opened LeRobot dataset, and which of its features become which of ours. Out: what LeRobot
tells of their meaning (names, sizes, limits), and the function that makes the example of one
episode. `datasets/convert_lerobot.py` is the command; files are read by `lerobot_read.py`
and written by `rlds_write.py`.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.formats.array_episodes import Naming, PictureCoding, join_columns, make_example
from arp_jax.data.formats.conversion_flags import Sentences
from arp_jax.data.formats.lerobot_layout import (
    CAMERA_PREFIX,
    INFO,
    PREFIX,
    LeRobotEpisode,
    LeRobotFeature,
    read_limits,
)
from arp_jax.data.formats.lerobot_read import (
    LeRobotDataset,
    read_camera,
    read_columns,
    read_instructions,
)
from arp_jax.data.formats.measured_specs import Meaning, Measured
from arp_jax.data.images import encode_image
from arp_jax.data.source import LANGUAGE_KEYS
from arp_jax.specs import CameraSpec

ACTION = "action"
REWARD = "next.reward"
SUCCESS = "next.success"
METADATA = {"episode_index": tfds.features.Scalar(np.int64, doc="its number in LeRobot's files")}
_MAGIC = {"png": b"\x89PNG", "jpeg": b"\xff\xd8"}


@dataclasses.dataclass(frozen=True)
class LeRobotJob:
    """How episodes become examples; picklable.

    Attributes:
        dataset: where the episodes lie; without its list of them, as each job travels with one.
        naming: LeRobot's keys -> features here.
        cameras: of `naming`, with their sizes.
        coding: of pictures; such as are stored in this format already stay as they are.
        successful: every episode reached its goal (demonstrations); otherwise the stored
            `next.success` decides, and without it none counts as successful.
        sentences: said instead of LeRobot's tasks, by the number of the episode.
        wordings: how many texts a step gets, 1 to 3.
    """

    dataset: LeRobotDataset
    naming: Naming
    cameras: tuple[CameraSpec, ...]
    coding: PictureCoding
    successful: bool
    sentences: Sentences
    wordings: int


def resolve_naming(dataset: LeRobotDataset, naming: Naming) -> Naming:
    """The naming with LeRobot's full keys, where short ones ("top") were given.

    Raises:
        ValueError: the dataset has no such feature.
    """

    def full(key: str, known: Mapping[str, LeRobotFeature]) -> str:
        for candidate in (key, f"{CAMERA_PREFIX}{key}", f"{PREFIX}{key}"):
            if candidate in known:
                return candidate
        raise ValueError(f"{dataset.folder}: no feature {key!r}; there are {sorted(known)}")

    vectors, cameras = dataset.vectors, dataset.cameras
    return Naming(
        vectors={n: tuple(full(k, vectors) for k in keys) for n, keys in naming.vectors.items()},
        cameras={name: full(key, cameras) for name, key in naming.cameras.items()},
        action=tuple(full(key, vectors) for key in naming.action),
        reward=naming.reward,
    )


def measure_info(dataset: LeRobotDataset, naming: Naming) -> Measured:
    """Sizes as info.json says and the range of actions as the stored statistics say.

    Without statistics the rows are read.

    Raises:
        ValueError: statistics of another size or not finite; what `read_columns` raises.
    """
    sizes = {name: len(_dims(dataset, keys, name)) for name, keys in naming.vectors.items()}
    shapes = {name: dataset.cameras[key].shape for name, key in naming.cameras.items()}
    low, high = _action_range(dataset, naming.action)
    return Measured(
        sizes=sizes,
        cameras=tuple(CameraSpec(name, shape[0], shape[1]) for name, shape in shapes.items()),
        low=low,
        high=high,
        digest=_digest(dataset),
    )


def default_meanings(dataset: LeRobotDataset, naming: Naming) -> dict[str, Meaning]:
    """Names of dimensions as LeRobot has them; units and frames it does not tell."""
    vectors = {**naming.vectors, ACTION: naming.action}
    return {name: Meaning(dims=_dims(dataset, keys, name)) for name, keys in vectors.items()}


def make_job(
    dataset: LeRobotDataset,
    naming: Naming,
    measured: Measured,
    coding: PictureCoding,
    *,
    successful: bool,
    sentences: Sentences,
) -> LeRobotJob:
    """The job for all episodes of a dataset; see `LeRobotJob`."""
    sentences.check([str(episode.index) for episode in dataset.episodes])
    wordings = max((len(episode.tasks) for episode in dataset.episodes), default=1)
    return LeRobotJob(
        dataset=dataclasses.replace(dataset, episodes=()),
        naming=naming,
        cameras=measured.cameras,
        coding=coding,
        successful=successful,
        sentences=sentences,
        wordings=min(max(wordings, 1), len(LANGUAGE_KEYS)),
    )


def language_features(job: LeRobotJob) -> dict[str, Any]:
    """TFDS features of the texts of a step."""
    text = tfds.features.Text(doc="what to do at this step, or another wording of it")
    return dict.fromkeys(LANGUAGE_KEYS[: job.wordings], text)


def example_reader(job: LeRobotJob) -> Callable[[LeRobotEpisode], dict[str, Any]]:
    """The picklable function from an episode to its example that `rlds_write.convert` takes."""
    return functools.partial(read_example, job)


def read_example(job: LeRobotJob, episode: LeRobotEpisode) -> dict[str, Any]:
    """One episode as a TFDS builder yields it.

    Raises:
        ValueError: what `read_columns`, `read_camera` and `make_example` raise.
    """
    dataset, naming = job.dataset, job.naming
    keys = [*naming.action, *(key for keys in naming.vectors.values() for key in keys)]
    keys += [key for key in (naming.reward, SUCCESS) if key in dataset.vectors]
    arrays = read_columns(dataset, episode, dict.fromkeys(keys))
    example = make_example(
        naming,
        job.cameras,
        arrays,
        {name: _encoded(job, episode, key) for name, key in naming.cameras.items()},
        _where(episode),
        success=job.successful or bool(SUCCESS in arrays and arrays[SUCCESS].any()),
        metadata={"episode_index": np.int64(episode.index)},
        instruction=None,
    )
    for step, texts in zip(example["steps"], _wordings(job, episode), strict=True):
        step.update(zip(LANGUAGE_KEYS, texts, strict=False))
    return example


def _wordings(job: LeRobotJob, episode: LeRobotEpisode) -> list[list[str]]:
    """Texts of each step: its task, then the episode's other tasks, which no step has."""
    sentence = job.sentences.of(str(episode.index))
    if sentence:
        return [[sentence] + [""] * (job.wordings - 1)] * episode.length
    tasks = read_instructions(job.dataset, episode)
    others = [task for task in episode.tasks if task not in tasks] + [""] * job.wordings
    return [[task, *others][: job.wordings] for task in tasks]


def _encoded(job: LeRobotJob, episode: LeRobotEpisode, key: str) -> list[bytes]:
    """T pictures of a camera as they are stored in RLDS."""
    encoded, coding = [], job.coding
    for pixels, stored in read_camera(job.dataset, episode, key):
        if stored is not None and stored.startswith(_MAGIC[coding.image_format]):
            encoded.append(stored)
        else:
            encoded.append(encode_image(pixels, coding.image_format, coding.quality))
    return encoded


def _action_range(dataset: LeRobotDataset, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and greatest action [A]."""
    stored = read_limits(dataset.folder)
    if all(key in stored for key in keys):
        low, high = (np.concatenate([stored[key][end] for key in keys]) for end in (0, 1))
    else:
        actions = [
            join_columns(read_columns(dataset, episode, keys), keys, _where(episode))
            for episode in dataset.episodes
        ]
        low = np.min([rows.min(axis=0) for rows in actions], axis=0)
        high = np.max([rows.max(axis=0) for rows in actions], axis=0)
    size = len(_dims(dataset, keys, ACTION))
    if low.shape != (size,) or not np.isfinite([low, high]).all():
        raise ValueError(
            f"{dataset.folder}: the statistics of {', '.join(keys)} are not {size} finite numbers; "
            "give the limits with --specs"
        )
    return low, high


def _digest(dataset: LeRobotDataset) -> str:
    """SHA-256 over info.json and over names and sizes of the other files."""
    digest = hashlib.sha256((dataset.folder / INFO).read_bytes())
    for path in sorted(p for p in dataset.folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(dataset.folder)} {path.stat().st_size}".encode())
    return digest.hexdigest()


def _dims(dataset: LeRobotDataset, keys: Sequence[str], name: str) -> tuple[str, ...]:
    """Names of the dimensions of features that are put side by side."""
    dims: list[str] = []
    for key in keys:
        feature = dataset.vectors[key]
        size, stem = math.prod(feature.shape), name if len(keys) == 1 else key.split(".")[-1]
        numbered = (stem,) if size == 1 else (f"{stem}_{i}" for i in range(size))
        dims += feature.names or numbered
    return tuple(dims)


def _where(episode: LeRobotEpisode) -> str:
    return f"{episode.data}: episode {episode.index}"
