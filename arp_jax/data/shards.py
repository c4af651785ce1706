"""Writing one shard of a step store: whole episodes, then a description that makes it count.

Flows in: a `ShardJob`, which names episodes of a source and how they are stored. Flows out: one
ArrayRecord file a group and shard-NNNNN.json, each under its name only once complete. The bytes
depend on nothing but the job, so any process may write any shard. Which episodes make a shard is
decided in `pack.py`; how shards are read is in `store.py`.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from arp_jax.data.images import decode_image, encode_image, resize_image
from arp_jax.data.records import group_dtype
from arp_jax.data.rlds import Episode
from arp_jax.data.source import Source, open_source
from arp_jax.data.stats import check_finite
from arp_jax.data.store import ENCODED, VECTORS, checksum

PARTIAL = ".partial"
RAW = "raw"
# Vectors are read in one sweep, so grouping compresses better; pictures one by one, at random.
# Encoded ones do not shrink, and raw ones are stored raw for the sake of speed.
_VECTOR_OPTIONS = "group_size:64"
_PICTURE_OPTIONS = "group_size:1,uncompressed"

Layout = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is packed of a source, and how.

    Attributes:
        source: the dataset's folder.
        card: name or file of its card; None where the source or its name says enough.
        split: split of the source or a part of it.
        names: observations; the action is always packed.
        images: ENCODED keeps pictures as PNG or JPEG, RAW stores uint8 pixels.
        resize: camera -> (height, width), for cameras that are stored in another size.
    """

    source: str
    card: str | None
    split: str
    names: tuple[str, ...]
    images: str = ENCODED
    resize: tuple[tuple[str, tuple[int, int]], ...] = ()

    def open(self) -> Source:
        """The source; raises ValueError as `open_source` does."""
        return open_source(self.source, self.card)

    def episodes(self, source: Source, split: str) -> Iterator[Episode]:
        """Canonical episodes of a part of the source, pictures encoded where they can be."""
        return source.episodes(split, self.names, decode_images=False)


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """One shard to write: episodes `start` .. `stop` - 1 of split `split_name`."""

    selection: Selection
    content_hash: str
    layout: Layout
    out: Path
    index: int
    split_name: str
    start: int
    stop: int


def shard_file(index: int) -> str:
    """Name of a shard's description."""
    return f"shard-{index:05d}.json"


def record_file(group: str, index: int) -> str:
    """Name of a group's file of a shard."""
    return f"{group}-{index:05d}.array_record"


def is_camera(value: Any) -> bool:
    """Whether an observation of an episode holds pictures: uint8 [T, H, W, 3] or encoded [T]."""
    return isinstance(value, np.ndarray) and (value.ndim == 4 or value.dtype == object)


def vector_rows(episode: Episode, selection: Selection) -> dict[str, np.ndarray]:
    """The vector features of an episode and its action, float32 [T, D].

    Raises:
        ValueError: a value that is no vector, or features of unequal length; names the feature.
    """
    values = {name: episode["observation"][name] for name in selection.names}
    values["action"] = episode["action"]
    steps = len(values["action"])
    if steps == 0:
        raise ValueError("the episode has no steps: repair or leave it out")
    rows = {}
    for name, value in values.items():
        if len(value) != steps:
            raise ValueError(f"{name}: {len(value)} steps, the action has {steps}")
        if not is_camera(value):
            rows[name] = _vector(np.asarray(value), name)
    return rows


def _vector(value: np.ndarray, name: str) -> np.ndarray:
    """float32 [T, D]; a number a step is a vector of one."""
    value = value[:, None] if value.ndim == 1 else value
    if value.ndim != 2 or value.dtype.kind not in "fiub":
        raise ValueError(
            f"{name}: {value.dtype} of shape {value.shape[1:]} a step; a feature must be a "
            "vector [D] of numbers or an 8-bit image [height, width, 3]"
        )
    return value.astype("<f4")


def picture_records(
    values: np.ndarray, name: str, selection: Selection, shape: Sequence[int] | None = None
) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """The pictures [T] of a camera, one by one, as (what is written, shape of its pixels).

    Bytes of the source are kept, unless pixels are wanted or another size is: a resized picture is
    encoded as JPEG of quality 95, pixels that the source stores as they are as PNG. Every picture
    is decoded once, so that a broken one shows now.

    Args:
        values: encoded (object array of bytes) or uint8 [T, H, W, 3].
        name: of the camera.
        selection: what is wanted.
        shape: that every picture must have in the end; None takes any.

    Raises:
        ValueError: a broken picture, or one of another shape; names camera and step.
    """
    size = dict(selection.resize).get(name)
    for step, value in enumerate(values):
        try:
            pixels = decode_image(value) if isinstance(value, bytes) else _checked_pixels(value)
            record = value if isinstance(value, bytes) else None
            if size is not None and pixels.shape[:2] != size:
                pixels = resize_image(pixels, *size)
                record = encode_image(pixels, "jpeg") if selection.images == ENCODED else None
            if shape is not None and pixels.shape != tuple(shape):
                raise ValueError(
                    f"image is {pixels.shape[1]}x{pixels.shape[0]} pixels, the first one "
                    f"{shape[1]}x{shape[0]}; choose one size with --resize {name}=HEIGHTxWIDTH"
                )
        except ValueError as error:
            raise ValueError(f"{name}, step {step}: {error}") from error
        if selection.images == RAW:
            record = pixels.tobytes()
        yield record or encode_image(pixels, "png"), pixels.shape


