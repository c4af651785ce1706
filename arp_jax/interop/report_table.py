"""A conversion's `Report` as tables for people: what became of every tensor of a file.

In: a report and the state dict that it is about. Out: rich tables, printed or written as text.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from arp_jax.interop.torch_state import Report

# Outcome -> what it means; in the order of the tables.
OUTCOMES = {
    "wrong shape": "not as large as the config says",
    "missing": "needed, but not in the file",
    "unused": "not known to the policy",
    "ignored": "constants, counters, second names",
    "used": "now parameters",
}
FATAL = ("wrong shape", "missing", "unused")
_WIDTH = 200  # of text files; wide enough for the longest name


def outcomes(report: Report) -> dict[str, list[str]]:
    """Outcome -> names, sorted as in the report."""
    return {
        "wrong shape": [name for name, *_ in report.misshaped],
        "missing": report.missing,
        "unused": report.unused,
        "ignored": report.ignored,
        "used": report.used,
    }


def is_complete(report: Report) -> bool:
    """Whether every wanted tensor was there, in shape, and nothing was left over."""
    return not any(outcomes(report)[outcome] for outcome in FATAL)


def in_a_line(report: Report) -> str:
    """What is wrong, in one line: the counts and the first name of each kind."""
    found = outcomes(report)
    parts = [f"{len(found[o])} {o} (first: {found[o][0]})" for o in FATAL if found[o]]
    return ", ".join(parts) if parts else f"all {len(report.used)} tensors used"


def summary_table(report: Report, state: Mapping[str, np.ndarray], title: str) -> Table:
    """One row an outcome: tensors, numbers in them, meaning."""
    table = Table("outcome", title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("tensors", justify="right")
    table.add_column("numbers", justify="right")
    table.add_column("meaning")
    for outcome, names in outcomes(report).items():
        size = sum(np.size(state[name]) for name in names if name in state)
        table.add_row(outcome, f"{len(names):,}", f"{size:,}", OUTCOMES[outcome])
    return table


def tensor_table(
    report: Report, state: Mapping[str, np.ndarray], kinds: tuple[str, ...], most: int | None = None
) -> Table:
    """One row a tensor of these outcomes: name, outcome, shape in the file, shape wanted.

    Args:
        report: of the conversion.
        state: what was converted.
        kinds: outcomes to list.
        most: rows at most; the last one then says how many were left out.
    """
    wanted = {name: expected for name, _, expected in report.misshaped}
    rows = [(name, o) for o, names in outcomes(report).items() if o in kinds for name in names]
    table = Table("tensor", "outcome", "in the file", "wanted", box=box.SIMPLE)
    for name, outcome in rows[:most]:
        found = _shape(np.shape(state[name])) if name in state else "-"
        table.add_row(name, outcome, found, _shape(wanted[name]) if name in wanted else "")
    if most is not None and len(rows) > most:
        table.add_row(f"... and {len(rows) - most} more", "", "", "")
    return table


def write_report(path: Path, sections: list[tuple[str, Report, Mapping[str, np.ndarray]]]) -> None:
    """Writes every tensor of (title, report, state dict) sections as a text file."""
    with path.open("w") as file:
        console = Console(file=file, width=_WIDTH)
        for title, report, state in sections:
            console.print(summary_table(report, state, title))
            console.print(tensor_table(report, state, tuple(OUTCOMES)))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
