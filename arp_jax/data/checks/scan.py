"""One pass over a dataset: records in, one `EpisodeReport` per episode out.

In: a `Source` and a split. Out: reports, made in worker processes; memory holds one episode per
worker and a few kilobytes per episode seen. A record that cannot be read becomes a
finding, and reading goes on behind it where the file still has an order. What is checked is in
`checks/`.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.checks.dims import Dim, dims_of, pairs_of
from arp_jax.data.checks.episode import EpisodeReport, band_of, inspect_episode, merge_bands
from arp_jax.data.checks.findings import ACTION, OBSERVATION, EpisodeView, Finding
from arp_jax.data.checks.values import bridged, check_finite
from arp_jax.data.processes import run_jobs
from arp_jax.data.rlds import Episode
from arp_jax.data.source import Source
from arp_jax.data.standardize import raw_fields, standardize

# Episodes in one piece of work: a progress bar that moves, and little lost time between pieces.
PIECE = 16
_FLAGS = ("is_first", "is_last", "is_terminal")
_TIME = re.compile(r"^(time|time_?stamps?|stamp|t)(_?(s|sec|ms|us|ns))?$", re.IGNORECASE)
_TEXT = re.compile(r"instruction|language", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class PieceReport:
    """What one piece of work found: its episodes in order, and the bands of all their values."""

    episodes: tuple[EpisodeReport, ...]
    bands: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Episodes [begin, end) of a split, all in one shard."""

    split: str
    begin: int
    end: int
    file: str


