"""The RLDS form of Push-T, shared by the builders of human and of planned demonstrations.

In: specs and the arrays of one episode. Out: the TFDS features (`episode_rlds.py` with the metadata
of Push-T) and a summary of a finished folder. Where the arrays come from is the builders' business,
`datasets/push_t*/`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.episode_rlds import episode_features
from arp_jax.data.rlds import open_dataset
from arp_jax.specs import ActionSpec, ObservationSpec

# Stored but in no spec: they exist in the human recordings only.
RECORDED_SHAPES: dict[str, tuple[int, ...]] = {"recorded_keypoints": (9, 2), "n_contacts": ()}


def push_t_features(
    observation: ObservationSpec, action: ActionSpec, recorded: bool
) -> tfds.features.FeaturesDict:
    """TFDS features of a Push-T dataset.

    Args:
        observation: vector features (float32) and cameras (uint8, PNG) of a step.
        action: the action (float32).
        recorded: True for human recordings (adds `RECORDED_SHAPES`), False for planned
            demonstrations (adds the raw initial condition to the episode's metadata).
    """
    metadata: dict[str, Any] = {
        "episode_id": tfds.features.Scalar(
            np.int64, doc="number of the recording, or planner seed"
        ),
        "max_coverage": tfds.features.Scalar(np.float32, doc="largest share of the goal covered"),
    }
    if not recorded:
        doc = "raw reset draw: agent x, y, block x, y (px), angle (rad)"
        metadata["initial"] = tfds.features.Tensor(shape=(5,), dtype=np.float32, doc=doc)
    return episode_features(
        observation,
        action,
        metadata=metadata,
        reward="clip(coverage / 0.95) after the action",
        recorded=RECORDED_SHAPES if recorded else None,
    )


def summary(folder: Path) -> str:
    """Counts of a finished dataset, read back from its files, as a few printable lines."""
    dataset = open_dataset(folder)
    lengths, coverages = [], []
    for episode in dataset.episodes("train", ["is_first", "episode_metadata/max_coverage"]):
        lengths.append(len(episode["is_first"]))
        coverages.append(float(episode["episode_metadata"]["max_coverage"]))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return (
        f"dataset   {folder}\n"
        f"episodes  {len(lengths)} ({min(lengths)} to {max(lengths)} steps)\n"
        f"steps     {sum(lengths)}\n"
        f"coverage  median of the episodes' maxima {np.median(coverages):.3f}\n"
        f"size      {size:.1f} MB"
    )
