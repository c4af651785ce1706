"""Plots of a whole dataset: each dimension's range over all episodes, some curves, the limits.

In: bands [2, BINS, D] along the episodes and the dimensions. Out: panels of inline SVG for the page
of `checks/page.py`. Time runs from the start to the end of an episode, whatever its length. Plots
of one episode are `episode_page.py`'s.
"""

import dataclasses
import html
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from arp_jax.data.checks.dims import Dim
from arp_jax.data.episode_page import BOTTOM, LEFT, PANEL_HEIGHT, PANEL_WIDTH, RIGHT, TOP

# Limits widen the plot only while the data still fill this share of it.
LEAST_FILLED = 0.2
_CURVE, _FLAGGED, _LIMIT = "#3b82d0", "#e0342b", "#d9622b"
_FONT = 'font-size="10" font-family="system-ui,sans-serif" fill="currentColor"'


@dataclasses.dataclass(frozen=True)
class Curve:
    """One episode in a plot.

    Attributes:
        episode: its number.
        band: float32 [2, BINS, D].
        marks: dimension -> places of findings along the episode, 0 to 1.
    """

    episode: int
    band: np.ndarray
    marks: dict[int, list[float]]


@dataclasses.dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def y(self, values: np.ndarray) -> np.ndarray:
        share = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return BOTTOM - (BOTTOM - TOP) * share


def panel_id(field: str, index: int) -> str:
    """Anchor of the panel of one dimension."""
    return f"plot-{field.replace('/', '-')}-{index}"


def dimension_panels(dims: Sequence[Dim], band: np.ndarray, curves: Sequence[Curve]) -> Markup:
    """One panel a dimension.

    Args:
        dims: of the field.
        band: float32 [2, BINS, D], over all episodes.
        curves: episodes to draw; those with marks in a dimension are red there.
    """
    return Markup("".join(_panel(dim, band[:, :, dim.index], curves) for dim in dims))


def length_histogram(lengths: Sequence[int]) -> Markup:
    """How long the episodes are, as bars."""
    counts, edges = np.histogram(lengths, bins=min(40, max(len(set(lengths)), 1)))
    bars = []
    width = (RIGHT - LEFT) / len(counts)
    for i, count in enumerate(counts):
        height = (BOTTOM - TOP) * count / counts.max()
        bars.append(
            f'<rect x="{LEFT + i * width:.1f}" y="{BOTTOM - height:.1f}" '
            f'width="{max(width - 1, 0.5):.1f}" height="{height:.1f}" fill="{_CURVE}"/>'
        )
    texts = (
        _text(LEFT, 12, "steps in an episode", "start", 'font-weight="600"')
        + _text(LEFT, 89, f"{edges[0]:.0f}", "start")
        + _text(RIGHT, 89, f"{edges[-1]:.0f}", "end")
        + _text(RIGHT, 12, f"most: {counts.max()} episodes", "end")
    )
    return Markup(_svg("plot-lengths", "steps in an episode", "".join(bars), texts))


def _panel(dim: Dim, band: np.ndarray, curves: Sequence[Curve]) -> str:
    """One <svg>; band [2, BINS]."""
    axis = _axis(dim, band)
    x = np.linspace(LEFT, RIGHT, band.shape[1])
    drawn = [_area(x, axis.y(band[1]), axis.y(band[0]))]
    remark = ""
    for limit in (dim.low, dim.high):
        if limit is None:
            continue
        if axis.low <= limit <= axis.high:
            y = float(axis.y(np.array(limit)))
            drawn.append(
                f'<line x1="{LEFT:g}" x2="{RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{_LIMIT}" stroke-dasharray="4 3"/>'
            )
        else:
            remark = f"limits {dim.low:.4g} … {dim.high:.4g}"
    for curve in sorted(curves, key=lambda c: bool(c.marks.get(dim.index))):
        drawn.append(_curve(curve, dim.index, x, axis))
    texts = (
        _text(LEFT, 12, dim.name, "start", 'font-weight="600"')
        + _text(RIGHT, 12, f"{band.min():.4g} … {band.max():.4g} {dim.unit}", "end")
        + _text(LEFT, 89, "start", "start", 'opacity=".6"')
        + _text((LEFT + RIGHT) / 2, 89, remark, "middle", 'opacity=".6"')
        + _text(RIGHT, 89, "end", "end", 'opacity=".6"')
    )
    return _svg(panel_id(dim.field, dim.index), f"{dim.field} {dim.name}", "".join(drawn), texts)


def _axis(dim: Dim, band: np.ndarray) -> _Axis:
    """Shows the data and, where they are near, the limits."""
    low, high = float(band.min()), float(band.max())
    for limit in (dim.low, dim.high):
        if limit is not None and np.isfinite(limit):
            wider = min(low, limit), max(high, limit)
            if high - low >= LEAST_FILLED * (wider[1] - wider[0]):
                low, high = wider
    margin = 0.05 * (high - low) or 0.05 * max(abs(low), 1.0)
    return _Axis(low - margin, high + margin)


def _area(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> str:
    there = [f"{a:.1f} {b:.1f}" for a, b in zip(x, top, strict=True)]
    back = [f"{a:.1f} {b:.1f}" for a, b in zip(x[::-1], bottom[::-1], strict=True)]
    return f'<path d="M{"L".join([*there, *back])}Z" fill="currentColor" opacity=".13"/>'


def _curve(curve: Curve, dim: int, x: np.ndarray, axis: _Axis) -> str:
    """A line through an episode; through every extreme where it has findings."""
    low, high = axis.y(curve.band[0, :, dim]), axis.y(curve.band[1, :, dim])
    marks = curve.marks.get(dim, [])
    if marks:
        both = zip(x, low, high, strict=True)
        points = [f"{a:.1f} {y:.1f}" for a, *ys in both for y in dict.fromkeys(ys)]
        color, width, opacity = _FLAGGED, 1.2, 1.0
    else:
        points = [f"{a:.1f} {y:.1f}" for a, y in zip(x, (low + high) / 2, strict=True)]
        color, width, opacity = _CURVE, 1.0, 0.7
    ticks = "".join(
        f'<line x1="{LEFT + (RIGHT - LEFT) * m:.1f}" x2="{LEFT + (RIGHT - LEFT) * m:.1f}" '
        f'y1="{TOP:g}" y2="{BOTTOM:g}" stroke="{_FLAGGED}" stroke-dasharray="1 2"/>'
        for m in marks
    )
    return (
        f"<g><title>episode {curve.episode}</title>{ticks}"
        f'<path d="M{"L".join(points)}" fill="none" stroke="{color}" stroke-width="{width}" '
        f'opacity="{opacity}" stroke-linejoin="round"/></g>'
    )


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {extra}>{html.escape(text)}</text>'


def _svg(anchor: str, label: str, drawn: str, texts: str) -> str:
    return (
        f'<svg class="panel" id="{anchor}" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {PANEL_WIDTH} {PANEL_HEIGHT}">'
        f'<rect x="{LEFT:g}" y="{TOP:g}" width="{RIGHT - LEFT:g}" height="{BOTTOM - TOP:g}" '
        f'fill="none" stroke="currentColor" opacity=".25"/>{drawn}<g {_FONT}>{texts}</g></svg>'
    )
