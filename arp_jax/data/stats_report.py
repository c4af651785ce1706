"""Statistics of a source as a table: one row a dimension, with flags for what makes training fail.

Flows in: `SourceStats`. Flows out: a rich table. Flagged are dimensions that hardly vary, that take
two values only, that leave their limits, or that grow large under a normalisation. Nothing is
computed from the data here; whole-dataset checks are `validate.py`.

    python -m arp_jax.data.stats DATA/push_t/1.0.0
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arp_jax.data.shards import write_json
from arp_jax.data.stats import binary_dims, dim_names, listed, near_constant_dims
from arp_jax.data.stats_cache import SourceStats, stats_for
from arp_jax.normalize import FeatureStats, affine_from_stats, normalize, stats_to_json

# A normalised value beyond this is worth a flag.
LARGE = 20.0
# A feature with more dimensions (a sentence vector) is one row.
WIDE = 64
_COLUMNS = ("min", "q01", "mean", "q99", "max", "std")


def stats_table(found: SourceStats) -> Table:
    """One row a dimension, or one for all of a wide feature: statistics, beyond limits, flags."""
    steps = found.stats["action"].count
    title = escape(f"{found.source} {found.split}: {steps:,} steps")
    table = Table("dimension", title=title, box=box.SIMPLE, title_justify="left")
    for column in (*_COLUMNS, "beyond limits"):
        table.add_column(column, justify="right")
    table.add_column("flags")
    names = dim_names(found.observation, found.action)
    for feature, stats in found.stats.items():
        dims = names.get(feature, tuple(map(str, range(len(stats.mean)))))
        shares = found.outside.get(feature)
        if len(dims) > WIDE:
            table.add_row(*_wide_row(feature, stats))
            continue
        for index, dim in enumerate(dims):
            share = None if shares is None else shares[index]
            table.add_row(
                escape(f"{feature}[{dim}]"),
                *(f"{getattr(stats, column)[index]:.5g}" for column in _COLUMNS),
                "-" if share is None else f"{share:.2%}",
                ", ".join(flags(stats, index, share)),
            )
    return table


def _wide_row(feature: str, stats: FeatureStats) -> list[str]:
    """Ends over all dimensions, and how many are constant or binary."""
    counts = {"near-constant": stats.near_constant(), "binary": stats.binary()}
    found = (f"{flag.sum()} {name}" for name, flag in counts.items() if flag.any())
    low, high = f"{stats.min.min():.5g}", f"{stats.max.max():.5g}"
    dims = escape(f"{feature}[{len(stats.mean)} dimensions]")
    return [dims, low, "-", "-", "-", high, "-", "-", ", ".join(found)]


def flags(stats: FeatureStats, index: int, share: float | None = None) -> Iterator[str]:
    """What to look at in dimension `index`; `share` of its rows lies beyond its limits."""
    if stats.near_constant()[index]:
        yield "near-constant (unit scale)"
        return
    if stats.binary()[index]:
        yield "binary"
    if share:
        yield "leaves its limits"
    ends = np.stack([stats.min, stats.max]).astype(np.float64)  # [2, D]
    for method in ("standard", "quantile"):
        largest = np.abs(normalize(ends, affine_from_stats(stats, method)))[:, index].max()
        if largest > LARGE:
            yield f"{method}: up to {largest:.0f}"


def default_cache() -> Path:
    """$XDG_CACHE_HOME/arp_jax/stats, by default under ~/.cache."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "arp_jax" / "stats"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m arp_jax.data.stats`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.stats",
        description="Statistics of a dataset, with flags for what makes training fail.",
        epilog="example: python -m arp_jax.data.stats data/push_t/1.0.0",
    )
    add = parser.add_argument
    add("source", help="RLDS dataset folder (features.json) or pack (meta.json)")
    add("--split", default="train", help="split or part, e.g. 'train[:90]'")
    add("--card", help="name or file of the dataset's card; default: found by the dataset's name")
    add("--cache", type=Path, default=default_cache(), help="folder for results (%(default)s)")
    add("--no_cache", action="store_true", help="neither read nor keep results")
    add("--json", type=Path, help="write the statistics to this file, too")
    args = parser.parse_args(argv)
    try:
        cache = None if args.no_cache else args.cache
        found = stats_for(args.source, args.split, cache, args.card)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=None if sys.stdout.isatty() else 160).print(stats_table(found))
    specs = (found.observation, found.action)
    for label, dims in (
        ("near-constant", near_constant_dims(found.stats, *specs)),
        ("binary", binary_dims(found.stats, *specs)),
    ):
        print(f"{label}: {listed(dims)}")
    if args.json:
        write_json(args.json, {"stats": stats_to_json(found.stats), "outside": found.outside})
        print(f"written: {args.json}")
    return 0
