"""The handwritten digits of scikit-learn as pen episodes, written as a real RLDS dataset.

In: `sklearn.datasets.load_digits`, 1797 images of 8 x 8 with values 0..16. Out: a TFDS folder with
one episode an image and one step a lit pixel: the observation is the class, the action the pixel
(row, column). The pen visits the lit pixels in raster order, then rests on the last one until every
episode has the same length, so an episode is exactly one training example.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rlds_build import EpisodeBuilder, prepare_in_run
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec

SIZE = 8
CLASSES = 10
# A pixel is lit above half of the range 0..16, the published rule. Of all thresholds this is also
# the one at which a support vector machine still tells the digits apart best (93.1 %).
THRESHOLD = 8
# The fullest image at this threshold has 27 lit pixels (the emptiest 10, 18.7 on average).
MOST_PIXELS = 27

OBSERVATION_SPEC = ObservationSpec(
    features=(FeatureSpec("digit", ("class",), "1", "image", (0.0,), (CLASSES - 1.0,)),)
)
ACTION_SPEC = ActionSpec(
    dims=("row", "column"),
    unit="px",
    frame="image",
    absolute=(True, True),
    low=(0.0, 0.0),
    high=(SIZE - 1.0, SIZE - 1.0),
    rate_hz=1.0,  # a step is a pixel; there is no time
)


def binary_digits() -> tuple[np.ndarray, np.ndarray]:
    """All images as bool [1797, 8, 8] in their published order, and their classes int64 [1797]."""
    digits = load_digits()
    return digits.images > THRESHOLD, digits.target.astype(np.int64)


def pixel_list(image: np.ndarray, length: int) -> np.ndarray:
    """Lit pixels of a bool image [h, w] in raster order, the last one repeated: int64 [length, 2].

    Raises:
        ValueError: no pixel is lit, or more than `length` are.
    """
    pixels = np.argwhere(image)
    if not 1 <= len(pixels) <= length:
        raise ValueError(f"an image has {len(pixels)} lit pixels; 1 .. {length} can be listed")
    return np.concatenate([pixels, np.repeat(pixels[-1:], length - len(pixels), axis=0)])


def paint(pixels: np.ndarray) -> np.ndarray:
    """Inverse of `pixel_list` for any order and repeats: [..., N, 2] -> bool images [..., 8, 8]."""
    index = np.rint(np.asarray(pixels)).astype(np.int64)
    flat = index[..., 0] * SIZE + index[..., 1]  # [..., N]
    lit = (flat[..., None] == np.arange(SIZE * SIZE)).any(axis=-2)
    return lit.reshape(*lit.shape[:-1], SIZE, SIZE)


def write_digits(folder: Path, length: int) -> Path:
    """Writes the dataset to folder/digits/1.0.0, or finds it finished.

    Args:
        folder: the run directory (TFDS data_dir).
        length: steps of every episode, `config.horizon`; at least `MOST_PIXELS`.

    Returns:
        The dataset's folder (with features.json).

    Raises:
        ValueError: an image has more lit pixels, or the folder was written with another length.
    """
    if length < MOST_PIXELS:
        raise ValueError(
            f"config.horizon {length} is too short for the digits: the fullest image has "
            f"{MOST_PIXELS} lit pixels"
        )
    doc = "place of the image in load_digits()"
    features = episode_features(
        OBSERVATION_SPEC,
        ACTION_SPEC,
        metadata={"image_id": tfds.features.Scalar(np.int64, doc=doc)},
        reward="1 on the last step, else 0",
    )

    def make_builder() -> EpisodeBuilder:
        return EpisodeBuilder(
            name="digits",
            specs=DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC),
            features=features,
            arguments={"length": length, "threshold": THRESHOLD},
            episodes=lambda _: _examples(length),
            description="Handwritten digits as lists of lit pixels.",
            data_dir=folder,
        )

    return prepare_in_run(folder, make_builder)


def _examples(length: int) -> Iterator[tuple[int, dict[str, Any]]]:
    reward = np.zeros(length, np.float32)
    reward[-1] = 1.0
    for number, (image, digit) in enumerate(zip(*binary_digits(), strict=True)):
        yield (
            number,
            episode_example(
                observation={"digit": np.full((length, 1), digit, np.float32)},
                action=pixel_list(image, length).astype(np.float32),
                reward=reward,
                success=True,
                metadata={"image_id": number},
            ),
        )