def _checked_pixels(value: Any) -> np.ndarray:
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{pixels.dtype} {pixels.shape} is no 8-bit RGB image; leave it out")
    return pixels


def layout_of(episode: Episode, selection: Selection) -> tuple[Layout, int]:
    """Layout of meta.json from one episode, and about how many bytes that episode will take.

    The layout says of each feature its dtype and shape as read, and its group of files.
    """
    layout: Layout = {}
    nbytes = 0
    for name, rows in vector_rows(episode, selection).items():
        layout[name] = {"dtype": rows.dtype.name, "shape": [rows.shape[1]], "group": VECTORS}
        nbytes += rows.nbytes
    for name in selection.names:
        values = episode["observation"][name]
        if name not in layout:
            record, shape = next(picture_records(values, name, selection))
            layout[name] = {
                "dtype": "uint8",
                "shape": list(shape),
                # "/" may stand in the name of a nested observation.
                "group": f"images.{name.replace('/', '.')}",
                "encoding": selection.images,
            }
            nbytes += len(values) * len(record)
    return layout, nbytes


def write_shard(job: ShardJob) -> dict[str, Any]:
    """Writes the files of a shard and makes it count; returns its description.

    Raises:
        ValueError: an episode cannot be read or does not fit the layout; one line that names file,
            episode and field. No partial file is left.
    """
    writer = ShardWriter(job)
    try:
        source = job.selection.open()
        part = f"{job.split_name}[{job.start}:{job.stop}]"
        episodes = job.selection.episodes(source, part)
        for number in range(job.start, job.stop):
            try:
                writer.add(next(episodes), number)
            except ValueError as error:
                raise ValueError(located(error, source, job.split_name, number)) from error
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def located(error: ValueError, source: Source, split: str, number: int) -> str:
    """The message, beginning with the file and the episode where it does not yet."""
    if str(error).startswith(str(source.path)):
        return str(error)
    first = 0
    for shard in source.dataset.shards[split]:
        first += shard.episodes
        if number < first:
            return f"{shard.path}: episode {number} of split {split!r}: {error}"
    return str(error)


class ShardWriter:
    """Writes whole episodes into the files of one shard."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._dtype = group_dtype(job.layout, VECTORS)
        self._lengths: list[int] = []
        self._language: list[list[str]] = []
        self._cameras = {
            feature["group"]: name
            for name, feature in job.layout.items()
            if feature["group"] != VECTORS
        }
        self._bytes = dict.fromkeys((VECTORS, *self._cameras), 0)
        self._writers = {
            group: ArrayRecordWriter(
                str(self._partial(group)), _VECTOR_OPTIONS if group == VECTORS else _PICTURE_OPTIONS
            )
            for group in self._bytes
        }

    def _path(self, group: str) -> Path:
        return self._job.out / record_file(group, self._job.index)

    def _partial(self, group: str) -> Path:
        # Workers of a run that was killed may live on for a moment: no name is used by two.
        return Path(f"{self._path(group)}.{os.getpid()}{PARTIAL}")

    def add(self, episode: Episode, number: int) -> None:
        """Appends episode `number` of the split."""
        job = self._job
        vectors = vector_rows(episode, job.selection)
        records = np.empty(len(vectors["action"]), self._dtype)
        for name in self._dtype.names or ():
            expected = job.layout[name]["shape"]
            if name not in vectors or list(vectors[name].shape[1:]) != expected:
                found = vectors[name].shape[1:] if name in vectors else "pictures"
                raise ValueError(f"{name}: {found} a step, in the first episode {tuple(expected)}")
            check_finite(vectors[name], name, number)
            records[name] = vectors[name]
        for record in records:
            self._write(VECTORS, record.tobytes())
        for group, name in self._cameras.items():
            values, shape = episode["observation"][name], job.layout[name]["shape"]
            for picture, _ in picture_records(values, name, job.selection, shape):
                self._write(group, picture)
        self._lengths.append(len(records))
        self._language.append(list(episode.get("language", ())))

    def _write(self, group: str, record: bytes) -> None:
        self._writers[group].write(record)
        self._bytes[group] += len(record)

    def finish(self) -> dict[str, Any]:
        """Closes the files and makes the shard count; returns its description."""
        files = {}
        for group, writer in self._writers.items():
            writer.close()
            path = self._path(group)
            crc32 = checksum(self._partial(group))
            publish(self._partial(group), path)
            files[group] = {
                "name": path.name,
                "bytes": path.stat().st_size,
                "record_bytes": self._bytes[group],
                "crc32": crc32,
            }
        shard = {
            "content_hash": self._job.content_hash,
            "episodes": [self._job.start, self._job.stop],
            "episode_lengths": self._lengths,
            "language": self._language,
            "files": files,
        }
        write_json(self._job.out / shard_file(self._job.index), shard)
        return shard

    def discard(self) -> None:
        """Removes what was begun."""
        for group, writer in self._writers.items():
            with contextlib.suppress(RuntimeError):
                writer.close()
            self._partial(group).unlink(missing_ok=True)


def publish(partial: Path, path: Path) -> None:
    """Gives a completed partial file its name; on disk before the name is."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file that is there either completely or not at all."""
    write_text(path, json.dumps(content) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file that is there either completely or not at all."""
    partial = Path(f"{path}.{os.getpid()}{PARTIAL}")
    partial.write_text(text)
    publish(partial, path)
