"""A toy dataset with two cameras, as canonical arrays, as RLDS and as LeRobot v2.1."""

import functools
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.formats.video import encode_video
from arp_jax.data.images import encode_image
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rlds_write import Conversion, convert
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

RATE = 15
LENGTHS = (7, 4, 9, 1, 6)
JOINTS = ("shoulder", "elbow", "gripper")
OBSERVATION = ObservationSpec(
    features=(
        FeatureSpec("state", JOINTS, "rad", "joint"),
        FeatureSpec("force", ("force",), "N", "base"),
    ),
    cameras=(CameraSpec("image", 48, 64), CameraSpec("wrist_image", 32, 32)),
)
ACTION = ActionSpec(
    JOINTS, "rad", "joint", (True,) * 3, (-4.0,) * 3, (4.0,) * 3, float(RATE), "open=1"
)
SPECS = DatasetSpecs(OBSERVATION, ACTION)


def pictures(episode, steps, height, width):
    """uint8 [T, H, W, 3]: smooth, so that codecs keep it; no two frames of any episode alike."""
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    frames = []
    for step in range(steps):
        waves = [np.sin(4 * x + step / 3 + 2 * y), np.cos(5 * y + episode + x), 0 * x * y]
        plain = np.stack(waves, axis=-1) * 60 + 128
        # The last channel tells the frame by its brightness, in steps that survive compression.
        plain[..., 2] = 20 + 9 * (7 * episode + step) % 216
        frames.append(plain.astype(np.uint8))
    return np.stack(frames)


def toy_episode(number):
    """Episode `number`: arrays under our names, and two wordings, one or none."""
    rng, steps = np.random.default_rng(number), LENGTHS[number]
    wordings = [("open the drawer", "pull the drawer"), ("close the drawer",), ()][number % 3]
    return {
        "state": rng.normal(size=(steps, 3)).astype(np.float32),
        "force": rng.normal(size=(steps, 1)).astype(np.float32),
        "image": pictures(number, steps, 48, 64),
        "wrist_image": pictures(number + 3, steps, 32, 32),
        "action": rng.uniform(-2, 2, (steps, 3)).astype(np.float32),
        "reward": rng.uniform(size=steps).astype(np.float32),
        "success": number % 2 == 0,
        "language": wordings,
    }


def read_rlds(number, broken=None):
    """Episode `number` as an RLDS example; `broken` has a truncated picture in step 2."""
    episode = toy_episode(number)
    observation = {
        name: [encode_image(frame, "png") for frame in episode[name]]
        if name in ("image", "wrist_image")
        else episode[name]
        for name in OBSERVATION.names
    }
    if number == broken:
        observation["wrist_image"][2] = observation["wrist_image"][2][:-40]
    steps, texts = LENGTHS[number], [*episode["language"], "", ""]
    keys = ("language_instruction", "language_instruction_2")
    return episode_example(
        observation,
        episode["action"],
        episode["reward"],
        episode["success"],
        {"episode_id": number},
        extra={key: [text] * steps for key, text in zip(keys, texts, strict=False)},
    )


def write_rlds(out: Path, broken: int | None = None) -> Path:
    """The dataset as an RLDS folder."""
    text = tfds.features.Text()
    features = episode_features(
        OBSERVATION,
        ACTION,
        metadata={"episode_id": np.int64},
        reward="any",
        extra={"language_instruction": text, "language_instruction_2": text},
    )
    read = functools.partial(read_rlds, broken=broken)
    return convert(
        out,
        Conversion("toy", SPECS, features, "Toy.", {}),
        range(len(LENGTHS)),
        read,
        workers=1,
        spot_checks=0,
        progress=False,
    )


def v21_info(complete: bool):
    """info.json of v2.1, with the forms of names and shapes that are found in published sets."""
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": [*JOINTS]}},
        "observation.images.top": {
            "dtype": "video", "shape": [3, 48, 64], "names": ["channels", "height", "width"],
            "info": {"video.fps": RATE, "video.codec": "h264"},
        },
        "observation.image": {
            "dtype": "image", "shape": [32, 32, 3], "names": ["height", "width", "channel"],
        },
        "observation.images.far": {
            "dtype": "video", "shape": [8, 8, 1], "names": None,
            "info": {"video.is_depth_map": True},
        },
        "action": {"dtype": "float32", "shape": [3], "names": None},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }  # fmt: skip
    if complete:
        del features["observation.images.far"]
    for key in ("frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": "v2.1", "robot_type": "so101", "fps": RATE, "chunks_size": 3,
        "total_episodes": len(LENGTHS), "total_frames": sum(LENGTHS), "total_tasks": 2,
        "total_videos": 5, "total_chunks": 2, "splits": {"train": "0:5"}, "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path":
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip


def write_v21_episode(folder: Path, number: int) -> None:
    """The parquet file and the video of an episode."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    episode, steps, chunk = toy_episode(number), LENGTHS[number], f"chunk-{number // 3:03d}"
    images = [{"bytes": encode_image(p, "png"), "path": None} for p in episode["wrist_image"]]
    table = pa.table(
        {
            "observation.state": pa.array(list(episode["state"])),  # a plain list column
            "observation.image": images,
            "action": pa.FixedSizeListArray.from_arrays(episode["action"].reshape(-1), 3),
            "next.reward": episode["reward"],
            "timestamp": (np.arange(steps) / RATE).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": sum(LENGTHS[:number]) + np.arange(steps),
            "task_index": np.full(steps, number % 2),
        }
    )
    data = folder / f"data/{chunk}/episode_{number:06d}.parquet"
    video = folder / f"videos/{chunk}/observation.images.top/episode_{number:06d}.mp4"
    for path in (data, video):
        path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, data)
    encode_video(video, iter(episode["image"]), RATE)


def write_v21(folder: Path, complete: bool = False) -> Path:
    """The dataset as LeRobot wrote it before v3.0: a video, and pictures inside of parquet.

    Unless `complete`, it also lists a depth map whose files are absent.
    """
    tasks = ["open the drawer", "close the drawer"]
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(v21_info(complete)))
    episodes, stats = [], []
    for number, steps in enumerate(LENGTHS):
        write_v21_episode(folder, number)
        episodes.append({"episode_index": number, "tasks": [tasks[number % 2]], "length": steps})
        action = toy_episode(number)["action"]
        entry = {k: getattr(action, k)(0).tolist() for k in ("min", "max", "mean", "std")}
        entry["count"] = [steps]
        stats.append({"episode_index": number, "stats": {"action": entry}})
    lists = {
        "tasks": [{"task_index": n, "task": task} for n, task in enumerate(tasks)],
        "episodes": episodes,
        "episodes_stats": stats,
    }
    for name, entries in lists.items():
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (folder / f"meta/{name}.jsonl").write_text(text)
    return folder


def psnr(left, right):
    """Peak signal-to-noise ratio (dB) of uint8 pictures of one size."""
    error = np.square(left.astype(float) - right.astype(float)).mean()
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)
