"""Our keyframes against the published rule's, for every demonstration of a golden file."""

import numpy as np

from arp_jax.data.keyframes import find_keyframes
from tests.golden_files import GoldenCheck

Arrays = dict[str, np.ndarray]


def check_keyframes(data: Arrays, check: GoldenCheck) -> None:
    """Compare every demonstration ``N/gripper_open``, ``N/joint_velocities`` -> ``N/keypoints``."""
    demos = sorted({key.split("/")[0] for key in data}, key=int)
    for demo in demos:
        gripper, velocities = data[f"{demo}/gripper_open"], data[f"{demo}/joint_velocities"]
        found = np.asarray(find_keyframes(gripper, velocities))
        check.compare(f"{demo}/keypoints", found, data[f"{demo}/keypoints"])