def pieces(source: Source, split: str, workers: int) -> list[Piece]:
    """Cuts a split, or a part of it ("train[:90]"), into pieces of work.

    Raises:
        ValueError: unknown split.
    """
    name, begin, end = source.dataset.resolve(split)
    result, first = [], 0
    for shard in source.dataset.shards[name]:
        low, high = max(begin, first), min(end, first + shard.episodes)
        first += shard.episodes
        # A TFRecord file has no index: every piece reads what lies before it.
        indexed = ".array_record" in shard.path.name
        size = PIECE if indexed else max(PIECE, -(-shard.episodes // max(workers, 1)))
        for start in range(low, high, size):
            result.append(Piece(name, start, min(start + size, high), shard.path.name))
    return result


def scan(source: Source, split: str, workers: int = 0) -> Iterator[PieceReport]:
    """Yields the reports of the pieces of a split, in the order in which they are finished.

    Args:
        source: the dataset.
        split: name, or a part of it.
        workers: processes; 0 takes one a core, 1 works in this process and in order.

    Raises:
        ValueError: unknown split (at the first report), or a worker was killed.
    """
    workers = workers or os.cpu_count() or 1
    work = pieces(source, split, workers)
    yield from run_jobs(functools.partial(scan_piece, source), work, workers)


def scan_piece(source: Source, piece: Piece) -> PieceReport:
    """Checks one piece; what cannot be read has length 0 and one finding."""
    table, pairs = dims_of(source.specs), pairs_of(source.specs)
    reports: list[EpisodeReport] = []
    bands: dict[str, np.ndarray] = {}
    for number, content in readable(source, piece):
        if isinstance(content, str):
            finding = Finding("unreadable", content, number, step=0, file=piece.file)
            reports.append(EpisodeReport(number, 0, piece.file, (finding,)))
            continue
        view, found = view_of(content, number, source, table)
        reports.append(inspect_episode(view, table, pairs, piece.file, found))
        if view.length:
            merge_bands(bands, {f: band_of(v) for f, v in view.vectors.items()})
    return PieceReport(tuple(reports), bands)


def readable(source: Source, piece: Piece) -> Iterator[tuple[int, Episode | str]]:
    """Yields (number, raw episode, or why it cannot be read) for every episode of a piece."""
    number, previous = piece.begin, ""
    while number < piece.end:
        part = f"{piece.split}[{number}:{piece.end}]"
        try:
            for episode in source.dataset.episodes(part, _select(source), decode_images=False):
                yield number, episode
                number, previous = number + 1, ""
        except ValueError as error:
            if number == piece.end:  # the reader looked at the record behind the last one
                return
            # The same words twice: the file itself is broken, not one record of it.
            reason = str(error)
            stop = piece.end if reason == previous else number + 1
            for lost in range(number, stop):
                yield lost, reason
            number, previous = stop, reason


def _select(source: Source) -> list[str]:
    """Raw fields that the checks look at: those of the specs, flags, time stamps and texts."""
    features = source.dataset.features
    if source.card is not None:
        names = {camera.name for camera in source.specs.observation.cameras}
        wanted = set(raw_fields(source.card, names))
    else:
        wanted = {ACTION, *(OBSERVATION + n for n in source.specs.observation.names)}
    wanted |= set(_FLAGS)
    return [
        f.name
        for f in features.values()
        if f.kind != "unsupported"
        and (f.name in wanted or (f.per_step and _is_extra(f.path[-1], f.kind)))
    ]


def _is_extra(key: str, kind: str) -> bool:
    return bool(_TIME.match(key)) or (kind == "text" and bool(_TEXT.search(key)))


def view_of(
    raw: Episode, number: int, source: Source, table: Mapping[str, Sequence[Dim]]
) -> tuple[EpisodeView, list[Finding]]:
    """An episode as the checks see it, and what was wrong with its arrays."""
    fields = source.dataset.features.values()
    per_step = {f.name: _at(raw, f.path) for f in fields if f.per_step and _has(raw, f.path)}
    texts = {
        f.name: _strings(per_step[f.name])
        for f in fields
        if f.name in per_step and f.dtype == "string" and f.shape == () and _TEXT.search(f.path[-1])
    }
    found: list[Finding] = []
    if source.card is not None:
        try:
            raw = standardize(raw, source.card)
            language = tuple(raw["language"]) or (() if texts else None)
        except ValueError as error:
            return _empty_view(number, source), [Finding("unreadable", str(error), number, step=0)]
    else:
        words = (text for values in texts.values() for text in values if text.strip())
        language = tuple(dict.fromkeys(words)) if texts else None
    length = len(raw[ACTION]) if ACTION in raw else 0
    view = EpisodeView(
        number=number,
        length=length,
        specs=source.specs,
        vectors=_vectors(raw, number, source, table, found),
        images=_images(raw, number, source, length, found),
        flags={n: np.asarray(raw[n], bool) for n in _FLAGS if n in raw},
        times={n: _column(v) for n, v in per_step.items() if _is_time(n, v)},
        texts=texts,
        language=language,
    )
    return view, found


def _empty_view(number: int, source: Source) -> EpisodeView:
    return EpisodeView(number, 0, source.specs, {}, {}, {}, {}, {}, None)


def _vectors(
    episode: Episode,
    number: int,
    source: Source,
    table: Mapping[str, Sequence[Dim]],
    found: list[Finding],
) -> dict[str, np.ndarray]:
    """Vectors of the specs' sizes, finite; what is missing or misshapen goes to `found`."""
    vectors = {}
    sizes = {ACTION: source.specs.action.dims}
    sizes |= {OBSERVATION + f.name: f.dims for f in source.specs.observation.features}
    for field, dims in sizes.items():
        node = episode if field == ACTION else episode.get("observation", {})
        key = field.removeprefix(OBSERVATION)
        if key not in node:
            message = f"the specs name {field}, the episode has {sorted(node)}"
            found.append(Finding("missing_field", message, number, step=0, field=field))
            continue
        values = np.asarray(node[key])
        if values.dtype.kind not in "fiub" or values.shape[1:] != (len(dims),):
            message = f"each step has shape {list(values.shape[1:])}, the specs say [{len(dims)}]"
            found.append(Finding("wrong_shape", message, number, step=0, field=field))
            continue
        values = values.astype(np.float64)
        found += check_finite(number, field, values, dims)
        if field in table:
            vectors[field] = bridged(values)
    return vectors


def _images(
    episode: Episode, number: int, source: Source, length: int, found: list[Finding]
) -> dict[str, Any]:
    images = {}
    for camera in source.specs.observation.cameras:
        frames = episode.get("observation", {}).get(camera.name)
        if frames is None:
            message = f"the specs name the camera {camera.name}, the episode lacks it"
            field = OBSERVATION + camera.name
            found.append(Finding("missing_field", message, number, step=0, field=field))
        elif len(frames) == length:
            images[camera.name] = frames
    return images


def _has(node: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            return False
        node = node[key]
    return True


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node[key]
    return node


def _strings(values: Any) -> list[str]:
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _is_time(name: str, values: Any) -> bool:
    array = np.asarray(values)
    numeric = array.dtype.kind in "fiu" and array.ndim <= 2 and array.size == len(array)
    return bool(_TIME.match(name.rsplit("/", 1)[-1])) and numeric


def _column(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(-1)
