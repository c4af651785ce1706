"""Checks a dataset before anybody trains on it, and writes a corrected copy if asked.

    python -m arp_jax.data.validate data/push_t/1.0.0
    python -m arp_jax.data.validate push_t --report report.html --fix data_fixed

In: an RLDS folder (of this project, or a published one with a card) or its name in --data_dir. Out:
a table of findings with file, episode and step, on request an HTML page, a JSON file, a copy. Exit
status: 0 nothing worse than warnings, 1 errors found, 2 the dataset cannot be read. The checks are
in `checks/`.
"""

import argparse
import collections
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from tqdm import tqdm

from arp_jax.data.checks.compare import compare
from arp_jax.data.checks.copy import write_copy
from arp_jax.data.checks.dims import dims_of, pairs_of
from arp_jax.data.checks.episode import EpisodeReport, merge_bands
from arp_jax.data.checks.fix import FLAGS, left_alone, plan_repairs
from arp_jax.data.checks.page import write_page
from arp_jax.data.checks.report import Validation, groups_of, print_table, write_findings
from arp_jax.data.checks.scan import scan
from arp_jax.data.folders import find_dataset
from arp_jax.data.source import Source, open_source
from arp_jax.data.store import META_FILE


def validate(
    source: Source, split: str = "train", workers: int = 0, progress: bool = True
) -> Validation:
    """Runs every check on a split.

    Args:
        source: the dataset.
        split: name, or a part of it ("train[:90]").
        workers: processes; 0 takes one a core, 1 works in this process.
        progress: print a progress bar to stderr.

    Raises:
        ValueError: unknown split, or a worker was killed.
    """
    start = time.perf_counter()
    total = source.num_episodes(split)
    reports: list[EpisodeReport] = []
    bands: dict[str, np.ndarray] = {}
    with tqdm(total=total, desc="validate", unit="episode", disable=not progress) as bar:
        for piece in scan(source, split, workers):
            reports += piece.episodes
            merge_bands(bands, piece.bands)
            bar.update(len(piece.episodes))
    findings = compare(reports, dims_of(source.specs), pairs_of(source.specs))
    instructions = collections.Counter(r.instruction for r in reports if r.instruction)
    return Validation(
        path=source.path,
        name=source.dataset.name,
        split=split,
        specs=source.specs,
        lengths={r.number: r.length for r in sorted(reports, key=lambda r: r.number) if r.length},
        episodes=total,
        instructions=dict(instructions.most_common()),
        findings=findings,
        bands=bands,
        seconds=time.perf_counter() - start,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = _parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=False)
    try:
        source = open_source(_find(args.dataset, args.data_dir), args.card)
        split = args.split
        if args.episodes:
            name, begin, end = source.dataset.resolve(split)
            split = f"{name}[{begin}:{min(end, begin + args.episodes)}]"
        if args.fix and "[" in split:
            raise ValueError("--fix copies a whole split: leave out --episodes and the part")
        result = validate(source, split, args.workers, not args.quiet)
        print_table(result, console)
        if args.json:
            write_findings(args.json, result)
        if not result.lengths:
            raise ValueError(f"{source.path}: none of {result.episodes} episodes can be read")
        if args.report:
            write_page(args.report, result, source)
            console.print(f"report: {args.report}", markup=False, highlight=False)
        if args.fix:
            _fix(result, source, args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if result.counts["error"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.validate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", help="folder with features.json, or a name below --data_dir")
    add("--data_dir", type=Path, default=Path("data"), help="default: %(default)s")
    add("--card", help="of a foreign dataset: a name or a file; default: found by the name")
    add("--split", default="train", help="or a part, e.g. 'train[:10%%]'; default: %(default)s")
    add("--episodes", type=int, default=0, metavar="N", help="only the first N of the split")
    add("--report", type=Path, metavar="FILE.html", help="write a page with plots and pictures")
    add("--json", type=Path, metavar="FILE", help="write all findings")
    add("--fix", type=Path, metavar="OUT", help="write a corrected copy to OUT/NAME/VERSION")
    add("--clip", action="store_true", help="with --fix: bring actions into the specs' limits")
    add("--workers", type=int, default=0, metavar="N", help="processes; default: one a core")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _find(dataset: str, data_dir: Path) -> Path:
    """A folder, or the newest version of a name."""
    for path in (Path(dataset), data_dir / dataset):
        if path.is_dir():
            folder = find_dataset(path)
            if (folder / META_FILE).is_file():
                raise ValueError(f"{folder}: is a pack; validate the dataset that it was made from")
            return folder
    raise ValueError(
        f"{dataset}: neither a folder nor a dataset in {data_dir}; name the folder that holds "
        "features.json, or give --data_dir"
    )


def _fix(result: Validation, source: Source, args: argparse.Namespace) -> None:
    """Writes the copy and prints what was changed and what was not."""
    repairs = plan_repairs(result.findings, result.lengths)
    folder = write_copy(
        args.fix,
        source,
        result.split,
        repairs,
        clip=args.clip,
        workers=args.workers,
        progress=not args.quiet,
    )
    for repair in repairs:
        if repair.reasons:
            print(repair.describe(result.lengths.get(repair.episode, 0)))
    flags = [f for f in result.findings if f.kind in FLAGS]
    if flags:
        names = ", ".join(sorted({f.field for f in flags}))
        print(f"flags set from the episodes' bounds: {names}")
    if args.clip:
        clipped = sum(f.steps for f in result.findings if f.kind == "action_range")
        print(f"actions clipped to the limits: {clipped} values lay clearly outside")
    gone = {repair.episode for repair in repairs if repair.dropped}
    left = [f for f in left_alone(result.findings, args.clip) if f.episode not in gone]
    for group in groups_of(left):
        where = "; ".join(filter(None, [group.where, group.others]))
        print(f"left as it is: {group.kind} in {group.signal or 'the episode'}, {where}")
    kept = sum(not repair.dropped for repair in repairs)
    print(f"corrected copy: {folder}, {kept} of {result.episodes} episodes")


if __name__ == "__main__":
    sys.exit(main())
