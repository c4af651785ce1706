"""Headers and steps of a small arm with two cameras, for tests of the episode log."""

import time

import numpy as np

from arp_jax.data.images import encode_image
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec
from robot_bridge.log.episode_log import EpisodeLogWriter, Header, Step

JOINTS = ("j1", "j2", "gripper")
OBSERVATION = ObservationSpec(
    (FeatureSpec("state", JOINTS, "rad, gripper 0..1", "joint"),),
    (CameraSpec("image", 8, 12), CameraSpec("wrist_image", 6, 6)),
)
ACTION = ActionSpec(
    JOINTS, "rad", "joint", (True,) * 3, (-3.0, -3.0, 0.0), (3.0, 3.0, 1.0), 10.0, "open=1"
)
HEADER = Header(OBSERVATION, ACTION, "put the cube in the box", {"name": "toy"}, {"arp_jax": "1"})


def make_step(number, *, seed=0, source="policy", flags=(), image_format="png"):
    """Step `number` of a recording; the wrist camera delivers every second step only."""
    rng = np.random.default_rng((seed, number))
    wrist = np.random.default_rng((seed, number // 2, 1))
    pictures = {
        "image": rng.integers(0, 256, (8, 12, 3), dtype=np.uint8),
        "wrist_image": wrist.integers(0, 256, (6, 6, 3), dtype=np.uint8),
    }
    command = rng.uniform(-1, 1, 3).astype(np.float32)
    return Step(
        time_ns=number * 100_000_000,
        vectors={"state": rng.uniform(-1, 1, 3).astype(np.float32)},
        frames={name: encode_image(pixels, image_format) for name, pixels in pictures.items()},
        frame_times_ns={"image": number * 100_000_000 - 5, "wrist_image": number // 2},
        command=command,
        command_time_ns=number * 100_000_000 + 7,
        proposed=command + np.float32(0.1) if flags else None,
        achieved=rng.uniform(-1, 1, 3).astype(np.float32),
        achieved_time_ns=number * 100_000_000 + 9,
        source=source,
        flags=flags,
    )


def write_log(path, count=6, **kwargs):
    """A whole log with a correction by a person during steps 2 and 3, ending in success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with EpisodeLogWriter(path, HEADER) as log:
        for number in range(count):
            taken = 2 <= number < 4
            if number in (2, 4):
                log.marker("intervention_begin" if taken else "intervention_end", "grasp")
            log.step(make_step(number, source="takeover" if taken else "policy", **kwargs))
        log.marker("success")
    return path


def write_until_killed(path):
    """Steps for as long as the process lives; prints the number of each that was logged."""
    log = EpisodeLogWriter(path, HEADER)
    for number in range(100_000):
        log.step(make_step(number))
        print(number, flush=True)
        time.sleep(0.001)
