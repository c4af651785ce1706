"""Writing one shard of a step store: whole episodes, then a description that makes it count.

Flows in: the arrays of one episode at a time. Flows out: one ArrayRecord file a group and
shard-NNNNN.json, each under its name only once complete. Which episodes, and when to begin the next
shard, is decided in `pack.py`; how they are read is in `store.py`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from arp_jax.data.stats import check_finite
from arp_jax.data.store import GROUPS, checksum, group_dtype

PARTIAL = ".partial"
# Vectors are read in one sweep, so grouping compresses better; images one by one, at random.
_WRITER_OPTIONS = {"vectors": "group_size:64", "images": "group_size:1"}


def shard_file(index: int) -> str:
    """Name of a shard's description."""
    return f"shard-{index:05d}.json"


def storable(value: Any) -> np.ndarray:
    """Array [T, ...] in the dtype of the store: uint8 images as they are, vectors as float32."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"found {type(value).__name__} where an array [T, ...] was expected")
    is_vector = value.ndim == 2 and value.dtype.kind in "fiub"
    return value.astype("<f4") if is_vector else value


def layout_of(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Layout of meta.json from the arrays of one episode."""
    layout = {}
    for name, array in arrays.items():
        is_image = array.ndim == 4 and array.dtype == np.uint8
        if not is_image and (array.ndim != 2 or array.dtype != np.float32):
            raise ValueError(
                f"{name}: {array.dtype} of shape {array.shape[1:]} a step; a feature must be a "
                "vector [D] of numbers or a uint8 image [height, width, channels]"
            )
        layout[name] = {
            "dtype": array.dtype.name,
            "shape": list(array.shape[1:]),
            "group": "images" if is_image else "vectors",
        }
    return layout


def check_arrays(
    arrays: Mapping[str, np.ndarray], layout: Mapping[str, Mapping[str, Any]], index: int
) -> None:
    """Raises ValueError naming feature and episode when arrays do not fit the layout."""
    steps = len(arrays["action"])
    for name, array in arrays.items():
        expected = (steps, *layout[name]["shape"])
        if array.shape != expected or array.dtype.name != layout[name]["dtype"]:
            raise ValueError(
                f"{name} in episode {index}: {array.dtype.name} {array.shape}, "
                f"expected {layout[name]['dtype']} {expected}"
            )
        if layout[name]["group"] == "vectors":
            check_finite(array, name, index)
    if steps == 0:
        raise ValueError(f"episode {index} has no steps: repair or leave out that episode")


class ShardWriter:
    """Writes whole episodes into the files of one shard."""

    def __init__(self, out: Path, index: int, layout: dict[str, dict[str, Any]]) -> None:
        self.nbytes = 0
        self._out, self._index, self._layout = out, index, layout
        self._lengths: list[int] = []
        self._dtypes = {g: d for g in GROUPS if (d := group_dtype(layout, g)) is not None}
        self._writers = {
            group: ArrayRecordWriter(str(self._path(group)) + PARTIAL, _WRITER_OPTIONS[group])
            for group in self._dtypes
        }

    def _path(self, group: str) -> Path:
        return self._out / f"{group}-{self._index:05d}.array_record"

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Appends one episode of arrays [T, ...]."""
        steps = len(arrays["action"])
        for group, dtype in self._dtypes.items():
            records = np.empty(steps, dtype)
            for name in dtype.names or ():
                records[name] = arrays[name]
            for record in records:
                self._writers[group].write(record.tobytes())
            self.nbytes += records.nbytes
        self._lengths.append(steps)

    def finish(self, content_hash: str) -> dict[str, Any]:
        """Closes the files and makes the shard count; returns its description."""
        files = {}
        for group, writer in self._writers.items():
            writer.close()
            path = self._path(group)
            _publish(path)
            files[group] = {
                "name": path.name,
                "bytes": path.stat().st_size,
                "crc32": checksum(path),
            }
        shard = {
            "content_hash": content_hash,
            "features": self._layout,
            "episode_lengths": self._lengths,
            "files": files,
        }
        write_json(self._out / shard_file(self._index), shard)
        return shard


def _publish(path: Path) -> None:
    """Gives a completed partial file its name; on disk before the name is."""
    partial = Path(f"{path}{PARTIAL}")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file that is there either completely or not at all."""
    Path(f"{path}{PARTIAL}").write_text(json.dumps(content) + "\n")
    _publish(path)
