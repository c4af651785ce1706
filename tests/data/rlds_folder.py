"""Writes small TFDS folders by hand, so that tests of packing need neither TFDS nor TensorFlow."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from arp_jax.data.images import encode_image, image_size
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.tfrecord import frame_record
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

OBSERVATION_SPEC = ObservationSpec(
    features=(FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),),
    cameras=(CameraSpec("image", 4, 4),),
)
ACTION_SPEC = ActionSpec(
    ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
)


def synthetic_episodes(lengths, seed=0, size=4):
    """Episodes {"agent_pos" [T, 2], "image" [T, size, size, 3], "action" [T, 2]} in pixels."""
    rng = np.random.default_rng(seed)
    return [
        {
            "agent_pos": rng.uniform(0, 512, (length, 2)).astype(np.float32),
            "image": rng.integers(0, 256, (length, size, size, 3), dtype=np.uint8),
            "action": rng.uniform(0, 512, (length, 2)).astype(np.float32),
        }
        for length in lengths
    ]


def write_folder(folder: Path, episodes, *, files=1, instructions=None, image_format="png") -> Path:
    """Writes the episodes as split "train" in TFRecord shards; returns the folder.

    Args:
        folder: made.
        episodes: of `synthetic_episodes`; each picture may also be given encoded.
        files: number of shards, of equal numbers of episodes.
        instructions: one sentence an episode; None stores no language.
        image_format: "png" or "jpeg", of pictures that are given as pixels.
    """
    folder.mkdir(parents=True)
    first = episodes[0]["image"][0]
    height, width = image_size(first) if isinstance(first, bytes) else first.shape[:2]
    camera = dataclasses.replace(OBSERVATION_SPEC.cameras[0], height=height, width=width)
    tensor = {"pythonClassName": "Tensor", "tensor": _tensor([2], "float32")}
    image = {
        "pythonClassName": "Image",
        "image": {**_tensor([height, width, 3], "uint8"), "encodingFormat": image_format},
    }
    observation = _dict({"agent_pos": tensor, "image": image})
    step = {"observation": observation, "action": tensor}
    if instructions is not None:
        step["language_instruction"] = {"pythonClassName": "Text", "text": {}}
    steps = {"sequence": {"feature": _dict(step)}}
    (folder / "features.json").write_text(json.dumps(_dict({"steps": steps})))
    lengths = [len(part) for part in np.array_split(np.arange(len(episodes)), files)]
    split = {"name": "train", "shardLengths": [str(n) for n in lengths]}
    info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    DatasetSpecs(dataclasses.replace(OBSERVATION_SPEC, cameras=(camera,)), ACTION_SPEC).write(
        folder
    )
    start = 0
    for number, length in enumerate(lengths):
        records = [
            frame_record(_example(episodes[i], instructions and instructions[i], image_format))
            for i in range(start, start + length)
        ]
        path = folder / f"toy-train.tfrecord-{number:05d}-of-{files:05d}"
        path.write_bytes(b"".join(records))
        start += length
    return folder


def _dict(features):
    return {"featuresDict": {"features": features}, "pythonClassName": "FeaturesDict"}


def _tensor(shape, dtype):
    return {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encoding": "none"}


def _example(episode, instruction, image_format) -> bytes:
    """A serialised tf.train.Example: Features is field 1, its map entries field 1 again."""
    images = [
        _field(1, picture if isinstance(picture, bytes) else encode_image(picture, image_format))
        for picture in episode["image"]
    ]
    features = {
        "steps/observation/agent_pos": _floats(episode["agent_pos"]),
        "steps/action": _floats(episode["action"]),
        "steps/observation/image": _field(1, b"".join(images)),
    }
    if instruction is not None:
        text = _field(1, instruction.encode())
        features["steps/language_instruction"] = _field(1, text * len(episode["action"]))
    entries = (_field(1, k.encode()) + _field(2, v) for k, v in features.items())
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def _floats(array) -> bytes:
    return _field(2, _field(1, np.asarray(array, "<f4").tobytes()))


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
