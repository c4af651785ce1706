"""A dataset on disk -> packed step store (`store.py`): parallel, resumable and atomic.

Flows in: any folder that `source.py` opens, and what of it is wanted. Flows out: a folder of
ArrayRecord shards of whole episodes and, last, meta.json: a folder with meta.json is complete.
Which episodes make a shard follows from the content alone; worker processes write whole shards, and
a shard counts once its shard-NNNNN.json lies beside it. So a run that was killed at any moment
continues with the shards that are missing and ends with the same bytes, and N machines can write
one store together (`--host`).

    python -m arp_jax.data.pack --source data/bridge_dataset/1.0.0 --out data/bridge_pack
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arp_jax.data.pack_plan import SHARD_BYTES
from arp_jax.data.pack_write import pack_part
from arp_jax.data.shards import RAW
from arp_jax.data.stats import near_constant_dims
from arp_jax.data.store import ENCODED, MEMORY_BUDGET, Pack, open_pack

__all__ = ["Pack", "main", "open_pack", "pack_dataset", "pack_part"]


def pack_dataset(
    dataset_path: str | Path,
    out_dir: str | Path,
    features: Sequence[str] = (),
    progress: bool = True,
    *,
    memory_budget: int = MEMORY_BUDGET,
    **options: Any,
) -> Pack:
    """Packs a dataset, or continues an interrupted pack, or opens the equal pack that is there.

    Args:
        dataset_path: TFDS dataset folder (the one with features.json).
        out_dir: folder of the store; made when absent. Of several processes that pack into one
            folder, one works and the others wait and then open its result.
        features: names of observations, e.g. ("agent_pos", "image"); () takes all that the source's
            specs name. The action is always stored.
        progress: print a progress bar to stderr.
        memory_budget: of the pack that is returned; see `open_pack`.
        **options: of `pack_part`, except the host.

    Raises:
        ValueError: as `pack_part`.
    """
    out = Path(out_dir)
    pack_part(dataset_path, out, features, progress, **options)
    return open_pack(out, memory_budget)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = _parser().parse_args(argv)
    names = [name.strip() for name in args.features.split(",") if name.strip()]
    try:
        missing = pack_part(
            args.source,
            args.out,
            names,
            not args.quiet,
            split=args.split,
            images=args.images,
            resize=parse_resize(args.resize),
            card=args.card,
            workers=args.workers,
            host=parse_host(args.host),
            overwrite=args.overwrite,
            shard_bytes=args.shard_mb << 20,
        )
        if missing:
            print(
                f"{args.out}: host {args.host} is done; {missing} shards are left to other hosts "
                "(the last one writes meta.json; folders of their own are copied into one first)"
            )
            return 0
        pack = open_pack(args.out, memory_budget=0)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe_pack(pack))
    pack.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.pack",
        description="Packs an RLDS dataset into a step store for training. Safe to interrupt: "
        "the same command continues.",
        epilog="example: python -m arp_jax.data.pack --source data/bridge_dataset/1.0.0 "
        "--out data/bridge_pack --resize image=256x256",
    )
    add = parser.add_argument
    add("--source", required=True, help="dataset folder with features.json")
    add("--out", required=True, help="folder of the step store")
    add(
        "--features",
        default="",
        help="observation names, comma-separated; default: all of the specs",
    )
    add("--split", default="train", help="split or part, e.g. 'train[:90]'")
    add("--card", help="name or file of the dataset's card; default: found by the dataset's name")
    add(
        "--images",
        default=ENCODED,
        choices=(ENCODED, RAW),
        help="encoded: PNG/JPEG as stored; raw: uint8 pixels (larger, no decoding in training)",
    )
    add("--resize", default="", help="CAMERA=HEIGHTxWIDTH[,...]: resized once (JPEG, quality 95)")
    add("--workers", type=int, default=0, help="processes; default: one a core")
    add("--host", default="0/1", help="I/N: pack the I-th (from 0) of N parts of the same store")
    add("--shard-mb", type=int, default=SHARD_BYTES >> 20, help="about the size of a shard in MiB")
    add("--overwrite", action="store_true", help="replace a pack of other content")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def parse_resize(text: str) -> dict[str, tuple[int, int]]:
    """ "image=256x320,wrist_image=128x128" -> {camera: (height, width)}; raises ValueError."""
    sizes = {}
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*([^=\s]+)=(\d+)x(\d+)\s*", part)
        if match is None:
            raise ValueError(f"--resize {part!r}: write CAMERA=HEIGHTxWIDTH, e.g. image=256x256")
        sizes[match[1]] = (int(match[2]), int(match[3]))
    return sizes


def parse_host(text: str) -> tuple[int, int]:
    """ "0/4" -> (0, 4); raises ValueError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ValueError(f"--host {text!r}: write I/N with I from 0 to N-1, e.g. 0/4")
    return int(match[1]), int(match[2])


def describe_pack(pack: Pack) -> str:
    """Lines for the terminal: sizes, features, language, and what looks odd."""
    lines = [f"{pack.directory}: {pack.num_episodes} episodes, {pack.num_steps} steps"]
    for name, shape in pack.shapes.items():
        form = "encoded" if name in pack.encoded else pack.dtypes[name]
        lines.append(f"  {name:20s} {list(shape)} {form}")
    with_language = sum(bool(indices) for indices in pack.episode_language)
    lines.append(f"  {len(pack.instructions)} instructions, in {with_language} episodes")
    constant = near_constant_dims(pack.stats, pack.observation_spec)
    if constant:
        lines.append(f"warning: near-constant dimensions keep unit scale: {', '.join(constant)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
