"""What is packed, and which episodes make which shard: functions of the source's content alone.

Flows in: a dataset folder and the user's wishes. Flows out: a checked `Selection`, its content
hash, and the list of `ShardJob`s. Nothing is written here (that is `shards.py` and `pack.py`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from arp_jax.data.rlds import SPECS_FILE
from arp_jax.data.shards import RAW, Layout, Selection, ShardJob, layout_of, located
from arp_jax.data.source import Source
from arp_jax.data.store import ENCODED, FORMAT, FORMAT_VERSION
from arp_jax.data.threads import available_cores
from arp_jax.specs import ActionSpec, ObservationSpec

# Small shards are shared out evenly and are cheap to write again after a kill; each of them is an
# open file while it is read, hence the limit.
SHARD_BYTES = 64 << 20
MAX_SHARDS = 256
# Episodes from which the size of all is estimated.
_PROBES = 4


def select(
    dataset_path: str | Path,
    split: str,
    features: Sequence[str],
    images: str,
    resize: Mapping[str, tuple[int, int]],
    card: str | Path | None,
) -> tuple[Selection, Source]:
    """Checks what is asked for against the source.

    Raises:
        ValueError: what does not exist (split, observation, card) or cannot be packed (text).
    """
    if images not in (ENCODED, RAW):
        raise ValueError(f"images {images!r} is unknown; choose {ENCODED!r} or {RAW!r}")
    asked = tuple(name for name in dict.fromkeys(features) if name != "action")
    card = None if card is None else str(card)
    selection = Selection(str(dataset_path), card, split, asked, images, tuple(resize.items()))
    source = selection.open()
    source.num_episodes(split)
    known = {**stored_observations(source), **dict.fromkeys(source.specs.observation.names, "")}
    for name in asked:
        if name not in known:
            raise ValueError(f"{source.path}: no observation {name!r}; there are {sorted(known)}")
        if known[name] in ("text", "unsupported"):
            raise ValueError(f"{source.path}: observation {name!r} is not numeric; leave it out")
    names = asked or source.specs.observation.names
    for name, size in resize.items():
        if name not in names:
            raise ValueError(f"resize: no camera {name!r} among {list(names)}")
        if min(size) < 1:
            raise ValueError(f"resize: {name!r} to {size} pixels; sizes are at least 1x1")
    return Selection(str(dataset_path), card, split, names, images, selection.resize), source


def check_host(host: tuple[int, int]) -> None:
    """Raises ValueError unless host is (index, count) with 0 <= index < count."""
    if not 0 <= host[0] < host[1]:
        raise ValueError(f"host {host[0]}/{host[1]}: I must be 0 .. N-1 in I/N")


def stored_observations(source: Source) -> dict[str, str]:
    """Observations that the folder itself holds, name -> kind; none where a card translates."""
    if source.card is not None:
        return {}
    prefix = "observation/"
    fields = source.dataset.features.items()
    return {k.removeprefix(prefix): f.kind for k, f in fields if k.startswith(prefix)}


def packed_specs(
    source: Source, selection: Selection, layout: Layout
) -> tuple[ObservationSpec, ActionSpec]:
    """Specs of the store: those of the source for the selected features, in their stored sizes.

    Raises:
        ValueError: the source's data do not have the sizes that its specs declare.
    """
    specs, resized = source.specs, dict(selection.resize)
    observation = specs.observation.select(
        name for name in selection.names if name in specs.observation.names
    )
    declared: dict[str, tuple[int, ...]] = {f.name: (f.size,) for f in observation.features}
    declared["action"] = (specs.action.size,)
    cameras = []
    for camera in observation.cameras:
        height, width, channels = layout[camera.name]["shape"]
        if camera.name not in resized and source.card is None:
            declared[camera.name] = (camera.height, camera.width, channels)
        # Copies of public datasets go round in several sizes; their cards cannot know which.
        cameras.append(dataclasses.replace(camera, height=height, width=width))
    for name, shape in declared.items():
        if tuple(layout[name]["shape"]) != shape:
            raise ValueError(
                f"{source.path}: {name!r} has shape {tuple(layout[name]['shape'])} a step, its "
                f"specs say {shape}; correct {SPECS_FILE} or the card"
            )
    return dataclasses.replace(observation, cameras=tuple(cameras)), specs.action


def content_hash(source: Source, selection: Selection, version: int = FORMAT_VERSION) -> str:
    """SHA-256 of the source's bytes and of what is selected from it (about 1 GB/s a core)."""
    selected: list[Any] = [FORMAT, version, selection.split, list(selection.names)]
    if version > 1:
        card = source.card.to_json() if source.card is not None else None
        selected += [selection.images, list(selection.resize), card]
    digest = hashlib.sha256(json.dumps(selected).encode())
    files = ("features.json", "dataset_info.json", SPECS_FILE)
    paths = [source.path / name for name in files]
    name = source.dataset.resolve(selection.split)[0]
    paths += [shard.path for shard in source.dataset.shards[name]]
    with ThreadPoolExecutor(available_cores()) as pool:
        for part in pool.map(_file_digest, [path for path in paths if path.is_file()]):
            digest.update(part)
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def plan_shards(
    source: Source, selection: Selection, content_hash: str, out: Path, shard_bytes: int
) -> list[ShardJob]:
    """Cuts the episodes into shards of about `shard_bytes` each, `MAX_SHARDS` at most.

    The size of all is estimated from a few episodes spread over the split; every shard has the
    same number of episodes, give or take one. The layout is that of the first episode.
    """
    name, start, stop = source.dataset.resolve(selection.split)
    total = stop - start
    probes = sorted({start + i * (total - 1) // (_PROBES - 1) for i in range(_PROBES)})
    found = []
    for number in probes:
        (episode,) = selection.episodes(source, f"{name}[{number}:{number + 1}]")
        try:
            found.append(layout_of(episode, selection))
        except ValueError as error:
            raise ValueError(located(error, source, name, number)) from error
    layout, mean = found[0][0], sum(nbytes for _, nbytes in found) / len(found)
    count = max(1, min(total, MAX_SHARDS, round(total * mean / max(shard_bytes, 1))))
    bounds = [start + total * i // count for i in range(count + 1)]
    return [
        ShardJob(selection, content_hash, layout, out, i, name, bounds[i], bounds[i + 1])
        for i in range(count)
    ]
