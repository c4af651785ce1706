"""The dataset that benchmarks/loader.py reads: camera frames as a robot's camera gives them.

Drawn, not recorded: every episode has a textured background (noise of all scales, amplitude falling
with frequency, as in photographs), shaded shapes that move over it, and a little sensor noise. As
JPEG of quality 90 a 256 x 256 frame takes about 15 kB, as frames of public robot datasets do.
Written as a TFDS folder of TFRecord shards, which every RLDS loader reads.
"""

import functools
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from arp_jax.data.episode_rlds import episode_features
from arp_jax.data.images import encode_image
from arp_jax.data.processes import run_jobs
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rlds_features import fields_from_json
from arp_jax.data.tf_example_write import serialize_episode
from arp_jax.data.tfrecord import frame_record
from arp_jax.data.threads import available_cores
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

NAME, VERSION = "loader_frames", "1.0.0"
SIZE = 256  # pixels, both sides
QUALITY = 90
EPISODE_STEPS = 40
FILE_EPISODES = 10
SHAPES = 6
NOISE = 2.0  # standard deviation, gray levels
_LABELS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
SPECS = DatasetSpecs(
    ObservationSpec(
        features=(FeatureSpec("state", _LABELS, "mixed", "base"),),
        cameras=(CameraSpec("image", SIZE, SIZE),),
    ),
    ActionSpec(_LABELS, "mixed", "base", (False,) * 6 + (True,), (-1.0,) * 7, (1.0,) * 7, 5.0),
)


def write_frames(folder: Path, episodes: int, seed: int = 0) -> Path:
    """Writes FOLDER/loader_frames/1.0.0, or finds it; returns it."""
    out = folder / NAME / VERSION
    if (out / "dataset_info.json").is_file():
        return out
    out.mkdir(parents=True, exist_ok=True)
    SPECS.write(out)
    features = episode_features(
        SPECS.observation,
        SPECS.action,
        metadata={"episode_id": tfds.features.Scalar(np.int64, doc="number of the episode")},
        reward="1 at the end",
        language=True,
        image_format="jpeg",
    )
    features.save_config(out)
    files = -(-episodes // FILE_EPISODES)
    write = functools.partial(_write_file, out, files, episodes, seed)
    lengths = dict(run_jobs(write, range(files), available_cores()))
    split = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "shardLengths": [str(lengths[number]) for number in range(files)],
        "numBytes": str(sum(path.stat().st_size for path in out.glob("*.tfrecord-*"))),
    }
    info = {
        "name": NAME,
        "version": VERSION,
        "description": "Drawn frames for measuring loaders.",
        "fileFormat": "tfrecord",
        "splits": [split],
    }
    (out / "dataset_info.json").write_text(json.dumps(info) + "\n")
    return out


def _write_file(out: Path, files: int, episodes: int, seed: int, number: int) -> tuple[int, int]:
    fields = fields_from_json(json.loads((out / "features.json").read_text())).values()
    begin, end = number * FILE_EPISODES, min((number + 1) * FILE_EPISODES, episodes)
    records = [
        frame_record(serialize_episode(_episode(i, np.random.default_rng([seed, i])), fields))
        for i in range(begin, end)
    ]
    (out / f"{NAME}-train.tfrecord-{number:05d}-of-{files:05d}").write_bytes(b"".join(records))
    return number, end - begin


def _episode(number: int, rng: np.random.Generator) -> dict:
    """One episode as `serialize_episode` takes it."""
    steps = np.arange(EPISODE_STEPS)
    last = steps == EPISODE_STEPS - 1
    texture, shapes = background(rng), [_shape(rng) for _ in range(SHAPES)]
    frames = [encode_image(frame(texture, shapes, t, rng), "jpeg", QUALITY) for t in steps]
    walk = np.cumsum(rng.normal(0, 0.02, (EPISODE_STEPS + 1, 7)), axis=0).astype(np.float32)
    return {
        "observation": {"state": walk[:-1], "image": frames},
        "action": np.diff(walk, axis=0),
        "reward": last.astype(np.float32),
        "discount": np.ones(EPISODE_STEPS, np.float32),
        "is_first": steps == 0,
        "is_last": last,
        "is_terminal": last,
        "language_instruction": [f"move shape {number % SHAPES}"] * EPISODE_STEPS,
        "episode_metadata": {"episode_id": number},
    }


def background(rng: np.random.Generator) -> np.ndarray:
    """A texture, float32 [SIZE, SIZE, 3]: octaves of smooth noise with falling amplitude."""
    out = np.full((SIZE, SIZE, 3), 128.0, np.float32)
    for octave in range(1, 8):
        grid = rng.normal(0, 60 / 1.6**octave, (2**octave + 1, 2**octave + 1, 3))
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel].astype(np.float32))
            out[..., channel] += np.asarray(layer.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return out


def _shape(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Color, radii and motion of one ellipse; lengths in pixels, speeds in radians a step."""
    return {
        "color": rng.uniform(20, 235, 3),
        "radii": rng.uniform(8, 40, 2),
        "center": rng.uniform(60, SIZE - 60, 2),
        "swing": rng.uniform(10, 60, 2),
        "speed": rng.uniform(0.03, 0.15, 2),
        "phase": rng.uniform(0, 2 * np.pi, 2),
    }


def frame(
    texture: np.ndarray, shapes: list[dict[str, np.ndarray]], t: int, rng: np.random.Generator
) -> np.ndarray:
    """The picture at step t: uint8 [SIZE, SIZE, 3]."""
    pixels = texture.copy()
    grid = np.mgrid[:SIZE, :SIZE].astype(np.float32)  # [2, SIZE, SIZE]
    for shape in shapes:
        center = shape["center"] + shape["swing"] * np.sin(shape["speed"] * t + shape["phase"])
        away = np.square((grid - center[:, None, None]) / shape["radii"][:, None, None]).sum(0)
        inside = away < 1
        shade = 1 - 0.5 * away[inside, None]  # darker towards the rim
        pixels[inside] = 0.15 * pixels[inside] + 0.85 * shape["color"] * shade
    pixels += rng.normal(0, NOISE, (SIZE, SIZE, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)
