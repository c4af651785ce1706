"""A few smooth random episodes in any spec's shape, written as a real RLDS dataset.

Flows in: an observation spec and an action spec. Flows out: a TFDS folder that the packer reads
like any other. For debugging and tests: the numbers obey the specs and the actions can be learned,
but no physics made them, so a policy trained on them does nothing useful.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rlds_build import EpisodeBuilder, prepare_in_run
from arp_jax.specs import ActionSpec, ObservationSpec

# The commanded target is where the observed features will be this many steps later.
LEAD_STEPS = 2


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
        curve = _curve(rng, length + LEAD_STEPS, low, high)
        observation[feature.name] = curve[:length]
        curves.append(curve)
    for camera in specs.observation.cameras:
        shape = (length, camera.height, camera.width, 3)
        observation[camera.name] = _moving_square(shape, observation)
    low, high = np.asarray(specs.action.low), np.asarray(specs.action.high)
    target = _curve(rng, length, low, high)
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


def _curve(rng: np.random.Generator, length: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A slow sine per dimension inside the middle 80 % of [low, high]: float32 [length, D]."""
    size = low.shape[0]
    phase, cycles = rng.uniform(0, 2 * np.pi, size), rng.uniform(0.5, 1.5, size)
    time = np.arange(length)[:, None] / length  # [T, 1]
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * cycles * time + phase)  # [T, D]
    return (low + (high - low) * wave).astype(np.float32)


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
