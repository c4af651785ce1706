"""One episode of any dataset, ready to be looked at: pictures, named series, words.

In: an address as a person writes it (`DIR:train:3`, `PACK:3`, `episode_3.hdf5`,
`image.hdf5:demo_3`). Out: a `ViewedEpisode`, which `view_page.py` and `rerun_export.py` show.
Pictures stay as they are stored where that is possible.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.folders import find_dataset
from arp_jax.data.formats.act_hdf5_read import read_episode, read_layout
from arp_jax.data.formats.array_episodes import PictureCoding
from arp_jax.data.formats.robomimic_hdf5 import read_demo, read_pictures
from arp_jax.data.source import Source, open_source
from arp_jax.data.store import META_FILE, Pack, open_pack
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec

FORMS = (
    "DIR:SPLIT:NUMBER (RLDS, e.g. data/push_t/1.0.0:train:3), PACK:NUMBER, an ACT file.hdf5 or "
    "robomimic's file.hdf5:DEMO"
)
FLAGS = ("is_first", "is_last", "is_terminal")
_ADDRESS = re.compile(r"^(?P<path>.+?)(?::(?P<split>[A-Za-z_]\w*))?:(?P<number>\d+)$")
_DEMO = re.compile(r"^(?P<path>.+\.(?:hdf5|h5)):(?P<name>[A-Za-z]\w*)$")
# ACT's files say neither names nor units; these are what its recorders write.
_ACT_UNITS = {"qpos": "rad", "qvel": "rad/s", "action": "rad"}


@dataclasses.dataclass(frozen=True)
class Series:
    """Numbers over time: float [T, D], a name a dimension, limits where something says them."""

    name: str
    values: np.ndarray
    dims: tuple[str, ...]
    unit: str = ""
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class ViewedEpisode:
    """What there is to see.

    Attributes:
        title: where it comes from.
        rate_hz: steps a second, 0 when nothing says it.
        cameras: name -> T pictures, PNG or JPEG bytes or uint8 [H, W, 3].
        series: action first.
        language: the episode's instructions.
        flags: name -> bool [T].
        metadata: of the whole episode.
    """

    title: str
    rate_hz: float
    cameras: Mapping[str, Sequence[bytes | np.ndarray]]
    series: tuple[Series, ...]
    language: tuple[str, ...] = ()
    flags: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def length(self) -> int:
        """T, number of steps."""
        return len(self.series[0].values)


def read_viewed(address: str, card: str | None = None) -> ViewedEpisode:
    """Reads the episode at an address.

    Args:
        address: one of `FORMS`.
        card: of a foreign dataset: a name or a file; None looks for one by the dataset's name.

    Raises:
        ValueError: no such form, dataset, split or episode; or it cannot be read.
    """
    if address.endswith((".hdf5", ".h5")):
        return _from_act(Path(address))
    if (match := _DEMO.match(address)) is not None:
        return _from_robomimic(Path(match["path"]), match["name"])
    match = _ADDRESS.match(address)
    if match is None:
        raise ValueError(f"{address!r} names no episode; write {FORMS}")
    path, split, number = find_dataset(match["path"]), match["split"], int(match["number"])
    if (path / META_FILE).is_file():
        if split is not None:
            raise ValueError(f"{address!r}: a pack has no splits; write {path}:{number}")
        return _from_pack(open_pack(path, memory_budget=0), number)
    if split is None:
        raise ValueError(f"{address!r} names no split; write e.g. {path}:train:{number}")
    return _from_source(open_source(path, card), split, number)


def _from_source(source: Source, split: str, number: int) -> ViewedEpisode:
    count = source.num_episodes(split)
    if number >= count:
        raise ValueError(f"{source.path}: {split!r} has the episodes 0 .. {count - 1}")
    part = f"{split}[{number}:{number + 1}]"
    episode = next(iter(source.episodes(part, decode_images=False)))
    observation = episode["observation"]
    series = _spec_series(source.specs.observation, source.specs.action, observation, episode)
    if "reward" in episode:
        series += (Series("reward", _column(episode["reward"]), ("reward",)),)
    return ViewedEpisode(
        title=f"{source.dataset.name} {source.dataset.version}, {split} {number}",
        rate_hz=source.specs.action.rate_hz,
        cameras={c.name: observation[c.name] for c in source.specs.observation.cameras},
        series=series,
        language=episode["language"],
        flags={name: np.asarray(episode[name], bool) for name in FLAGS if name in episode},
        metadata=episode["metadata"],
    )


def _from_pack(pack: Pack, number: int) -> ViewedEpisode:
    try:
        if number >= pack.num_episodes:
            last = pack.num_episodes - 1
            raise ValueError(f"{pack.directory}: the pack has the episodes 0 .. {last}")
        start = int(pack.episode_lengths[:number].sum())
        steps = np.arange(start, start + pack.episode_lengths[number])
        values = pack.read_steps(steps)
    finally:
        pack.close()
    if pack.observation_spec is None or pack.action_spec is None:
        cameras = [n for n, shape in pack.shapes.items() if len(shape) == 3]
        vectors = {n: v for n, v in values.items() if n not in cameras}
        series = tuple(_unnamed(name, vectors[name]) for name in ("action", *sorted(vectors)))
        series = tuple({s.name: s for s in series}.values())
        rate = 0.0
    else:
        series = _spec_series(pack.observation_spec, pack.action_spec, values, values)
        cameras = [c.name for c in pack.observation_spec.cameras if c.name in values]
        rate = pack.action_spec.rate_hz
    return ViewedEpisode(
        title=f"{pack.directory}, {pack.split} {number}",
        rate_hz=rate,
        cameras={name: list(values[name]) for name in cameras},
        series=series,
        language=tuple(pack.instructions[i] for i in pack.episode_language[number]),
    )


def _from_act(path: Path) -> ViewedEpisode:
    layout = read_layout(path)
    episode = read_episode(path, sorted(layout.cameras), PictureCoding("jpeg"))
    return ViewedEpisode(
        title=str(path),
        rate_hz=0.0,
        cameras=episode.pictures,
        series=tuple(_unnamed(n, v, _ACT_UNITS.get(n, "")) for n, v in episode.arrays.items()),
        metadata={"sim": layout.sim, "compressed": layout.compressed},
    )


def _from_robomimic(path: Path, name: str) -> ViewedEpisode:
    demo = read_demo(path, name)
    names = ("actions", *demo.vectors, *(n for n in ("rewards", "dones") if n in demo.arrays))
    return ViewedEpisode(
        title=f"{path}, {name}",
        rate_hz=0.0,
        cameras={camera: list(read_pictures(path, name, camera)) for camera in demo.pictures},
        series=tuple(_unnamed(n, demo.arrays[n]) for n in names),
    )


def _spec_series(
    observation: ObservationSpec,
    action: ActionSpec,
    observed: Mapping[str, Any],
    commanded: Mapping[str, Any],
) -> tuple[Series, ...]:
    """Action and features with the names, units and limits of the specs."""
    found = [Series("action", commanded["action"], action.dims, action.unit, *_limits(action))]
    for feature in observation.features:
        if feature.name in observed:
            meaning = (feature.dims, feature.unit, *_limits(feature))
            found.append(Series(feature.name, observed[feature.name], *meaning))
    return tuple(found)


def _limits(spec: ActionSpec | FeatureSpec) -> tuple[Any, Any]:
    return spec.low, spec.high


def _unnamed(name: str, values: np.ndarray, unit: str = "") -> Series:
    """A series whose dimensions have numbers for names."""
    flat = values.reshape(len(values), -1)
    return Series(name, flat, tuple(str(d) for d in range(flat.shape[1])), unit)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(-1, 1)
