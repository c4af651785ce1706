"""A small good dataset of a two-finger arm, and the means to spoil it in one place.

Six joints and a gripper follow their targets with a lag, as a real arm does; a camera shows a
square that moves with the first two joints. Episodes are the raw nested dicts that the reader
yields, so a test may spoil anything before they are written.
"""

import copy
import functools
import json
from pathlib import Path

import numpy as np

from arp_jax.data.images import encode_image
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.source import open_source
from arp_jax.data.synthetic_features import fields_of_types, tfds_features
from arp_jax.data.tf_example_write import serialize_episode
from arp_jax.data.tfrecord import frame_record
from arp_jax.data.validate import validate
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

DIMS = (*(f"joint_{i}" for i in range(6)), "gripper")
LOW, HIGH = (*[-3.0] * 6, 0.0), (*[3.0] * 6, 1.0)
RATE = 20.0
HEIGHT, WIDTH = 48, 64
ARM_SPECS = DatasetSpecs(
    ObservationSpec(
        (FeatureSpec("state", DIMS, "rad, gripper 0..1", "joint", LOW, HIGH),),
        (CameraSpec("image", HEIGHT, WIDTH),),
    ),
    ActionSpec(DIMS, "rad", "joint", (True,) * 7, LOW, HIGH, RATE, "open=1"),
)
TYPES = {
    "observation/image": f"image[{HEIGHT},{WIDTH},3]:jpeg",
    "observation/state": "float32[7]",
    "observation/timestamp": "float64",
    "action": "float32[7]",
    "language_instruction": "text",
    "reward": "float32",
    "is_first": "bool",
    "is_last": "bool",
    "is_terminal": "bool",
}
SENTENCES = ("open the drawer", "close the drawer")


def arm_episodes(count=10, seed=0):
    """Raw episodes of 40 to 60 steps, pictures encoded; the caller may change them."""
    return copy.deepcopy(_made(count, seed))


@functools.cache
def _made(count, seed):
    return [_episode(np.random.default_rng([seed, number]), number) for number in range(count)]


def _episode(rng, number):
    length = int(rng.integers(40, 61))
    time = np.arange(length)[:, None] / RATE
    frequency, phase = rng.uniform(0.3, 0.6, 6), rng.uniform(0, 6.28, 6)
    joints = 0.8 * np.sin(2 * np.pi * frequency * time + phase) + rng.uniform(-0.5, 0.5, 6)
    # Opens in the first half, closes in the second, over a few steps.
    gripper = 1 / (1 + np.exp((np.arange(length) - length / 2) / 1.5))
    action = np.concatenate([joints, gripper[:, None]], axis=1)
    state = np.empty_like(action)
    state[0] = action[0]
    for t in range(1, length):
        state[t] = state[t - 1] + 0.5 * (action[t - 1] - state[t - 1])
    state[:, :6] += rng.normal(0, 1e-4, (length, 6))
    flags = np.arange(length)
    return {
        "observation": {
            "image": _pictures(state),
            "state": state.astype(np.float32),
            "timestamp": np.arange(length) / RATE,
        },
        "action": action.astype(np.float32),
        "language_instruction": np.array([SENTENCES[number % 2]] * length),
        "reward": np.zeros(length, np.float32),
        "is_first": flags == 0,
        "is_last": flags == length - 1,
        "is_terminal": flags == length - 1,
    }


def _pictures(state):
    frames = np.empty(len(state), object)
    ramp = np.linspace(40, 200, WIDTH, dtype=np.uint8)
    for t, joints in enumerate(state):
        pixels = np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)).copy()
        row, column = ((joints[:2] + 1.5) / 3 * (HEIGHT - 12)).astype(int).clip(0, HEIGHT - 12)
        pixels[row : row + 12, column : column + 12] = (255, int(2 * t), 0)
        frames[t] = encode_image(pixels, "jpeg")
    return frames


def write_raw_episodes(folder: Path, episodes, specs=ARM_SPECS, types=None, shards=2) -> Path:
    """Writes episodes as the split "train" of TFRecord shards; returns folder/arm/1.0.0."""
    out = folder / "arm" / "1.0.0"
    out.mkdir(parents=True)
    fields = fields_of_types(types or TYPES)
    tfds_features(fields).save_config(str(out))
    parts = np.array_split(np.arange(len(episodes)), shards)
    for index, numbers in enumerate(parts):
        records = [frame_record(serialize_episode(episodes[n], fields)) for n in numbers]
        (out / f"arm-train.tfrecord-{index:05d}-of-{shards:05d}").write_bytes(b"".join(records))
    lengths = [str(len(numbers)) for numbers in parts]
    info = {"name": "arm", "version": "1.0.0", "fileFormat": "tfrecord"}
    info["splits"] = [{"name": "train", "shardLengths": lengths}]
    (out / "dataset_info.json").write_text(json.dumps(info))
    if specs is not None:
        specs.write(out)
    return out


def findings_of(folder, workers=1):
    """Every finding of the split "train"."""
    return validate(open_source(folder), workers=workers, progress=False).findings
