"""TFDS builder: the human Push-T demonstrations of Diffusion Policy as RLDS.

In: a zarr replay (`formats/zarr_replay.py`). Out: one RLDS episode per recording, in recorded
order: 96x96 image, agent position, block pose, the eight corners that our simulator observes, the
nine keypoints of the recording, the action. Rewards are computed here, since the replay has none.
Run `build.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from arp_jax.data import episode_rlds, push_t_rlds, rlds_build
from arp_jax.data.formats.zarr_replay import Replay
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.coverage import coverage
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC

_DESCRIPTION = """\
206 demonstrations (25,650 steps at 10 Hz) by a human who moves a round pusher with the mouse until
a T-shaped block covers its outline, recorded for Diffusion Policy (Chi et al., RSS 2023). Positions
are pixels of a 512x512 world, y down; the action is the pusher's absolute target. reward =
clip(coverage / 0.95, 0, 1) of the block pose after the action; the pose after an episode's last
action was not recorded, so the last step repeats the value of its own pose.
"""
_CITATION = """\
@inproceedings{chi2023diffusionpolicy,
  title={Diffusion Policy: Visuomotor Policy Learning via Action Diffusion},
  author={Chi, Cheng and Feng, Siyuan and Du, Yilun and Xu, Zhenjia and Cousineau, Eric and
          Burchfiel, Benjamin and Song, Shuran},
  booktitle={Proceedings of Robotics: Science and Systems (RSS)},
  year={2023}
}
"""
_LICENSE = "MIT License, Copyright (c) 2023 Columbia Artificial Intelligence and Robotics Lab"


class PushT(tfds.core.GeneratorBasedBuilder):
    """Human Push-T demonstrations.

    Args:
        replay: the opened recordings; None only to look at the builder's info.
        **kwargs: of the TFDS builder, above all data_dir.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - TFDS's interface

    def __init__(self, *, replay: Replay | None = None, **kwargs: Any) -> None:
        self._replay = replay
        super().__init__(file_format="array_record", **kwargs)

    @property
    def arguments(self) -> dict[str, Any]:
        """What determines the result, for build.json."""
        if self._replay is None:
            raise ValueError("push_t: no replay was given; run datasets/push_t/build.py --replay")
        return {"replay_sha256": self._replay.digest}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=push_t_rlds.push_t_features(OBSERVATION_SPEC, ACTION_SPEC, recorded=True),
            homepage="https://diffusion-policy.cs.columbia.edu",
            citation=_CITATION,
            license=_LICENSE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        specs = DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC)
        rlds_build.write_sidecars(Path(self.data_dir), specs, self.arguments)
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        assert self._replay is not None  # `arguments` has checked it
        replay, bounds = self._replay, self._replay.bounds()
        # All steps at once: the compiled programs are specialised on the number of poses.
        poses = replay.arrays["state"].read(0, bounds[-1][1])[:, 2:]  # [N, 3]
        covered, corners = np.asarray(coverage(poses)), np.asarray(geometry.keypoints(poses))
        for number, (start, stop) in enumerate(tqdm(bounds, desc="push_t", unit="episode")):
            steps = slice(start, stop)
            yield number, _example(replay, number, steps, covered[steps], corners[steps])


def _example(
    replay: Replay, number: int, steps: slice, covered: np.ndarray, corners: np.ndarray
) -> dict[str, Any]:
    """Episode `number` as TFDS takes it; `covered` [T] and `corners` [T, 16] are of its poses."""
    values = {name: array.read(steps.start, steps.stop) for name, array in replay.arrays.items()}
    # The reward belongs to the state that the action leads to.
    after = np.append(covered[1:], covered[-1])
    observation = {
        "image": _to_uint8(values["img"], number),
        "agent_pos": values["state"][:, :2],
        "block_pose": values["state"][:, 2:],
        "keypoints": corners,
        "recorded_keypoints": values["keypoint"],
        "n_contacts": values["n_contacts"][:, 0],
    }
    return episode_rlds.episode_example(
        observation=observation,
        action=values["action"],
        reward=np.clip(after / geometry.SUCCESS_COVERAGE, 0.0, 1.0),
        success=bool(after[-1] > geometry.SUCCESS_COVERAGE),
        metadata={"episode_id": number, "max_coverage": covered.max()},
    )


def _to_uint8(pixels: np.ndarray, number: int) -> np.ndarray:
    """Images are stored as floats that hold integers 0 to 255."""
    image = pixels.astype(np.uint8)
    if not np.array_equal(image, pixels):
        raise ValueError(f"data/img of episode {number}: values must be whole numbers 0 to 255")
    return image
