"""Writing a LeRobot v3.0 dataset from canonical episodes: parallel, resumable, whole or not at all.

In: a dataset folder that `source.py` opens. Out: a folder that LeRobot loads. Worker processes
write every episode for itself into OUT.incomplete/parts: its rows, its videos and, last, part.json
with its statistics; parts that a killed run left are kept. `lerobot_join.py` puts them together and
the folder gets its name when everything is there. Reading is `lerobot_read.py`'s business.
"""

import functools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arp_jax.data.formats.lerobot_join import join_parts
from arp_jax.data.formats.lerobot_layout import LeRobotFeature, import_parquet
from arp_jax.data.formats.lerobot_plan import (
    PART_FILE,
    PART_ROWS,
    ExportPlan,
    column_array,
    open_plan,
    part_folder,
    part_video,
)
from arp_jax.data.formats.lerobot_stats import PictureStats, sampled_steps, vector_stats
from arp_jax.data.formats.video import encode_video
from arp_jax.data.images import decode_image, image_size
from arp_jax.data.locks import exclusive
from arp_jax.data.processes import run_jobs
from arp_jax.data.rlds import Episode
from arp_jax.data.shards import write_json

_PLAN = "plan.json"
# Episodes that a process takes at a time: opening the source again must not weigh.
_BLOCK = 8


def write_lerobot(
    out: str | Path, plan: ExportPlan, *, workers: int = 0, progress: bool = True
) -> Path:
    """Writes the dataset, or continues an interrupted run.

    Args:
        out: the folder to make; it appears only when it is complete.
        plan: what is written; see `lerobot_plan.make_plan`.
        workers: processes; 0 takes one a core, 1 works in this process.
        progress: print a progress bar to stderr.

    Returns:
        The folder.

    Raises:
        ValueError: `out` exists; an episode cannot be read or encoded (the message names it); or
            OUT.incomplete was begun with another plan.
    """
    folder = Path(out)
    work = folder.with_name(f"{folder.name}.incomplete")
    if folder.exists():
        raise ValueError(f"{folder}: exists already; delete it or choose another --out")
    work.mkdir(parents=True, exist_ok=True)
    with exclusive(work):
        if folder.exists():  # another process was writing it
            return folder
        _check_plan(work, plan)
        _write_parts(work, plan, workers, progress)
        joined = work / "dataset"
        shutil.rmtree(joined, ignore_errors=True)
        join_parts(work, joined, plan)
        joined.rename(folder)
        shutil.rmtree(work)
    return folder


def _check_plan(work: Path, plan: ExportPlan) -> None:
    """Refuses to continue a folder that was begun for something else."""
    wanted = json.loads(json.dumps(plan.to_json()))
    path = work / _PLAN
    if not path.is_file():
        write_json(path, wanted)
    elif json.loads(path.read_text()) != wanted:
        raise ValueError(f"{work}: was begun with other arguments; delete it to start again")


def _write_parts(work: Path, plan: ExportPlan, workers: int, progress: bool) -> None:
    numbers = range(plan.episodes)
    missing = [n for n in numbers if not (part_folder(work, n) / PART_FILE).is_file()]
    for number in missing:
        shutil.rmtree(part_folder(work, number), ignore_errors=True)
    # Neighbors are read together; a gap that an earlier run filled begins a new block.
    blocks: list[list[int]] = []
    for number in missing:
        if blocks and blocks[-1][-1] == number - 1 and len(blocks[-1]) < _BLOCK:
            blocks[-1].append(number)
        else:
            blocks.append([number])
    done = plan.episodes - len(missing)
    bar = tqdm(
        total=plan.episodes, initial=done, desc="LeRobot", unit="episode", disable=not progress
    )
    with bar:
        write = functools.partial(_write_block, work=work, plan=plan)
        for count in run_jobs(write, blocks, workers or os.cpu_count() or 1):
            bar.update(count)


def _write_block(numbers: list[int], *, work: Path, plan: ExportPlan) -> int:
    source = open_plan(plan)
    part = f"{plan.split}[{numbers[0]}:{numbers[-1] + 1}]"
    episodes = source.episodes(part, plan.observations, decode_images=False)
    for number, episode in zip(numbers, episodes, strict=True):
        try:
            _write_part(part_folder(work, number), plan, episode)
        except ValueError as error:
            raise ValueError(
                f"{plan.source}: episode {number} of {plan.split!r}: {error}"
            ) from error
    return len(numbers)


def _write_part(folder: Path, plan: ExportPlan, episode: Episode) -> None:
    """The files of one episode; part.json, written last, makes them count."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    steps = len(episode["action"])
    columns: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for key, feature in plan.features.items():
        values = plan.values(episode, key)
        if len(values) != steps:
            raise ValueError(f"{key}: {len(values)} values, {steps} actions")
        if feature.is_camera:
            stats[key] = _write_camera(folder, plan, feature, values, columns)
        else:
            rows = np.asarray(values, feature.dtype).reshape(steps, -1)
            columns[key], stats[key] = column_array(feature, rows), vector_stats(rows)
    numbers = np.arange(steps)
    times = (numbers / plan.rate_hz).astype(np.float32)
    for key, column in (("timestamp", times), ("frame_index", numbers)):
        columns[key], stats[key] = pa.array(column), vector_stats(column[:, None])
    import_parquet().write_table(pa.table(columns), folder / PART_ROWS)
    language = list(episode["language"]) or [plan.task]
    entry = {
        "length": steps,
        "tasks": language,
        "stats": {
            key: {name: value.tolist() for name, value in entry.items()}
            for key, entry in stats.items()
        },
    }
    write_json(folder / PART_FILE, entry)


def _write_camera(
    folder: Path,
    plan: ExportPlan,
    feature: LeRobotFeature,
    pictures: Any,
    columns: dict[str, Any],
) -> Mapping[str, np.ndarray]:
    """A camera's video, or its column of encoded pictures; returns its statistics."""
    stats, sampled = PictureStats(), sampled_steps(len(pictures))

    def frames() -> Iterator[np.ndarray]:
        for step, data in enumerate(pictures):
            try:
                pixels = decode_image(data)
            except ValueError as error:
                raise ValueError(f"{feature.key} step {step}: {error}") from error
            if pixels.shape != feature.shape:
                raise ValueError(
                    f"{feature.key} step {step}: picture of {image_size(data)}, the specs say "
                    f"{feature.shape[:2]}"
                )
            if step in sampled:
                stats.add(pixels)
            yield pixels

    if feature.dtype == "video":
        encode_video(
            part_video(folder, feature.key), frames(), plan.rate_hz, plan.codec, plan.quality
        )
    else:
        for _ in frames():
            pass  # looked at for the statistics; stored as they are
        columns[feature.key] = column_array(feature, list(pictures))
    return stats.result()
