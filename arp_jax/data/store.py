"""The packed step store: random access to the steps of a dataset.

Flows in: a folder written by `pack.py`. Flows out: arrays for any step indices. A store is

    meta.json                           format version, layout, episodes, specs, stats, checksums
    vectors-00000.array_record          one record a step: all vector features, raw little-endian
    images.NAME-00000.array_record      one record a step: camera NAME, a PNG or JPEG file as the
                                        dataset stored it, or raw uint8 pixels

with whole episodes in each shard. Every camera has files of its own, so that gathering a chunk of H
actions, or one of two cameras, reads nothing else. What fits a byte budget is kept in memory,
vectors first; the rest is read by record (`records.py`). Nothing is normalised or cut into windows
here. Stores of format version 1 (raw pixels of all cameras in one group, no language) are read too.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.records import EncodedRecords, FixedRecords, RecordFiles, Records, group_dtype
from arp_jax.normalize import Stats, stats_from_json
from arp_jax.specs import ActionSpec, ObservationSpec

FORMAT = "arp_jax.pack"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
META_FILE = "meta.json"
VECTORS = "vectors"
ENCODED = "encoded"
MEMORY_BUDGET = 2 << 30


def checksum(path: Path) -> int:
    """CRC-32 of a file, read in blocks."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


class Pack:
    """An opened step store; several threads may read from it.

    Attributes:
        directory: the folder.
        split: split of the source that was packed.
        episode_lengths: int64 [E].
        instructions: the distinct instructions of the dataset.
        episode_language: per episode the indices of its alternatives in `instructions`; () where
            it has none.
        shapes, dtypes: {name: of one step as read}, the action under the key "action".
        encoded: names of the cameras that are stored as PNG or JPEG.
        observation_spec, action_spec: what the numbers mean; None when the source did not say.
        stats: statistics of the vector features and the action.
        content_hash: identifies source content and selection.
    """

    def __init__(self, directory: Path, meta: Mapping[str, Any]) -> None:
        self.directory = directory
        self.split: str = meta["split"]
        self.episode_lengths = np.asarray(meta["episode_lengths"], np.int64)
        self.instructions: tuple[str, ...] = tuple(meta["instructions"])
        self.episode_language: list[tuple[int, ...]] = [tuple(i) for i in meta["episode_language"]]
        self.shapes = {name: tuple(f["shape"]) for name, f in meta["features"].items()}
        self.dtypes = {name: np.dtype(f["dtype"]) for name, f in meta["features"].items()}
        self.encoded = tuple(n for n, f in meta["features"].items() if f.get("encoding") == ENCODED)
        specs = meta["specs"]
        self.observation_spec = ObservationSpec.from_json(specs["observation"]) if specs else None
        self.action_spec = ActionSpec.from_json(specs["action"]) if specs else None
        self.stats: Stats = stats_from_json(meta["stats"])
        self.content_hash: str = meta["content_hash"]
        self._groups = record_groups(directory, meta["features"], meta["shards"])

    @property
    def num_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.episode_lengths)

    @property
    def num_steps(self) -> int:
        """Number of steps of all episodes."""
        return int(self.episode_lengths.sum())

    @property
    def in_memory(self) -> tuple[str, ...]:
        """Names of the features that are held in memory."""
        return tuple(name for group in self._groups if group.in_memory for name in group.names)

    def load(self, memory_budget: int) -> None:
        """Keeps in memory what fits `memory_budget` bytes, vectors before cameras."""
        for group in self._groups:
            if group.nbytes <= memory_budget:
                group.load()
                memory_budget -= group.nbytes

    def read_steps(
        self, indices: np.ndarray, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Features at absolute step indices.

        Args:
            indices: integers of any shape [...], 0 .. num_steps-1, repeats allowed.
            names: features to read; None reads all (the action is "action").

        Returns:
            {name: [..., *shapes[name]]}, fresh arrays; pictures are decoded.

        Raises:
            ValueError: an index or a name does not exist, or a shard or a picture cannot be read.
        """
        indices = np.asarray(indices)
        if indices.size and not (indices.min() >= 0 and indices.max() < self.num_steps):
            raise ValueError(
                f"{self.directory}: step indices {indices.min()} .. {indices.max()} leave "
                f"0 .. {self.num_steps - 1}"
            )
        wanted = list(self.shapes) if names is None else list(names)
        for name in wanted:
            if name not in self.shapes:
                raise ValueError(f"{self.directory}: no feature {name!r}; has {list(self.shapes)}")
        arrays: dict[str, np.ndarray] = {}
        for group in self._groups:
            chosen = [name for name in wanted if name in group.names]
            if chosen:
                arrays.update(group.take(indices, chosen))
        return arrays

    def close(self) -> None:
        """Closes the files and ends the threads that decode; a later read starts them again."""
        for group in self._groups:
            group.close()


def record_groups(
    directory: Path,
    features: Mapping[str, Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
) -> list[Records]:
    """The groups that a layout has, vectors first."""
    steps = [sum(shard["episode_lengths"]) for shard in shards]
    by_group = {feature["group"]: name for name, feature in features.items()}
    groups: list[Records] = []
    for group in sorted(by_group, key=lambda group: group != VECTORS):
        entries = [shard["files"][group] for shard in shards]
        files = RecordFiles([directory / entry["name"] for entry in entries], steps)
        name = by_group[group]
        if features[name].get("encoding") == ENCODED:
            size = sum(entry["record_bytes"] for entry in entries)
            groups.append(EncodedRecords(files, name, tuple(features[name]["shape"]), size))
        else:
            groups.append(FixedRecords(files, group_dtype(features, group)))
    return groups


def open_pack(
    directory: str | Path, memory_budget: int = MEMORY_BUDGET, verify: bool = False
) -> Pack:
    """Opens a finished step store.

    Args:
        directory: folder written by `pack_dataset`.
        memory_budget: bytes that may be kept in memory (vectors first, then cameras as they are
            stored); 0 keeps none.
        verify: also compare the checksum of every shard (reads all files); sizes are always
            compared.

    Raises:
        ValueError: no finished pack, another format version, or a missing, truncated or changed
            shard; the message names the file. meta.json carries a checksum of its own, which is
            always compared.
    """
    directory = Path(directory)
    meta = read_meta(directory)
    for shard in meta["shards"]:
        for entry in shard["files"].values():
            check_shard_file(directory, entry, verify)
    pack = Pack(directory, meta)
    pack.load(memory_budget)
    return pack


def read_meta(directory: Path) -> dict[str, Any]:
    """Content of meta.json with lengths and language of the episodes of all shards joined."""
    path = directory / META_FILE
    if not path.is_file():
        raise ValueError(
            f"{directory}: no finished pack ({META_FILE} is missing); make one with "
            f"`python -m arp_jax.data.pack --source DATASET --out {directory} --features NAMES`"
        )
    try:
        text = path.read_text()
        meta = json.loads(text)
        found = (meta.get("format"), meta.get("format_version"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a JSON object ({error}); pack the dataset again") from error
    if found[0] != FORMAT or found[1] not in READABLE_VERSIONS:
        raise ValueError(
            f"{path}: format {found[0]!r} version {found[1]!r}, this program reads {FORMAT!r} "
            f"versions {READABLE_VERSIONS}; pack the dataset again"
        )
    if found[1] > 1 and text != meta_text(meta):
        raise ValueError(f"{path}: does not match its own checksum; pack the dataset again")
    shards = meta["shards"]
    meta["episode_lengths"] = [n for shard in shards for n in shard["episode_lengths"]]
    # Version 1 knew no language.
    meta.setdefault("instructions", [])
    meta["episode_language"] = [
        indices
        for shard in shards
        for indices in shard.get("episode_language", [[]] * len(shard["episode_lengths"]))
    ]
    return meta


def meta_text(meta: Mapping[str, Any]) -> str:
    """meta.json as written: one line, with a checksum of all that it says."""
    content = {key: value for key, value in meta.items() if key != "crc32"}
    crc = zlib.crc32(json.dumps(content).encode())
    return json.dumps({**content, "crc32": crc}) + "\n"


def check_shard_file(directory: Path, entry: Mapping[str, Any], verify: bool) -> None:
    """Raises ValueError when a shard file is missing or not what was written."""
    path = directory / entry["name"]
    if not path.is_file():
        raise ValueError(f"{path}: shard is missing; copy it again or pack the dataset again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(
            f"{path}: {size} bytes, written were {entry['bytes']}; pack the dataset again"
        )
    if verify and checksum(path) != entry["crc32"]:
        raise ValueError(f"{path}: checksum differs from {META_FILE}; pack the dataset again")
