"""Writes small TFDS folders by hand, so that tests of packing need neither TFDS nor TensorFlow."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

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


def synthetic_episodes(lengths, seed=0):
    """Episodes {"agent_pos" [T, 2], "image" [T, 4, 4, 3], "action" [T, 2]} in pixels."""
    rng = np.random.default_rng(seed)
    return [
        {
            "agent_pos": rng.uniform(0, 512, (length, 2)).astype(np.float32),
            "image": rng.integers(0, 256, (length, 4, 4, 3), dtype=np.uint8),
            "action": rng.uniform(0, 512, (length, 2)).astype(np.float32),
        }
        for length in lengths
    ]


def write_folder(folder: Path, episodes) -> Path:
    """Writes the episodes as split "train" in one TFRecord shard; returns the folder."""
    folder.mkdir(parents=True)
    tensor = {"pythonClassName": "Tensor", "tensor": _tensor([2], "float32")}
    image = {
        "pythonClassName": "Image",
        "image": {**_tensor([4, 4, 3], "uint8"), "encodingFormat": "png"},
    }
    observation = _dict({"agent_pos": tensor, "image": image})
    steps = {"sequence": {"feature": _dict({"observation": observation, "action": tensor})}}
    (folder / "features.json").write_text(json.dumps(_dict({"steps": steps})))
    split = {"name": "train", "shardLengths": [str(len(episodes))]}
    info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC).write(folder)
    records = [frame_record(_example(episode)) for episode in episodes]
    (folder / "toy-train.tfrecord-00000-of-00001").write_bytes(b"".join(records))
    return folder


def _dict(features):
    return {"featuresDict": {"features": features}, "pythonClassName": "FeaturesDict"}


def _tensor(shape, dtype):
    return {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encoding": "none"}


def _example(episode) -> bytes:
    """A serialised tf.train.Example: Features is field 1, its map entries field 1 again."""
    images = [_field(1, _png(image)) for image in episode["image"]]
    features = {
        "steps/observation/agent_pos": _floats(episode["agent_pos"]),
        "steps/action": _floats(episode["action"]),
        "steps/observation/image": _field(1, b"".join(images)),
    }
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


def _png(image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()
