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

from arp_jax.data import push_t_rlds
from arp_jax.data.rlds import DatasetSpecs
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

    def make_builder() -> Synthetic:
        return Synthetic(
            observation=observation, action=action, episodes=episodes, seed=seed, data_dir=folder
        )

    return push_t_rlds.prepare_in_run(folder, make_builder)


class Synthetic(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of the synthetic episodes."""

    VERSION = tfds.core.Version("1.0.0")
    # Where TFDS looks for checksums of downloads; there are none.
    code_path = None

    def __init__(
        self,
        *,
        observation: ObservationSpec,
        action: ActionSpec,
        episodes: int,
        seed: int,
        **kwargs: Any,
    ) -> None:
        self._specs = DatasetSpecs(observation, action)
        self.arguments = {"episodes": episodes, "seed": seed}
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = push_t_rlds.push_t_features(
            self._specs.observation, self._specs.action, recorded=False
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Smooth random curves; for debugging.",
            features=features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        push_t_rlds.write_sidecars(Path(self.data_dir), self._specs, self.arguments)
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(self.arguments["episodes"]):
            rng = np.random.default_rng([self.arguments["seed"], number])
            yield number, _example(self._specs, number, rng)


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
    return push_t_rlds.push_t_example(
        observation=observation,
        action=np.clip(target, low, high).astype(np.float32),
        reward=np.linspace(0.0, 1.0, length, dtype=np.float32),
        success=False,
        metadata={
            "episode_id": number,
            "max_coverage": np.float32(1.0),
            "initial": np.zeros(5, np.float32),
        },
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
