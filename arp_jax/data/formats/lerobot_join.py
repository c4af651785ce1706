"""Putting the parts of single episodes together to a LeRobot v3.0 folder.

In: the parts that `lerobot_write.py` wrote. Out: parquet and mp4 files that hold many episodes
each, up to a size, the tables that say where each episode lies, statistics and info.json. Videos
are joined without encoding them again. Layout: see `lerobot_layout.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.formats.lerobot_layout import (
    BOOKKEEPING,
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    SPECS,
    STATS,
    TASKS,
    VIDEO_PATH,
    LeRobotFeature,
    import_parquet,
    read_table,
)
from arp_jax.data.formats.lerobot_plan import (
    PART_FILE,
    PART_ROWS,
    VIDEO,
    ExportPlan,
    part_folder,
    part_video,
)
from arp_jax.data.formats.lerobot_stats import merge_stats, vector_stats
from arp_jax.data.formats.video import join_videos, video_info

# LeRobot starts another folder after so many files.
_FILES_IN_CHUNK = 1000
_EPISODES_IN_FILE = 10_000
_MB = 10**6

Part = dict[str, Any]


def join_parts(work: Path, folder: Path, plan: ExportPlan) -> None:
    """Writes the dataset into `folder` from the parts in `work`.

    Raises:
        ValueError: a part is missing or damaged.
    """
    (folder / "meta").mkdir(parents=True)
    parts = [_read_part(part_folder(work, n) / PART_FILE) for n in range(plan.episodes)]
    numbers: dict[str, int] = {}
    for part in parts:
        for task in part["tasks"]:
            numbers.setdefault(task, len(numbers))
    starts = np.cumsum([0, *(part["length"] for part in parts)]).tolist()
    rows: list[dict[str, Any]] = [
        {
            "episode_index": n,
            "tasks": part["tasks"],
            "length": part["length"],
            "dataset_from_index": starts[n],
            "dataset_to_index": starts[n + 1],
        }
        for n, part in enumerate(parts)
    ]
    for part, row in zip(parts, rows, strict=True):
        part["stats"] |= _bookkeeping_stats(row, numbers[part["tasks"][0]])
    _join_rows(work, folder, plan, rows, [numbers[part["tasks"][0]] for part in parts])
    for feature in plan.features.values():
        if feature.dtype == VIDEO:
            _join_camera(work, folder, plan, feature.key, rows)
    _write_tasks(folder / TASKS, numbers)
    _write_episodes(folder, rows, parts)
    _write_stats(folder / STATS, parts)
    _write_info(folder, plan, starts[-1], len(numbers))
    plan.renamed_specs.write((folder / SPECS).parent)


def file_numbers(sizes: Sequence[int], limit: float) -> list[int]:
    """The file of each part: consecutive parts share one while their bytes stay within `limit`."""
    numbers, number, held = [], 0, 0
    for size in sizes:
        if held and held + size > limit:
            number, held = number + 1, 0
        held += size
        numbers.append(number)
    return numbers


def _place(number: int) -> dict[str, int]:
    """LeRobot's chunk and file of the n-th file."""
    return {"chunk_index": number // _FILES_IN_CHUNK, "file_index": number % _FILES_IN_CHUNK}


def _read_part(path: Path) -> Part:
    try:
        part: Part = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete its folder") from error
    part["stats"] = {
        key: {name: np.asarray(value) for name, value in entry.items()}
        for key, entry in part["stats"].items()
    }
    return part


def _bookkeeping_stats(row: Mapping[str, Any], task: int) -> dict[str, Any]:
    """Statistics of the columns that only the whole dataset knows."""
    index = np.arange(row["dataset_from_index"], row["dataset_to_index"])
    columns = {
        "episode_index": np.full(len(index), row["episode_index"]),
        "index": index,
        "task_index": np.full(len(index), task),
    }
    return {key: vector_stats(values[:, None]) for key, values in columns.items()}


def _join_rows(
    work: Path, folder: Path, plan: ExportPlan, rows: list[dict[str, Any]], tasks: list[int]
) -> None:
    """The data files: a row group an episode."""
    import pyarrow as pa

    paths = [part_folder(work, n) / PART_ROWS for n in range(len(rows))]
    files = file_numbers([path.stat().st_size for path in paths], plan.data_mb * _MB)
    columns = [key for key, feature in plan.features.items() if feature.dtype != VIDEO]
    columns += list(BOOKKEEPING)
    writer, opened = None, -1
    try:
        for path, file, row, task in zip(paths, files, rows, tasks, strict=True):
            place = _place(file)
            row |= {f"data/{name}": value for name, value in place.items()}
            table = read_table(path)
            index = np.arange(row["dataset_from_index"], row["dataset_to_index"])
            for key, values in (
                ("episode_index", np.full(len(index), row["episode_index"])),
                ("index", index),
                ("task_index", np.full(len(index), task)),
            ):
                table = table.append_column(key, pa.array(values))
            table = table.select(columns).replace_schema_metadata(_huggingface(plan.features))
            if file != opened:
                if writer is not None:
                    writer.close()
                target = folder / DATA_PATH.format(**place)
                target.parent.mkdir(parents=True, exist_ok=True)
                writer, opened = import_parquet().ParquetWriter(target, table.schema), file
            writer.write_table(table)  # type: ignore[union-attr]
    finally:
        if writer is not None:
            writer.close()


def _join_camera(
    work: Path, folder: Path, plan: ExportPlan, key: str, rows: list[dict[str, Any]]
) -> None:
    """The video files of a camera."""
    paths = [part_video(part_folder(work, n), key) for n in range(len(rows))]
    files = file_numbers([path.stat().st_size for path in paths], plan.video_mb * _MB)
    for file in sorted(set(files)):
        members = [n for n, other in enumerate(files) if other == file]
        place, frames = _place(file), 0
        for n in members:
            start, frames = frames, frames + rows[n]["length"]
            rows[n] |= {f"videos/{key}/{name}": value for name, value in place.items()}
            rows[n][f"videos/{key}/from_timestamp"] = start / plan.rate_hz
            rows[n][f"videos/{key}/to_timestamp"] = frames / plan.rate_hz
        target = folder / VIDEO_PATH.format(video_key=key, **place)
        target.parent.mkdir(parents=True, exist_ok=True)
        join_videos(target, [(paths[n], rows[n]["length"]) for n in members], plan.rate_hz)


def _write_tasks(path: Path, numbers: Mapping[str, int]) -> None:
    """meta/tasks.parquet, whose texts are the index of a pandas table."""
    import pyarrow as pa

    table = pa.table(
        {
            "task_index": pa.array(list(numbers.values()), pa.int64()),
            "task": pa.array(list(numbers), pa.string()),
        }
    )

    def column(name: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
        types = {"pandas_type": pandas_type, "numpy_type": numpy_type, "metadata": None}
        return {"name": name, "field_name": name, **types}

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    import_parquet().write_table(table, path)


def _write_episodes(folder: Path, rows: list[dict[str, Any]], parts: list[Part]) -> None:
    """meta/episodes: where each episode lies, and its statistics."""
    import pyarrow as pa

    for first in range(0, len(rows), _EPISODES_IN_FILE):
        place = _place(first // _EPISODES_IN_FILE)
        end = first + _EPISODES_IN_FILE
        entries = []
        for row, part in zip(rows[first:end], parts[first:end], strict=True):
            row |= {f"meta/episodes/{name}": value for name, value in place.items()}
            stats = {
                f"stats/{key}/{name}": value.tolist()
                for key, entry in part["stats"].items()
                for name, value in entry.items()
            }
            entries.append(row | stats)
        path = folder / EPISODES_PATH.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        import_parquet().write_table(pa.Table.from_pylist(entries), path)


def _write_stats(path: Path, parts: list[Part]) -> None:
    merged = {key: merge_stats([part["stats"][key] for part in parts]) for key in parts[0]["stats"]}
    content = {
        key: {name: value.tolist() for name, value in entry.items()}
        for key, entry in merged.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _write_info(folder: Path, plan: ExportPlan, frames: int, tasks: int) -> None:
    features = {key: _described(folder, feature) for key, feature in plan.features.items()}
    for key, dtype in BOOKKEEPING.items():
        features[key] = {"dtype": dtype, "shape": [1], "names": None}
    has_video = any(feature.dtype == VIDEO for feature in plan.features.values())
    info = {
        "codebase_version": "v3.0",
        "fps": round(plan.rate_hz),
        "features": features,
        "total_episodes": plan.episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": _FILES_IN_CHUNK,
        "data_files_size_in_mb": max(1, round(plan.data_mb)),
        "video_files_size_in_mb": max(1, round(plan.video_mb)),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "robot_type": plan.robot,
        "splits": {"train": f"0:{plan.episodes}"},
    }
    (folder / INFO).write_text(json.dumps(info, indent=1) + "\n")


def _described(folder: Path, feature: LeRobotFeature) -> dict[str, Any]:
    """An entry of info.json's "features"."""
    names = ["height", "width", "channels"] if feature.is_camera else feature.names
    entry: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
    if feature.dtype == VIDEO:
        path = folder / VIDEO_PATH.format(video_key=feature.key, **_place(0))
        video = video_info(path)
        entry["info"] = {
            "video.height": video.height,
            "video.width": video.width,
            "video.codec": video.codec,
            "video.pix_fmt": video.pixel_format,
            "video.fps": round(video.rate_hz),
            "video.channels": 3,
            "has_audio": False,
            "is_depth_map": False,
        }
    return entry


def _huggingface(features: Mapping[str, LeRobotFeature]) -> dict[str, str]:
    """The note in parquet files by which the `datasets` package knows pictures from bytes."""
    types: dict[str, Any] = {}
    for key, feature in features.items():
        value = {"dtype": feature.dtype, "_type": "Value"}
        if feature.dtype == VIDEO:
            continue
        if feature.is_camera:
            types[key] = {"_type": "Image"}
        elif feature.shape == (1,):
            types[key] = value
        else:
            types[key] = {"feature": value, "length": feature.shape[0], "_type": "List"}
    types |= {key: {"dtype": dtype, "_type": "Value"} for key, dtype in BOOKKEEPING.items()}
    return {"huggingface": json.dumps({"info": {"features": types}})}
