"""What a validation found, grouped for people and as JSON.

In: findings and counts. Out: `Group`s (one kind in one field), a table in the terminal, a JSON
file. The HTML page is `checks/page.py`.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from arp_jax.data.checks.findings import KINDS, SEVERITIES, Finding
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.shards import write_text

# Episodes that are named one by one in a line.
_NAMED = 6
_COLORS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@dataclasses.dataclass(frozen=True)
class Validation:
    """A validated split.

    Attributes:
        path, name, split: of the dataset.
        specs: what its numbers mean.
        lengths: of the episodes that were read, by number.
        episodes: their number, with those that could not be read.
        instructions: how many episodes have each.
        findings: in the order of episodes and steps.
        bands: field -> float32 [2, BINS, D], least and greatest values over all episodes.
        seconds: that it took.
    """

    path: Path
    name: str
    split: str
    specs: DatasetSpecs
    lengths: Mapping[int, int]
    episodes: int
    instructions: Mapping[str, int]
    findings: Sequence[Finding]
    bands: Mapping[str, np.ndarray]
    seconds: float

    @property
    def steps(self) -> int:
        """Number of steps that were read."""
        return sum(self.lengths.values())

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = collections.Counter(f.severity for f in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def verdict(self) -> str:
        """One sentence."""
        read = f"{len(self.lengths)} of {self.episodes} episodes read, {self.steps} steps"
        named = [f"{n} {s}{'s' * (n != 1)}" for s, n in self.counts.items() if n]
        if not named:
            return f"{read}: nothing to report"
        touched = {f.episode for f in self.findings if f.episode is not None}
        where = f" in {len(touched)} episode{'s' * (len(touched) != 1)}" if touched else ""
        return f"{read}: {', '.join(named)}{where}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: counts and every finding."""
        return {
            "dataset": str(self.path),
            "name": self.name,
            "split": self.split,
            "episodes": self.episodes,
            "episodes_read": len(self.lengths),
            "steps": self.steps,
            "counts": self.counts,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclasses.dataclass(frozen=True)
class Group:
    """Findings of one kind in one field, the first one first."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding that speaks for the group."""
        return self.findings[0]

    @property
    def kind(self) -> str:
        """Key of `KINDS`."""
        return self.first.kind

    @property
    def severity(self) -> str:
        """ "error", "warning" or "note"."""
        return self.first.severity

    @property
    def advice(self) -> str:
        """What to do."""
        return KINDS[self.kind].advice

    @property
    def signal(self) -> str:
        """The field with the dimensions concerned, e.g. "action[x, y]"."""
        dims = list(dict.fromkeys(f.dim for f in self.findings if f.dim))
        listed = ", ".join(dims[:_NAMED])
        more = f", {len(dims) - _NAMED} more" if len(dims) > _NAMED else ""
        return f"{self.first.field}[{listed}{more}]" if dims else self.first.field

    @property
    def episodes(self) -> list[int]:
        """Numbers of the episodes concerned."""
        return list(dict.fromkeys(f.episode for f in self.findings if f.episode is not None))

    @property
    def where(self) -> str:
        """Episode and step of the first."""
        first = self.first
        place = "whole split" if first.episode is None else f"episode {first.episode}"
        return place if first.step is None else f"{place}, step {first.step}"

    @property
    def others(self) -> str:
        """The other episodes, e.g. "also episodes 3, 5 and 18 more", or ""."""
        others = self.episodes[1:]
        if not others:
            return ""
        listed = ", ".join(map(str, others[:_NAMED]))
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        return f"also episode{'s' * (len(others) > 1)} {listed}{more}"


def groups_of(findings: Sequence[Finding]) -> list[Group]:
    """Groups, errors first, then those that concern most episodes."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.field), []).append(finding)
    result = [Group(tuple(members)) for members in groups.values()]

    def order(group: Group) -> tuple[int, int, str, str]:
        severity = SEVERITIES.index(group.severity)
        return severity, -len(group.findings), group.kind, group.first.field

    return sorted(result, key=order)


def print_table(validation: Validation, console: Console) -> None:
    """The groups as a table, and the verdict."""
    groups = groups_of(validation.findings)
    if groups:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
        for title in ("", "what, in", "where", "found, what to do"):
            table.add_column(title, overflow="fold")
        for group in groups:
            table.add_row(
                f"[{_COLORS[group.severity]}]{group.severity}[/]",
                f"{group.kind}\n{_plain(group.signal)}",
                "\n".join(filter(None, [group.where, _plain(group.first.file), group.others])),
                f"{_plain(group.first.message)}\n[dim]{_plain(group.advice)}[/]",
            )
        console.print(table)
    console.print(f"{validation.path}: {validation.verdict}", markup=False, highlight=False)


def write_findings(path: Path, validation: Validation) -> None:
    """Writes `Validation.to_json`, whole or not at all."""
    write_text(path, json.dumps(validation.to_json(), indent=1) + "\n")


def _plain(text: str) -> str:
    """Text in which rich sees no markup."""
    return text.replace("[", r"\[")
