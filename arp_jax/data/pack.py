"""RLDS on disk -> packed step store (`store.py`), resumable and atomic.

Flows in: a TFDS dataset folder and the names of observations. Flows out: a folder of ArrayRecord
shards of whole episodes and, last, meta.json: a folder with meta.json is complete. A shard counts
once its shard-NNNNN.json lies beside it (written by atomic rename after the data), so a run that
was killed at any moment continues behind the last finished shard and ends with the same bytes.

    python -m arp_jax.data.pack --source data/push_t/1.0.0 --out data/push_t_pack \\
        --features agent_pos,keypoints
"""

import argparse
import dataclasses
import fcntl
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arp_jax.data.rlds import Episode, RldsDataset, open_dataset
from arp_jax.data.shards import (
    PARTIAL,
    ShardWriter,
    check_arrays,
    layout_of,
    shard_file,
    storable,
    write_json,
)
from arp_jax.data.stats import RunningStats, near_constant_dims
from arp_jax.data.store import (
    FORMAT,
    FORMAT_VERSION,
    GROUPS,
    MEMORY_BUDGET,
    META_FILE,
    Pack,
    check_shard_file,
    open_pack,
    read_meta,
    record_groups,
)
from arp_jax.normalize import Stats, stats_to_json

__all__ = ["Pack", "main", "open_pack", "pack_dataset"]

SHARD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is packed: some observations of a split of a dataset, and always the action."""

    dataset: RldsDataset
    split: str
    names: tuple[str, ...]

    @property
    def num_episodes(self) -> int:
        """Number of episodes of the split."""
        return self.dataset.num_episodes(self.split)

    def content_hash(self) -> str:
        """SHA-256 of the source's bytes and of what is selected from it (about 1 GB/s)."""
        selected = [FORMAT, FORMAT_VERSION, self.split, list(self.names)]
        digest = hashlib.sha256(json.dumps(selected).encode())
        files = ("features.json", "dataset_info.json", "specs.json")
        paths = [self.dataset.path / name for name in files]
        paths += [shard.path for shard in self.dataset.shards[self.split.split("[")[0]]]
        for path in paths:
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def episodes_from(self, done: int) -> Iterator[Episode]:
        """The episodes behind the first `done`, where possible without decoding those."""
        fields = [*(f"observation/{name}" for name in self.names), "action"]
        if done == self.num_episodes:
            return iter(())
        if "[" in self.split:
            return itertools.islice(self.dataset.episodes(self.split, fields), done, None)
        return self.dataset.episodes(f"{self.split}[{done}:]", fields)


def pack_dataset(
    dataset_path: str | Path,
    out_dir: str | Path,
    features: Sequence[str],
    progress: bool = True,
    *,
    split: str = "train",
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    memory_budget: int = MEMORY_BUDGET,
) -> Pack:
    """Packs a dataset, or continues an interrupted pack, or opens the equal pack that is there.

    Args:
        dataset_path: TFDS dataset folder (the one with features.json).
        out_dir: folder of the store; made when absent. Of several processes that pack into one
            folder, one works and the others wait and then open its result.
        features: names of observations, e.g. ("agent_pos", "keypoints"); the action is always
            stored. Vectors are stored as float32, images as raw uint8.
        progress: print a progress bar to stderr.
        split: split of the source or a part of it ("train[:90]").
        overwrite: replace a pack of other content instead of refusing.
        shard_bytes: a shard is closed after the episode with which it reaches this size.
        memory_budget: of the pack that is returned; see `open_pack`.

    Raises:
        ValueError: unknown feature or split, NaN or infinity (names episode and step), changing
            shapes, or `out_dir` holds a pack of other content.
    """
    selection = _select(open_dataset(dataset_path), split, features)
    content_hash = selection.content_hash()
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    with _exclusive(out):
        if overwrite or not (out / META_FILE).is_file():
            shards = _finished_shards(out, content_hash, overwrite)
            _write_shards(selection, out, content_hash, shards, shard_bytes, progress)
            _write_meta(selection, out, content_hash, shards)
            _remove(out, ["shard-*.json"])
        else:
            _check_same(out / META_FILE, read_meta(out)["content_hash"], content_hash)
    return open_pack(out, memory_budget)


def _select(dataset: RldsDataset, split: str, features: Sequence[str]) -> Selection:
    """Checks split and names; raises ValueError naming what does not exist."""
    dataset.num_episodes(split)
    names = tuple(name for name in dict.fromkeys(features) if name != "action")
    known = [key.split("/", 1)[1] for key in dataset.features if key.startswith("observation/")]
    if not names:
        raise ValueError(f"features is empty: choose from {known}")
    for name in names:
        if name not in known:
            raise ValueError(f"{dataset.path}: no observation {name!r}; there are {known}")
        if dataset.features[f"observation/{name}"].kind not in ("tensor", "image"):
            raise ValueError(f"{dataset.path}: observation {name!r} is not numeric; leave it out")
    return Selection(dataset, split, names)


@contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """One packing process a folder; the lock goes with its process, however that ends."""
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _finished_shards(out: Path, content_hash: str, overwrite: bool) -> list[dict[str, Any]]:
    """Shards that an interrupted run of the same content left; clears the folder of others."""
    _remove(out, [f"*{PARTIAL}"])
    shards: list[dict[str, Any]] = []
    while (path := out / shard_file(len(shards))).is_file():
        shard = json.loads(path.read_text())
        if overwrite and shard["content_hash"] != content_hash:
            break
        _check_same(path, shard["content_hash"], content_hash)
        try:
            for entry in shard["files"].values():
                check_shard_file(out, entry, verify=True)
        except ValueError:
            break  # it was damaged since: write it again, and those behind it
        shards.append(shard)
    if not shards:
        _remove(out, [META_FILE, "shard-*.json", *(f"{g}-*.array_record" for g in GROUPS)])
    return shards


def _check_same(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path}: packed from another source or selection (hash {found[:12]}, wanted "
            f"{expected[:12]}); choose another --out or pass --overwrite"
        )


def _write_shards(
    selection: Selection,
    out: Path,
    content_hash: str,
    shards: list[dict[str, Any]],
    shard_bytes: int,
    progress: bool,
) -> None:
    """Writes the shards that are missing and appends their descriptions to `shards`."""
    total = selection.num_episodes
    done = sum(len(shard["episode_lengths"]) for shard in shards)
    layout = shards[0]["features"] if shards else None
    writer: ShardWriter | None = None
    with tqdm(total=total, initial=done, desc="pack", unit="episode", disable=not progress) as bar:
        for index, episode in enumerate(selection.episodes_from(done), done):
            arrays = {name: storable(episode["observation"][name]) for name in selection.names}
            arrays["action"] = storable(episode["action"])
            layout = layout or layout_of(arrays)
            check_arrays(arrays, layout, index)
            writer = writer or ShardWriter(out, len(shards), layout)
            writer.add(arrays)
            if writer.nbytes >= shard_bytes or index == total - 1:
                shards.append(writer.finish(content_hash))
                writer = None
            bar.update()


def _write_meta(
    selection: Selection, out: Path, content_hash: str, shards: Sequence[Mapping[str, Any]]
) -> None:
    dataset, specs = selection.dataset, None
    if dataset.specs is not None:
        observation = dataset.specs.observation.select(selection.names)
        specs = {"observation": observation.to_json(), "action": dataset.specs.action.to_json()}
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "content_hash": content_hash,
        "source": f"{dataset.name}/{dataset.version}",
        "split": selection.split,
        "features": shards[0]["features"],
        "specs": specs,
        "stats": stats_to_json(_stats(out, shards)),
        "shards": [{key: shard[key] for key in ("episode_lengths", "files")} for shard in shards],
    }
    write_json(out / META_FILE, meta)


def _stats(out: Path, shards: Sequence[Mapping[str, Any]]) -> Stats:
    """Statistics of the vectors as they lie on disk: a resumed run gives the same numbers."""
    running: dict[str, RunningStats] = {}
    for shard in shards:
        (vectors, *_) = record_groups(out, shard["features"], [shard])
        names, first = vectors.dtype.names or (), 0
        for length in shard["episode_lengths"]:
            arrays = vectors.take(np.arange(first, first + length), names)
            for name, rows in arrays.items():
                running.setdefault(name, RunningStats()).update(rows)
            first += length
        vectors.close()
    return {name: stats.result() for name, stats in running.items()}


def _remove(out: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in out.glob(pattern):
            path.unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.pack",
        description="Packs an RLDS dataset into a step store for training. Safe to interrupt: "
        "the same command continues.",
        epilog="example: python -m arp_jax.data.pack --source data/push_t/1.0.0 "
        "--out data/push_t_pack --features agent_pos,keypoints",
    )
    parser.add_argument("--source", required=True, help="dataset folder with features.json")
    parser.add_argument("--out", required=True, help="folder of the step store")
    parser.add_argument("--features", required=True, help="observation names, comma-separated")
    parser.add_argument("--split", default="train", help="split or part, e.g. 'train[:90]'")
    parser.add_argument("--overwrite", action="store_true", help="replace a pack of other content")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    names = [name.strip() for name in args.features.split(",") if name.strip()]
    try:
        pack = pack_dataset(
            args.source,
            args.out,
            names,
            not args.quiet,
            split=args.split,
            overwrite=args.overwrite,
            memory_budget=0,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {pack.num_episodes} episodes, {pack.num_steps} steps, {list(pack.shapes)}")
    constant = near_constant_dims(pack.stats, pack.observation_spec)
    if constant:
        print(f"warning: near-constant dimensions keep unit scale: {', '.join(constant)}")
    pack.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
