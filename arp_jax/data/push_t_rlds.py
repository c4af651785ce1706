"""The RLDS form of Push-T, shared by the builders of human and of planned demonstrations.

In: arrays of one episode. Out: the TFDS features, the example that a TFDS builder yields, and a
finished dataset folder with `specs.json` (what the numbers mean) and `build.json` (what it was made
from). Where the arrays come from is the builders' business, `datasets/push_t*/`.
TFDS writes everything without TensorFlow as long as images come encoded, hence the PNG here.
"""

import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.specs import ActionSpec, ObservationSpec

BUILD_FILE = "build.json"
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
    tensor = tfds.features.Tensor
    observations: dict[str, Any] = {
        f.name: tensor(shape=(f.size,), dtype=np.float32, doc=f"{', '.join(f.dims)} ({f.unit})")
        for f in observation.features
    }
    for camera in observation.cameras:
        observations[camera.name] = tfds.features.Image(
            shape=(camera.height, camera.width, 3), encoding_format="png"
        )
    metadata = {
        "episode_id": tfds.features.Scalar(
            np.int64, doc="number of the recording, or planner seed"
        ),
        "max_coverage": tfds.features.Scalar(np.float32, doc="largest share of the goal covered"),
    }
    if recorded:
        for name, shape in RECORDED_SHAPES.items():
            observations[name] = tensor(shape=shape, dtype=np.float32)
    else:
        doc = "raw reset draw: agent x, y, block x, y (px), angle (rad)"
        metadata["initial"] = tensor(shape=(5,), dtype=np.float32, doc=doc)
    step = {
        "observation": observations,
        "action": tensor(
            shape=(action.size,), dtype=np.float32, doc=f"{', '.join(action.dims)} ({action.unit})"
        ),
        "reward": tfds.features.Scalar(np.float32, doc="clip(coverage / 0.95) after the action"),
        "discount": tfds.features.Scalar(np.float32, doc="0 on a terminal step, else 1"),
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    return tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(step), "episode_metadata": metadata}
    )


def push_t_example(
    observation: Mapping[str, np.ndarray],
    action: np.ndarray,
    reward: np.ndarray,
    success: bool,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """One episode as a TFDS builder yields it.

    Args:
        observation: name -> [T, ...]; arrays of shape [T, H, W, 3] are images and become PNG.
        action: float32 [T, A].
        reward: float32 [T].
        success: whether the last step is terminal (the goal was reached, not just the time up).
        metadata: of the episode.
    """
    steps = _steps(observation, action, reward, success)
    return {"steps": list(steps), "episode_metadata": dict(metadata)}


def _steps(
    observation: Mapping[str, np.ndarray], action: np.ndarray, reward: np.ndarray, success: bool
) -> Iterator[dict[str, Any]]:
    for t in range(len(action)):
        is_last = t == len(action) - 1
        terminal = is_last and success
        yield {
            "observation": {
                name: _png(values[t]) if values.ndim == 4 else values[t]
                for name, values in observation.items()
            },
            "action": action[t],
            "reward": np.float32(reward[t]),
            "discount": np.float32(0.0 if terminal else 1.0),
            "is_first": t == 0,
            "is_last": is_last,
            "is_terminal": terminal,
        }


def _png(pixels: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    buffer.seek(0)
    return buffer


def prepare(builder: tfds.core.GeneratorBasedBuilder, arguments: Mapping[str, Any]) -> bool:
    """Builds the dataset's folder, or finds it finished.

    TFDS writes into a temporary folder and renames it when everything is there, so that a folder
    of the final name is always complete.

    Args:
        builder: whose `_split_generators` calls `write_sidecars` with the same `arguments`.
        arguments: plain JSON values that determine the result.

    Returns:
        True when it was built now, False when it was there already.

    Raises:
        ValueError: the folder was made with other arguments.
    """
    folder = Path(builder.data_dir)
    if not folder.exists():
        tfds.disable_progress_bar()  # the builders draw their own, with the right total
        builder.download_and_prepare()
        return True
    try:
        found = json.loads((folder / BUILD_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: exists but has no readable {BUILD_FILE}; delete the folder to rebuild"
        ) from error
    for key, value in arguments.items():
        if found.get(key) != value:
            raise ValueError(
                f"{folder}: was built with {key}={found.get(key)!r}, asked for {value!r}; "
                "delete the folder or choose another --out"
            )
    return False


def prepare_in_run(folder: Path, make_builder: Callable[[], Any]) -> Path:
    """`prepare` without a word, for a dataset that a run writes into its own directory.

    Args:
        folder: the run directory, the builder's `data_dir`; nothing of TFDS's own is left in it.
        make_builder: makes the builder, whose `arguments` determine the result.

    Returns:
        The dataset's folder (with features.json).

    Raises:
        ValueError: the folder was made with other arguments.
    """
    downloads = folder / "downloads"
    keep = downloads.exists()
    builder = make_builder()
    # TFDS leaves "*.incomplete..." folders behind when it is killed.
    for leftover in folder.glob(f"{builder.name}/*incomplete*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # TFDS announces a download that does not take place, and makes a folder for it.
    with contextlib.redirect_stdout(io.StringIO()):
        prepare(builder, builder.arguments)
    if not keep:
        shutil.rmtree(downloads, ignore_errors=True)
    return Path(builder.data_dir)


def write_sidecars(folder: Path, specs: DatasetSpecs, arguments: Mapping[str, Any]) -> None:
    """Writes specs.json and build.json into a folder that is being built."""
    specs.write(folder)
    (folder / BUILD_FILE).write_text(json.dumps(dict(arguments), indent=1, sort_keys=True) + "\n")


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


def run_build(make_builder: Callable[[], Any]) -> int:
    """What the two build commands do once their flags are read; returns the exit status.

    Args:
        make_builder: opens the source and makes the TFDS builder, whose `arguments` determine the
            result. A ValueError from it or from building becomes one line on stderr and status 2.
    """
    start = time.perf_counter()
    try:
        builder = make_builder()
        built = prepare(builder, builder.arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(Path(builder.data_dir)))
    seconds = time.perf_counter() - start
    print(f"built in  {seconds:.1f} s" if built else "this dataset existed already: nothing to do")
    return 0
