"""Writes the corrected copy of a validated dataset; the source is only read.

In: a source, its split and `Repair`s. Out: a TFDS folder OUT/NAME/VERSION. A dataset of this
project is copied field by field as it is stored; a foreign one in its canonical form, since a card
describes the published layout only. Which steps are kept was decided by `checks/fix.py`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.checks.findings import ACTION, OBSERVATION
from arp_jax.data.checks.fix import Repair
from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.rlds import Episode
from arp_jax.data.rlds_features import Field
from arp_jax.data.rlds_write import Conversion, convert
from arp_jax.data.source import Source

# Going on reading costs less than looking for the place again, up to so many episodes.
_FORWARD = 8


class RepairedEpisodes:
    """Reads repaired episodes, `(Repair) -> example`; sent to workers before it has read any.

    Args:
        source: the dataset.
        split: name of the split.
        clip: bring actions into the limits of the specs.
    """

    def __init__(self, source: Source, split: str, clip: bool) -> None:
        self._source, self._split, self._clip = source, split, clip
        self._next = -_FORWARD
        self._episodes: Iterator[Episode] = iter(())

    def __call__(self, repair: Repair) -> dict[str, Any]:
        """The example of one episode; raises ValueError when it cannot be read any more."""
        episode = self._at(repair.episode)
        if self._clip:
            spec = self._source.specs.action
            clipped = np.clip(episode[ACTION], spec.low, spec.high)
            episode = {**episode, ACTION: clipped.astype(episode[ACTION].dtype)}
        if self._source.card:
            return _canonical_example(self._source, episode, repair)
        return _stored_example(self._source.dataset.features, episode, repair)

    def _at(self, number: int) -> Episode:
        """The episode; while numbers rise, the file is read on."""
        if not 0 <= number - self._next < _FORWARD:
            self._open(number)
        try:
            while self._next < number:
                next(self._episodes)
                self._next += 1
            episode = next(self._episodes)
        except ValueError:  # one between was dropped because it cannot be read
            self._open(number)
            episode = next(self._episodes)
        self._next = number + 1
        return episode

    def _open(self, number: int) -> None:
        part = f"{self._split}[{number}:]"
        reader = self._source if self._source.card else self._source.dataset
        self._episodes, self._next = reader.episodes(part, decode_images=False), number


def write_copy(
    out: Path,
    source: Source,
    split: str,
    repairs: Sequence[Repair],
    *,
    clip: bool,
    workers: int = 0,
    progress: bool = True,
) -> Path:
    """Writes OUT/NAME/VERSION and returns it.

    Args:
        out: data folder; not the one that holds the source.
        source: the validated dataset.
        split: name, without a part.
        repairs: of every episode; dropped ones are left out.
        clip: bring actions into the limits of the specs.
        workers: processes; 0 takes one a core.
        progress: print a progress bar to stderr.

    Raises:
        ValueError: the copy would lie over the source, nothing is left, or a field cannot be
            copied.
    """
    dataset = source.dataset
    if (out / dataset.name / dataset.version).resolve() == source.path.resolve():
        raise ValueError(f"--fix {out}: that is the source itself; choose another folder")
    kept = [repair for repair in repairs if not repair.dropped]
    if not kept:
        raise ValueError(f"{source.path}: no episode of {split!r} is left; nothing was written")
    conversion = Conversion(
        name=dataset.name,
        specs=source.specs,
        features=_canonical_features(source) if source.card else _stored_features(source),
        description=f"Corrected copy of {source.path}.",
        arguments={
            "corrected": str(source.path),
            "split": split,
            "clip": clip,
            "kept": [[r.episode, r.begin, r.end] for r in kept],
        },
        license=source.card.license if source.card else "",
        citation=source.card.citation if source.card else "",
        version=dataset.version,
    )
    read = RepairedEpisodes(source, split, clip)
    return convert(out, conversion, {split: kept}, read, workers=workers, progress=progress)


def _stored_features(source: Source) -> tfds.features.FeaturesDict:
    for field in source.dataset.features.values():
        if field.kind == "unsupported":
            raise ValueError(
                f"{source.path}: field {field.name!r} ({field.class_name}) cannot be copied; "
                "rebuild the dataset without it"
            )
    return tfds.features.FeaturesDict.from_config(str(source.path))


def _stored_example(
    fields: Mapping[str, Field], episode: Episode, repair: Repair
) -> dict[str, Any]:
    """An episode as it was stored, without the steps that are cut off, its flags set."""
    length = repair.end - repair.begin
    example: dict[str, Any] = {"steps": [{} for _ in range(length)]}
    for field in fields.values():
        values = _value_at(episode, field.path)
        if not field.per_step:
            _put(example, field.path, _plain(values, field))
            continue
        flags = _flags(field.name, values, repair)
        values = values[repair.begin : repair.end] if flags is None else flags
        for step, value in zip(example["steps"], values, strict=True):
            _put(step, field.path, _plain(value, field))
    return example


def _flags(name: str, stored: np.ndarray, repair: Repair) -> np.ndarray | None:
    """The flags [T'] of a repaired episode; None for other fields."""
    steps = np.arange(repair.begin, repair.end)
    if name == "is_first":
        return steps == repair.begin
    if name == "is_last":
        return steps == repair.end - 1
    if name == "is_terminal":
        return (steps == len(stored) - 1) & bool(stored[-1])
    return None


def _plain(value: Any, field: Field) -> Any:
    """A value as TFDS takes it; encoded pictures as open files."""
    if field.kind == "image":
        return io.BytesIO(value)
    return str(value) if field.kind == "text" and np.ndim(value) == 0 else value


def _value_at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node[key]
    return node


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _canonical_features(source: Source) -> tfds.features.FeaturesDict:
    stored = source.dataset.features.values()
    images = [f for f in stored if f.kind == "image" and f.name.startswith(OBSERVATION)]
    return episode_features(
        source.specs.observation,
        source.specs.action,
        metadata={"source_episode": tfds.features.Scalar(np.int64, doc="its number before")},
        reward="as published" if "reward" in source.dataset.features else None,
        language=True,
        image_format="jpeg" if any(f.encoding == "jpeg" for f in images) else "png",
    )


def _canonical_example(source: Source, episode: Episode, repair: Repair) -> dict[str, Any]:
    kept = slice(repair.begin, repair.end)
    whole = repair.end == len(episode[ACTION])
    terminal = np.asarray(episode.get("is_terminal", [False]))
    reward = episode.get("reward") if "reward" in source.dataset.features else None
    return episode_example(
        observation={name: values[kept] for name, values in episode["observation"].items()},
        action=episode[ACTION][kept],
        reward=None if reward is None else reward[kept],
        success=whole and bool(terminal[-1]),
        metadata={"source_episode": repair.episode},
        instruction=(episode["language"] or ("",))[0],
    )
