"""Statistics of whole sources, kept under the hash of their content.

Flows in: an RLDS folder (whatever `source.py` opens) or packs. Flows out: `SourceStats`, from the
cache when the content is the same, otherwise made in one pass. A cache file is there completely or
not at all; one that cannot be read is made again. How statistics are made is `stats.py`, how they
are shown `stats_report.py`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.folders import find_dataset
from arp_jax.data.pack_plan import content_hash, select
from arp_jax.data.shards import write_json
from arp_jax.data.stats import RunningStats, merge_stats, outside_share, results, running_stats
from arp_jax.data.store import ENCODED, META_FILE, Pack, open_pack
from arp_jax.normalize import Stats, affine_from_limits, stats_from_json, stats_to_json
from arp_jax.specs import ActionSpec, ObservationSpec

FORMAT, FORMAT_VERSION = "arp_jax.stats", 2
BLOCK_STEPS = 65_536

# Feature -> share [D] of its rows beyond the limits of its spec.
Outside = dict[str, list[float]]
# What else a pass has found, as JSON values: such shares, or lengths of episodes.
Lists = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class SourceStats:
    """Statistics of a source.

    Attributes:
        source, split: what they are of.
        observation, action: what its numbers mean.
        stats: of every vector feature and the action.
        outside: share of the rows beyond the limits, for features whose spec has limits; of all
            rows, or from `stats.RESERVOIR_ROWS` on of a uniform sample of so many.
    """

    source: str
    split: str
    observation: ObservationSpec
    action: ActionSpec
    stats: Stats
    outside: Outside


def stats_for(
    source: str | Path,
    split: str = "train",
    cache_dir: str | Path | None = None,
    card: str | None = None,
) -> SourceStats:
    """Statistics of a source, in one pass over it unless the cache has them.

    Args:
        source: RLDS folder or pack, or the folder above its only version.
        split: of an RLDS source, or a part of it ("train[:90]"); a pack has only what was packed.
        cache_dir: where they are kept, one JSON file for each content; None keeps none.
        card: of a foreign dataset, see `source.open_source`.

    Raises:
        ValueError: nothing usable at the path, unknown split, or a value that is not finite.
    """
    folder = find_dataset(source)
    if (folder / META_FILE).is_file():
        pack = open_pack(folder, memory_budget=0)
        if pack.observation_spec is None or pack.action_spec is None:
            raise ValueError(f"{folder}: the pack says nothing about its units; pack it again")
        observation, action, split = pack.observation_spec, pack.action_spec, pack.split
        vectors = [name for name, shape in pack.shapes.items() if len(shape) == 1]

        def measure() -> dict[str, RunningStats]:
            return pack_running_stats(pack, vectors)

        key = pack.content_hash
    else:
        selection, opened = select(folder, split, (), ENCODED, {}, card)
        observation, action = opened.specs.observation, opened.specs.action
        names = [feature.name for feature in observation.features]

        def measure() -> dict[str, RunningStats]:
            return running_stats(opened.episodes(split, names, decode_images=False))

        # Hashing reads every byte: only where it may save a pass.
        key = "" if cache_dir is None else content_hash(opened, selection)

    limits = {f.name: (f.low, f.high) for f in observation.features}
    limits["action"] = (action.low, action.high)

    def compute() -> tuple[Stats, Outside]:
        running = measure()
        return results(running), _beyond_limits(running, limits)

    stats, outside = cached(cache_dir, key, compute)
    return SourceStats(str(folder), split, observation, action, stats, outside)


def merged_pack_stats(packs: Sequence[Pack], names: Sequence[str], cache_dir: Path) -> Stats:
    """Statistics of several packs as if they were one; every step has the same weight.

    Args:
        packs: with the same vectors `names`.
        names: the vectors.
        cache_dir: the result is kept there under the hash of all packs.
    """
    identity = json.dumps([[pack.content_hash for pack in packs], sorted(names)])

    def compute() -> tuple[Stats, Outside]:
        parts = [pack_running_stats(pack, names, stream=i) for i, pack in enumerate(packs)]
        return results(merge_stats(parts)), {}

    return cached(cache_dir, hashlib.sha256(identity.encode()).hexdigest(), compute)[0]


def pack_running_stats(
    pack: Pack, names: Sequence[str], stream: int = 0
) -> dict[str, RunningStats]:
    """One pass over vectors `names` of all steps of a pack; see `stats.running_stats`."""
    running = {name: RunningStats(stream=stream) for name in names}
    for arrays in step_blocks(pack, names):
        for name, rows in arrays.items():
            running[name].update(rows)
    return running


def step_blocks(pack: Pack, names: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
    """All steps of a pack in blocks of `BLOCK_STEPS`: {name: [n, ...]}."""
    wanted = list(names)
    for start in range(0, pack.num_steps, BLOCK_STEPS):
        yield pack.read_steps(np.arange(start, min(start + BLOCK_STEPS, pack.num_steps)), wanted)


def _beyond_limits(
    running: Mapping[str, RunningStats], limits: Mapping[str, tuple[Any, Any]]
) -> Outside:
    shares: Outside = {}
    for name, stats in running.items():
        low, high = limits.get(name, (None, None))
        if low is not None and high is not None:
            rows = stats.sample().astype(np.float64)
            shares[name] = outside_share(rows, affine_from_limits(low, high)).tolist()
    return shares


def cached(
    cache_dir: str | Path | None, key: str, compute: Callable[[], tuple[Stats, Lists]]
) -> tuple[Stats, Lists]:
    """The result kept under `key`, or the computed one, which is kept then.

    Args:
        cache_dir: folder of the files, one for each key; None keeps nothing.
        key: hexadecimal hash of all that the result depends on.
        compute: gives statistics and what else the pass has found.
    """
    if cache_dir is None:
        return compute()
    path = Path(cache_dir) / f"stats-{key[:32]}.json"
    found = _read(path, key)
    if found is not None:
        return found
    stats, lists = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "content_hash": key}
    write_json(path, {**head, "stats": stats_to_json(stats), "lists": lists})
    return stats, lists


def _read(path: Path, key: str) -> tuple[Stats, Lists] | None:
    """The content of a cache file; None where there is none of this content and version."""
    try:
        content = json.loads(path.read_text())
        head = tuple(content[name] for name in ("format", "format_version", "content_hash"))
        if head != (FORMAT, FORMAT_VERSION, key):
            return None
        return stats_from_json(content["stats"]), content["lists"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
