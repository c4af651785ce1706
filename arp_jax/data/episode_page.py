"""Pieces of the HTML pages about episodes: line plots, thumbnails, and the page around them.

In: series [T, D] with their names, pictures, a template's name. Out: strings of HTML that need no
other file, no network and no script, readable on a light and on a dark screen. What a page says is
`view.py`'s and `validate.py`'s business. Series become SVG by hand: a figure drawn by a plotting
library is fifty times larger.
"""

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from arp_jax.data.images import decode_image, encode_image, resize_image

THUMBNAIL_QUALITY = 80
# More dimensions than this are drawn as one panel: their least, mean and greatest.
MAX_PANELS = 32
# A panel in its own units: all of it, and the part where the line is.
PANEL_WIDTH, PANEL_HEIGHT = 320, 92
LEFT, RIGHT, TOP, BOTTOM = 4.0, 316.0, 20.0, 78.0
# Longer series are drawn by the least and the greatest of each of so many groups of steps.
MAX_COLUMNS = 312
# Limits widen the plot only while the data still fill this share of it.
_LEAST_FILLED = 0.1


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Maps of one panel: step -> x, value -> y."""

    steps: int
    low: float
    high: float

    def x(self, step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / max(self.steps - 1, 1)

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)


def render_page(template: str, **content: Any) -> str:
    """Fills a template of this folder; most extend `episode_page.html` and fill its blocks.

    Args:
        template: file name of the template, e.g. "view.html".
        content: its variables; one that is missing is an error. Strings are escaped, except the
            `Markup` that `plot_svg` returns.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def thumbnail(image: bytes | np.ndarray, width: int) -> str:
    """A small JPEG of a picture as a data URI, for the `src` of an <img>.

    Args:
        image: PNG or JPEG bytes, or uint8 [H, W, 3] (RGB).
        width: of the thumbnail in pixels; the height follows. Smaller pictures keep their size.

    Raises:
        ValueError: the bytes are no picture.
    """
    pixels = decode_image(image) if isinstance(image, bytes) else np.asarray(image)
    height, full_width = pixels.shape[:2]
    if width < full_width:
        pixels = resize_image(pixels, max(round(height * width / full_width), 1), width)
    data = encode_image(pixels, "jpeg", THUMBNAIL_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def plot_svg(
    series: np.ndarray,
    names: Sequence[str],
    *,
    title: str,
    unit: str,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    band: Any = None,
    marks: Sequence[int] = (),
) -> str:
    """A <figure> with one small plot a dimension, as inline SVG.

    Args:
        series: [T, D]; NaN and infinite values leave a gap and a red tick below it.
        names: D names, one a dimension.
        title, unit: of the figure; unit may be "".
        low, high: limits of the D dimensions: dashed lines, or a remark where they are far away.
        band: [2, D], a shaded range of values, e.g. the quantiles 0.01 and 0.99 of the dataset.
        marks: steps that get a red vertical line.

    Returns:
        HTML as `Markup`. Every <svg class="panel"> has the attributes data-steps and data-dim and
        holds a hidden <line class="cursor"> from x = `LEFT` (step 0) to `RIGHT` (the last step),
        for a script that moves it. More than `MAX_PANELS` dimensions share one panel that shows
        least, mean and greatest.

    Raises:
        ValueError: another number of names, limits or bands than D, or T = 0.
    """
    values = np.asarray(series, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"plot {title!r}: series must be [T >= 1, D], found {list(values.shape)}")
    limits = np.array([low, high], np.float64) if low is not None and high is not None else None
    bands = None if band is None else np.asarray(band, np.float64)
    size = values.shape[1]
    for what, found in (("limits", limits), ("band", bands)):
        if found is not None and found.shape != (2, size):
            raise ValueError(f"plot {title!r}: {what} {list(found.shape)}, expected [2, {size}]")
    if len(names) != size:
        raise ValueError(f"plot {title!r}: {len(names)} names for {size} dimensions")
    if size > MAX_PANELS:
        panels = [_envelope_panel(values, f"least, mean and greatest of {size} dimensions")]
    else:
        panels = [
            _panel(
                values[:, d],
                names[d],
                d,
                None if limits is None else limits[:, d],
                None if bands is None else bands[:, d],
                marks,
            )
            for d in range(size)
        ]
    caption = html.escape(title) + (f" <small>{html.escape(unit)}</small>" if unit else "")
    joined = "".join(panels)
    return Markup(
        f'<figure class="plot"><figcaption>{caption}</figcaption>'
        f'<div class="panels">{joined}</div></figure>'
    )


def _panel(
    values: np.ndarray,
    name: str,
    dim: int,
    limits: np.ndarray | None,
    band: np.ndarray | None,
    marks: Sequence[int],
) -> str:
    """One <svg> of one dimension, values [T]."""
    scale = _scale(values, limits, band)
    finite = values[np.isfinite(values)]
    parts = []
    if band is not None:
        top, bottom = (np.clip(scale.y(v), TOP, BOTTOM) for v in band[::-1])
        parts.append(
            f'<rect x="{LEFT:g}" y="{top:.1f}" width="{RIGHT - LEFT:g}" '
            f'height="{bottom - top:.1f}" fill="currentColor" opacity=".12"/>'
        )
    remark = ""
    if limits is not None:
        drawn = [v for v in limits if scale.low <= v <= scale.high]
        parts += [_dashed(scale.y(v)) for v in drawn]
        if len(drawn) < len(limits):
            remark = f"limits {limits[0]:.4g} … {limits[1]:.4g}"
    parts += [_tick(scale.x(step), TOP) for step in marks]
    gaps = np.flatnonzero(~np.isfinite(values)).tolist()
    parts += [_tick(x, BOTTOM - 4) for x in sorted({round(scale.x(step)) for step in gaps})]
    parts.append(_line(values, scale, "#3b82d0", 1.5))
    extent = f"{finite.min():.4g} … {finite.max():.4g}" if len(finite) else "no finite value"
    return _svg("".join(parts), scale, name, dim, extent, remark)


def _envelope_panel(values: np.ndarray, name: str) -> str:
    """One <svg> of many dimensions, values [T, D]."""
    scale = _scale(values, None, None)
    # A row without any finite value stays NaN, which is a gap.
    clean = np.ma.masked_invalid(values)
    lines = (clean.min(1), clean.mean(1), clean.max(1))
    widths = (0.8, 1.5, 0.8)
    drawn = "".join(
        _line(line.filled(np.nan), scale, "#3b82d0", width)
        for line, width in zip(lines, widths, strict=True)
    )
    return _svg(drawn, scale, name, -1, f"{scale.low:.4g} … {scale.high:.4g}", "")


def _svg(drawn: str, scale: _Scale, name: str, dim: int, extent: str, remark: str) -> str:
    """The frame round what is drawn: name, range of the data, first and last step, the cursor."""
    label = html.escape(name)
    style = 'font-size="10" font-family="system-ui,sans-serif" fill="currentColor"'
    texts = (
        f'<text x="{LEFT:g}" y="12" font-weight="600">{label}</text>'
        f'<text class="value" x="{RIGHT:g}" y="12" text-anchor="end">{extent}</text>'
        f'<text x="{LEFT:g}" y="89" opacity=".6">0</text>'
        f'<text x="{(LEFT + RIGHT) / 2:g}" y="89" opacity=".6" text-anchor="middle">{remark}</text>'
        f'<text x="{RIGHT:g}" y="89" opacity=".6" text-anchor="end">{scale.steps - 1}</text>'
    )
    return (
        f'<svg class="panel" role="img" aria-label="{label}" data-dim="{dim}" '
        f'data-steps="{scale.steps}" viewBox="0 0 {PANEL_WIDTH} {PANEL_HEIGHT}">'
        f'<rect x="{LEFT:g}" y="{TOP:g}" width="{RIGHT - LEFT:g}" height="{BOTTOM - TOP:g}" '
        f'fill="none" stroke="currentColor" opacity=".25"/>{drawn}'
        f'<line class="cursor" x1="{LEFT:g}" x2="{LEFT:g}" y1="{TOP:g}" y2="{BOTTOM:g}" '
        f'stroke="currentColor" visibility="hidden"/><g {style}>{texts}</g></svg>'
    )


def _scale(values: np.ndarray, limits: np.ndarray | None, band: np.ndarray | None) -> _Scale:
    """Values that the panel shows: the data and, where they are near, limits and band."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    span = high - low
    for extra in (limits, band):
        for value in () if extra is None else extra:
            wider = min(low, value), max(high, value)
            if span >= _LEAST_FILLED * (wider[1] - wider[0]):
                low, high = wider
    margin = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return _Scale(len(values), low - margin, high + margin)


def _line(values: np.ndarray, scale: _Scale, color: str, width: float) -> str:
    """A path through the finite values [T]."""
    steps, shown = _thinned(values)
    path, pen_up = [], True
    for step, value in zip(steps, shown, strict=True):
        if not np.isfinite(value):
            pen_up = True
            continue
        path.append(f"{'M' if pen_up else 'L'}{scale.x(step):.1f} {scale.y(value):.1f}")
        pen_up = False
    # Round ends make a dot of a value that stands alone between two gaps.
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-width="{width}" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values that a line needs: all, or two of each group (no peak is lost)."""
    if len(values) <= 2 * MAX_COLUMNS:
        return np.arange(len(values)), values
    steps = []
    for group in np.array_split(np.arange(len(values)), MAX_COLUMNS):
        finite = group[np.isfinite(values[group])]
        if len(finite):
            steps += sorted({finite[values[finite].argmin()], finite[values[finite].argmax()]})
        if len(finite) < len(group):
            steps.append(next(i for i in group if not np.isfinite(values[i])))
    chosen = np.array(sorted(steps))
    return chosen, values[chosen]


def _dashed(y: float) -> str:
    return (
        f'<line x1="{LEFT:g}" x2="{RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d9622b" '
        'stroke-dasharray="4 3"/>'
    )


def _tick(x: float, top: float) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{BOTTOM:g}" stroke="#e0342b"/>'
