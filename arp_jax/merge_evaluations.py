"""Puts the shards of one evaluation together: one report over all episodes.

The folders that `arp_jax.evaluate --shard i/n` wrote flow in; the folder that an evaluation without
--shard would have written flows out (without its videos). Refused are shards of different
evaluations, and a set in which an episode is missing or there twice.

Example:
    for i in 0 1 2 3; do python -m arp_jax.evaluate RUN --shard $i/4 --out shards/$i; done
    python -m arp_jax.merge_evaluations merged shards/*
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arp_jax.evaluation import report
from arp_jax.evaluation.episodes import EpisodeResults, merge_results
from arp_jax.evaluation.gallery import Failures
from arp_jax.training.command_line import exit_status, run_parser

# So many shards show their failures in the merged report.
_GALLERIES = 4


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.merge_evaluations", __doc__)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder of the merged report")
    add("shards", type=Path, nargs="+", metavar="SHARD", help="folders of arp_jax.evaluate")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")
    return parser.parse_args(argv)


def check_protocol(first: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Raises ValueError naming the first entry in which two protocols differ."""
    for key in [*first, *other]:
        if first.get(key) != other.get(key):
            raise ValueError(
                f"{where} is of another evaluation: {key} is {other.get(key)!r}, "
                f"in the first shard {first.get(key)!r}"
            )


def merge(out: Path, shards: Sequence[Path]) -> str:
    """Writes the merged report; returns the table.

    Raises:
        ValueError: the shards do not make up one evaluation.
    """
    summaries = [report.read_summary(shard) for shard in shards]
    protocol = summaries[0]["protocol"]
    for shard, summary in zip(shards, summaries, strict=True):
        check_protocol(protocol, summary["protocol"], str(shard))
    labels = [summaries[0]["label"], *(s["label"] for s in summaries[0]["beside"])]
    results: dict[str, EpisodeResults] = {}
    for label in labels:
        parts = [report.read_results(shard, label) for shard in shards]
        results[label] = merge_results(parts, protocol["episodes"])
    comparison = report.compare_all(results) if summaries[0]["comparison"] else None
    about = summaries[0]["about"] | {
        "shard": f"{len(shards)} merged",
        "merged from": ", ".join(map(str, shards)),
    }
    merged = report.write_report(
        out,
        results,
        about,
        comparison=comparison,
        failures=_galleries(shards),
        protocol=protocol,
    )
    text = report.table(merged)
    return text if comparison is None else f"{text}\n{comparison.describe()}"


def _galleries(shards: Sequence[Path]) -> list[Failures]:
    """The failures that the first shards show."""
    found = [
        Failures(shard / "failures.png", shard / "failures.mp4")
        for shard in shards
        if (shard / "failures.png").is_file() and (shard / "failures.mp4").is_file()
    ]
    return found[:_GALLERIES]


def run_command(flags: argparse.Namespace) -> None:
    """Merges, prints the table and where the report is."""
    print(merge(flags.out, flags.shards))
    print(f"report  {flags.out / 'report.html'}")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    return exit_status(lambda: run_command(flags), flags.traceback)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
