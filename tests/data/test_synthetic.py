"""Synthetic episodes: a real dataset that obeys its specs, the same for the same seed."""

from pathlib import Path

import numpy as np

from arp_jax.data.rlds import open_dataset
from arp_jax.data.synthetic import LEAD_STEPS, write_synthetic
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

OBSERVATION = ObservationSpec(
    features=(FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),),
    cameras=(CameraSpec("image", 24, 24),),
)
ACTION = ActionSpec(
    ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
)


def test_episodes_obey_the_specs_and_repeat(tmp_path: Path) -> None:
    read = []
    for name in ("one", "two"):
        folder = write_synthetic(tmp_path / name, OBSERVATION, ACTION, episodes=3, seed=5)
        dataset = open_dataset(folder)
        assert dataset.specs is not None
        assert dataset.specs.observation == OBSERVATION
        assert dataset.specs.action == ACTION
        read.append(list(dataset.episodes("train")))
        # A second call finds the dataset finished.
        assert write_synthetic(tmp_path / name, OBSERVATION, ACTION, episodes=3, seed=5) == folder
    assert len(read[0]) == 3
    for left, right in zip(*read, strict=True):
        np.testing.assert_array_equal(left["action"], right["action"])
        length = len(left["action"])
        assert 40 <= length <= 60
        assert left["observation"]["image"].shape == (length, 24, 24, 3)
        assert left["observation"]["image"].min() < 255
        assert left["action"].min() >= 0
        assert left["action"].max() <= 512
        # What a policy can learn: the action is where the agent will be.
        position = left["observation"]["agent_pos"]
        np.testing.assert_array_equal(left["action"][:-LEAD_STEPS], position[LEAD_STEPS:])
    assert not np.array_equal(read[0][0]["action"][:40], read[0][1]["action"][:40])
