"""The HTML report of a validation: findings, plots of every dimension, pictures; one file.

In: a `Validation` and its source, from which a few episodes are read again for their curves and
pictures. Out: the filled template `page.html`. No script, no other file, no network.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.checks.dims import dims_of
from arp_jax.data.checks.episode import band_of
from arp_jax.data.checks.findings import ACTION, OBSERVATION, EpisodeView, Finding
from arp_jax.data.checks.plots import (
    Curve,
    dimension_panels,
    length_histogram,
    panel_id,
)
from arp_jax.data.checks.report import Group, Validation, groups_of
from arp_jax.data.checks.scan import Piece, readable, view_of
from arp_jax.data.episode_page import render_page, thumbnail
from arp_jax.data.shards import write_text
from arp_jax.data.source import Source

# Episodes that are drawn: good ones spread over the split, and the first of the findings.
SAMPLES, FLAGGED = 5, 16
# Findings listed under a group, vectors that are worth a plot, instructions that are listed.
LISTED, MOST_DIMS, INSTRUCTIONS = 30, 64, 12
THUMBNAIL_WIDTH = 160
_PICTURES_A_GROUP = 3


@dataclasses.dataclass(frozen=True)
class Picture:
    """A thumbnail; `source` is a data URI, or "" where the picture cannot be decoded."""

    caption: str
    source: str
    bad: bool


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What is shown of one episode."""

    curves: Mapping[str, Curve]
    pictures: Mapping[str, Sequence[Picture]]


def write_page(path: Path, validation: Validation, source: Source) -> None:
    """Writes the report, whole or not at all."""
    groups = groups_of(validation.findings)
    numbers = _chosen(validation, groups)
    drawn = [d for d in (_draw(source, validation, n) for n in numbers) if d is not None]
    table = dims_of(source.specs)
    fields = [f for f in table if f in validation.bands and len(table[f]) <= MOST_DIMS]
    plots = [
        {
            "field": field,
            "unit": _unit(source, field),
            "panels": dimension_panels(
                table[field],
                validation.bands[field],
                [d.curves[field] for d in drawn if field in d.curves],
            ),
        }
        for field in fields
    ]
    cameras = [c.name for c in source.specs.observation.cameras]
    pictures = {name: [p for d in drawn for p in d.pictures.get(name, ())] for name in cameras}
    dims = [dim for field in fields for dim in table[field]]
    anchors = {dim.field + dim.name: panel_id(dim.field, dim.index) for dim in dims}
    html = render_page(
        "checks/page.html",
        validation=validation,
        facts=_facts(validation, source),
        groups=[_row(group, anchors, cameras) for group in groups],
        histogram=length_histogram(list(validation.lengths.values())) if validation.lengths else "",
        plots=plots,
        pictures={name: shown for name, shown in pictures.items() if shown},
        instructions=list(validation.instructions.items())[:INSTRUCTIONS],
        more_instructions=max(len(validation.instructions) - INSTRUCTIONS, 0),
    )
    write_text(path, html)


def _chosen(validation: Validation, groups: Sequence[Group]) -> list[int]:
    """Numbers of the episodes that are read again."""
    read = sorted(validation.lengths)
    firsts = (group.first.episode for group in groups)
    flagged = list(dict.fromkeys(n for n in firsts if n in validation.lengths and n is not None))
    bad = {f.episode for f in validation.findings}
    good = [n for n in read if n not in bad] or read
    spread = np.linspace(0, len(good) - 1, min(SAMPLES, len(good))).round().astype(int)
    return sorted({*flagged[:FLAGGED], *(good[i] for i in spread)})


def _draw(source: Source, validation: Validation, number: int) -> _Drawn | None:
    """Curves and pictures of one episode; None when it cannot be read any more."""
    name, _, _ = source.dataset.resolve(validation.split)
    table = dims_of(source.specs)
    (content,) = [c for _, c in readable(source, Piece(name, number, number + 1, ""))]
    if isinstance(content, str):
        return None
    view, _ = view_of(content, number, source, table)
    if not view.length:
        return None
    found = [f for f in validation.findings if f.episode == number]
    curves = {}
    for field, values in view.vectors.items():
        marks: dict[int, list[float]] = {}
        for dim in table.get(field, ()):
            here = [f.step or 0 for f in found if f.field == field and f.dim in ("", dim.name)]
            if here:
                marks[dim.index] = [step / max(view.length - 1, 1) for step in here]
        curves[field] = Curve(number, band_of(values), marks)
    pictures = {
        camera: _pictures(view, camera, [f for f in found if f.field == OBSERVATION + camera])
        for camera in view.images
    }
    return _Drawn(curves, pictures)


def _pictures(view: EpisodeView, camera: str, found: Sequence[Finding]) -> list[Picture]:
    """First, middle and last picture, or those around the first findings."""
    last = view.length - 1
    bad = {f.step for f in found[:_PICTURES_A_GROUP] if f.step is not None}
    steps = {s + d for s in bad for d in (-1, 0, 1)} if bad else {0, last // 2, last}
    shown = []
    for step in sorted(s for s in steps if 0 <= s <= last):
        try:
            data = thumbnail(view.images[camera][step], THUMBNAIL_WIDTH)
        except ValueError:
            data = ""
        shown.append(Picture(f"episode {view.number}, step {step}", data, step in bad))
    return shown


def _unit(source: Source, field: str) -> str:
    if field == ACTION:
        return source.specs.action.unit
    return source.specs.observation.feature(field.removeprefix(OBSERVATION)).unit


def _row(group: Group, anchors: Mapping[str, str], cameras: Sequence[str]) -> dict[str, Any]:
    """A group as the template shows it."""
    first = group.first
    camera = first.field.removeprefix(OBSERVATION)
    anchor = anchors.get(first.field + first.dim, "")
    if not anchor and first.field == ACTION:
        anchor = panel_id(ACTION, 0)
    if camera in cameras:
        anchor = f"pictures-{camera}"
    if group.kind == "length_outlier":
        anchor = "plot-lengths"
    return {
        "group": group,
        "anchor": anchor,
        "listed": group.findings[:LISTED] if len(group.findings) > 1 else (),
        "more": max(len(group.findings) - LISTED, 0),
    }


def _facts(validation: Validation, source: Source) -> list[tuple[str, str]]:
    """The lines above the findings."""
    action, lengths = source.specs.action, list(validation.lengths.values())
    facts = [("dataset", str(validation.path)), ("split", validation.split)]
    if lengths:
        minutes = validation.steps / action.rate_hz / 60
        facts += [
            ("episodes", f"{len(lengths)} of {min(lengths)} to {max(lengths)} steps"),
            ("steps", f"{validation.steps}, {minutes:.1f} min at {action.rate_hz:g} Hz"),
        ]
    gripper = f", gripper {action.gripper}" if action.gripper else ""
    facts.append(("action", f"{action.size} dimensions, {action.unit}, {action.frame}{gripper}"))
    cameras = [f"{c.name} {c.width}×{c.height}" for c in source.specs.observation.cameras]
    facts.append(("cameras", ", ".join(cameras) or "none"))
    if source.card is not None:
        facts.append(("card", source.card.name))
    facts.append(("checked in", f"{validation.seconds:.1f} s"))
    return facts
