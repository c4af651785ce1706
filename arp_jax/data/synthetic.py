"""A few smooth random episodes, written as a real RLDS dataset.

Flows in: an observation spec and an action spec (`write_synthetic`), or the card of a published
dataset (`write_raw_dataset`, in that dataset's own layout). Flows out: a TFDS folder that is read
like any other. For debugging and tests: the numbers obey the specs and the actions of the former
can be learned, but no physics made them, so a policy trained on them does nothing useful.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from arp_jax.data.cards import Card
from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.images import decode_pixels
from arp_jax.data.rlds import DatasetSpecs, Episode
from arp_jax.data.rlds_build import EpisodeBuilder, prepare_in_run
from arp_jax.data.rlds_features import Field
from arp_jax.data.synthetic_features import (
    fields_of_types,
    put,
    smooth_curve,
    synthetic_values,
    tfds_features,
)
from arp_jax.data.tf_example_write import serialize_episode
from arp_jax.data.tfrecord import frame_record
from arp_jax.specs import ActionSpec, ObservationSpec

# The commanded target is where the observed features will be this many steps later.
LEAD_STEPS = 2
# Lengths of raw episodes: long enough for windows, short enough for pictures of 640 x 512.
RAW_LENGTHS = (6, 12)
RAW_VERSION = "1.0.0"


def write_synthetic(
    folder: Path,
    observation: ObservationSpec,
    action: ActionSpec,
    episodes: int = 8,
    seed: int = 0,
) -> Path:
    """Writes the dataset, or finds it finished.

    Args:
        folder: the dataset becomes folder/synthetic/1.0.0.
        observation: features with limits, and cameras; a feature follows one smooth curve.
        action: target of the same curves: action dimension d leads the first feature's dimension d.
        episodes: number of episodes, 40 to 60 steps each.
        seed: determines everything.

    Returns:
        The dataset's folder (with features.json).
    """

    specs = DatasetSpecs(observation, action)
    features = episode_features(
        observation,
        action,
        metadata={"episode_id": tfds.features.Scalar(np.int64, doc="number of the episode")},
        reward="rises from 0 to 1",
    )

    def generate(_: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(episodes):
            yield number, _example(specs, number, np.random.default_rng([seed, number]))

    def make_builder() -> EpisodeBuilder:
        return EpisodeBuilder(
            name="synthetic",
            specs=specs,
            features=features,
            arguments={"episodes": episodes, "seed": seed},
            episodes=generate,
            description="Smooth random curves; for debugging.",
            data_dir=folder,
        )

    return prepare_in_run(folder, make_builder)


def _example(specs: DatasetSpecs, number: int, rng: np.random.Generator) -> dict[str, Any]:
    length = int(rng.integers(40, 61))
    observation: dict[str, np.ndarray] = {}
    curves = []
    for feature in specs.observation.features:
        low = np.zeros(feature.size) if feature.low is None else np.asarray(feature.low)
        high = np.ones(feature.size) if feature.high is None else np.asarray(feature.high)
        curve = smooth_curve(rng, length + LEAD_STEPS, low, high)
        observation[feature.name] = curve[:length]
        curves.append(curve)
    for camera in specs.observation.cameras:
        shape = (length, camera.height, camera.width, 3)
        observation[camera.name] = _moving_square(shape, observation)
    low, high = np.asarray(specs.action.low), np.asarray(specs.action.high)
    target = smooth_curve(rng, length, low, high)
    if curves:
        size = min(specs.action.size, curves[0].shape[1])
        target[:, :size] = curves[0][LEAD_STEPS:, :size]
    return episode_example(
        observation=observation,
        action=np.clip(target, low, high).astype(np.float32),
        reward=np.linspace(0.0, 1.0, length, dtype=np.float32),
        success=False,
        metadata={"episode_id": number},
    )


def _moving_square(shape: tuple[int, int, int, int], observation: dict) -> np.ndarray:
    """White pictures with one dark square at the first feature's first two dimensions."""
    images = np.full(shape, 255, np.uint8)
    first = next(iter(observation.values()), np.zeros((shape[0], 2), np.float32))
    first = first[:, [0, -1]] if first.shape[1] < 2 else first[:, :2]  # [T, 2]
    spread = np.maximum(first.max(0) - first.min(0), 1e-6)
    side = max(shape[1] // 12, 1)
    corner = (first - first.min(0)) / spread * (np.array(shape[1:3]) - side)
    for image, (row, column) in zip(images, corner.astype(int), strict=True):
        image[row : row + side, column : column + side] = (30, 60, 160)
    return images


def synthetic_raw_episode(
    card: Card, length: int, seed: int, decode_images: bool = True
) -> Episode:
    """One episode of a published dataset's own fields, as `RldsDataset.episodes` yields it.

    Args:
        card: its `fields` say what there is.
        length: T.
        seed: determines everything.
        decode_images: False leaves images encoded: object arrays [T] of bytes.

    Returns:
        Nested dict: fields of the steps [T, ...], fields of the whole episode beside them. Frames
        were encoded and decoded once, so that a written and read episode is equal.

    Raises:
        ValueError: the card has no fields, or one of an unknown type.
    """
    episode: Episode = {}
    for field in _fields(card):
        values = synthetic_values(field, length, seed)
        if field.kind == "image" and decode_images:
            channels, frames = field.shape[-1] or 3, values if field.per_step else [values]
            pixels = np.stack([decode_pixels(f, channels, field.dtype) for f in frames])
            values = pixels if field.per_step else pixels[0]
        put(episode, field.path, values)
    return episode


def write_raw_dataset(
    folder: Path,
    card: Card,
    episodes: int,
    seed: int,
    *,
    file_format: str = "tfrecord",
    shards: int = 2,
) -> Path:
    """Writes `synthetic_raw_episode`s as the published dataset would lie on a disk.

    Args:
        folder: the dataset becomes folder/CARD.name/1.0.0, under its name only once complete.
        card: its `fields` say what there is.
        episodes: number of episodes of the split "train", 6 to 12 steps each.
        seed: of the first episode; episode i has seed + i.
        file_format: "tfrecord" or "array_record".
        shards: number of files, at most one an episode.

    Returns:
        The dataset's folder (with features.json), which this project's reader and TFDS read.

    Raises:
        ValueError: the card has no fields, or one of an unknown type.
    """
    fields = _fields(card)
    out = folder / card.name / RAW_VERSION
    partial = out.with_name(f"{RAW_VERSION}.incomplete")
    for leftover in (partial, out):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    tfds_features(fields).save_config(str(partial))
    parts = [p.tolist() for p in np.array_split(np.arange(episodes), min(shards, episodes))]
    sizes = []
    for index, numbers in enumerate(parts):
        records = [
            serialize_episode(_raw_episode(card, seed + number), fields) for number in numbers
        ]
        name = f"{card.name}-train.{file_format}-{index:05d}-of-{len(parts):05d}"
        sizes.append(_write_records(partial / name, file_format, records))
    info = {
        "name": card.name,
        "version": RAW_VERSION,
        "description": "Random curves in the layout of the published dataset; for tests.",
        "fileFormat": file_format,
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(sizes)),
                "shardLengths": [str(len(numbers)) for numbers in parts],
            }
        ],
    }
    (partial / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n")
    return partial.rename(out)


def _fields(card: Card) -> list[Field]:
    if not card.fields:
        raise ValueError(f"card {card.name!r} lists no raw fields: nothing to synthesise")
    return fields_of_types(card.fields)


def _raw_episode(card: Card, seed: int) -> Episode:
    length = int(np.random.default_rng(seed).integers(RAW_LENGTHS[0], RAW_LENGTHS[1] + 1))
    return synthetic_raw_episode(card, length, seed, decode_images=False)


def _write_records(path: Path, file_format: str, records: list[bytes]) -> int:
    if file_format == "tfrecord":
        path.write_bytes(b"".join(frame_record(record) for record in records))
    else:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
    return sum(len(record) for record in records)
