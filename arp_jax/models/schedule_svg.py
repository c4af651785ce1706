"""A ``ChunkSchedule`` as a picture: the sequence in its chunks, and the mask of the two streams.

In: a schedule and the model's token table. Out: one SVG document as text, self-contained, readable
up to about 150 tokens (labels are thinned out). The same facts as text are
``chunk_schedule.describe``; who attends to whom is decided there, not here.
"""

from dataclasses import dataclass, field
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule, schedule_mask

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#999999", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")
INK, FAINT = "#222222", "#c8c8c8"
MARGIN, LABEL_SPACE = 16.0, 58.0
SEQUENCE_WIDTH, MASK_WIDTH = 640.0, 600.0
FONT, SMALL = 12, 9
# Closer labels than this, in px, would touch.
LABEL_PITCH = 16.0


@dataclass
class _Page:
    """Elements in drawing order."""

    parts: list[str] = field(default_factory=list)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        stroke: str = "none",
        title: str = "",
        opacity: float = 1.0,
        line: float = 1.0,
    ) -> None:
        inside = f"<title>{escape(title)}</title>" if title else ""
        look = (
            f"fill={quoteattr(fill)} stroke={quoteattr(stroke)} stroke-width={quoteattr(_n(line))}"
        )
        look += f' fill-opacity="{_n(opacity)}"' if opacity < 1 else ""
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self.parts.append(f"<rect {place} {look}>{inside}</rect>")

    def line(self, x1: float, y1: float, x2: float, y2: float, width: float = 1.0) -> None:
        ends = f'x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"'
        self.parts.append(f'<line {ends} stroke="{INK}" stroke-width="{_n(width)}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = FONT,
        anchor: str = "start",
        turn: float = 0.0,
        bold: bool = False,
    ) -> None:
        look = f'font-size="{size}" text-anchor="{anchor}" fill="{INK}"'
        look += ' font-weight="bold"' if bold else ""
        look += f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"' if turn else ""
        self.parts.append(f'<text x="{_n(x)}" y="{_n(y)}" {look}>{escape(text)}</text>')


def schedule_svg(schedule: ChunkSchedule, config: ArpConfig) -> str:
    """Draws the sequence and its attention mask.

    Above: one box a token, coloured by type, framed by chunk. Below: the mask, rows attend to
    columns; a filled cell means that the row sees the column and has the colour of the column's
    type. Query rows of given tokens are pale: nothing is predicted from them.

    Raises:
        ValueError: ``config`` cannot run the schedule.
    """
    schedule.check(config)
    page = _Page()
    y = _legend(page, schedule, config, MARGIN + FONT)
    y = _sequence(page, schedule, config, y + 26)
    y = _mask(page, schedule, config, y + 40)
    width = 2 * MARGIN + LABEL_SPACE + SEQUENCE_WIDTH
    height = y + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" font-family="Helvetica, Arial, sans-serif">'
    )
    background = f'<rect width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>'
    return "\n".join([head, background, *page.parts, "</svg>"]) + "\n"


def _colour(token_id: int) -> str:
    return COLOURS[token_id % len(COLOURS)]


def _n(number: float) -> str:
    """A coordinate without needless digits."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _legend(page: _Page, schedule: ChunkSchedule, config: ArpConfig, y: float) -> float:
    """A line a token type, then the blocked directions; returns the next free y."""
    for token_id in sorted(set(schedule.token_ids)):
        token = config.tokens[token_id]
        role = "given" if token.is_control else f"predicted by {token.predictor}"
        count = len(schedule.positions_of(token_id))
        page.rect(MARGIN, y - 10, 12, 12, _colour(token_id), INK)
        page.text(MARGIN + 20, y, f"{token.name}: {count} x {token.dim} numbers, {role}")
        y += 18
    for source, target in schedule.blocked:
        names = config.tokens[source].name, config.tokens[target].name
        page.text(MARGIN + 20, y, f"{names[0]} never attends to {names[1]}")
        y += 18
    return y


def _sequence(page: _Page, schedule: ChunkSchedule, config: ArpConfig, y: float) -> float:
    """The tokens as a row of boxes in their chunks; returns the next free y."""
    left, length = MARGIN + LABEL_SPACE, schedule.length
    size = min(34.0, SEQUENCE_WIDTH / length)
    every = _thin(size)
    tall = min(size, 26.0) if size > 12 else 18.0
    page.text(MARGIN, y + tall / 2 + 4, "sequence", bold=True)
    for i, token_id in enumerate(schedule.token_ids):
        name = f"position {i}: {config.tokens[token_id].name}, chunk {schedule.chunk_ids[i]}"
        gap = 2.0 if size > 12 else 0.0
        box = (left + i * size + gap / 2, y, size - gap, tall)
        page.rect(*box, _colour(token_id), INK if gap else "none", name)
        if i % every == 0:
            inside = every == 1
            label_y = y + tall / 2 + 3 if inside else y - 8
            page.text(left + (i + 0.5) * size, label_y, str(i), SMALL, "middle")
    last_label = -LABEL_PITCH
    for chunk, members in groupby(range(length), key=lambda i: schedule.chunk_ids[i]):
        positions = list(members)
        x, wide = left + positions[0] * size, len(positions) * size
        page.rect(x + 0.5, y - 5, wide - 1, tall + 10, "none", INK, line=1.5 if size > 6 else 0.6)
        centre = x + wide / 2
        if centre - last_label >= LABEL_PITCH:
            text = f"chunk {chunk}" if wide > 46 else str(chunk)
            page.text(centre, y + tall + 18, text, SMALL, "middle")
            last_label = centre + (20 if wide > 46 else 0)
    page.text(MARGIN, y + tall + 18, "chunk", SMALL)
    return y + tall + 18


def _mask(page: _Page, schedule: ChunkSchedule, config: ArpConfig, y: float) -> float:
    """The [2L, 2L] mask as a grid with a colour strip on both sides; returns the next free y."""
    length, mask = schedule.length, schedule_mask(schedule)
    ids = np.asarray(schedule.token_ids * 2)
    cell = min(26.0, MASK_WIDTH / (2 * length))
    left, top, side = MARGIN + LABEL_SPACE, y + 34, 2 * length * cell
    strip = min(6.0, max(3.0, cell / 2))
    page.text(left, y, "attention: a row sees the filled columns", bold=True)
    half = length * cell
    for start, name in ((0.0, "value keys: known tokens"), (half, "query keys: empty slots")):
        page.text(left + start + half / 2, top - strip - 16, name, SMALL, "middle")
    rows = ((0.0, "value rows"), (half, "query rows"))
    for start, name in rows:
        page.text(MARGIN + 10, top + start + half / 2, name, SMALL + 1, "middle", -90)
    every = _thin(cell)
    for k, token_id in enumerate(ids):
        stream, position = ("v", k) if k < length else ("q", k - length)
        at = k * cell
        page.rect(left + at, top - strip - 2, cell, strip, _colour(token_id))
        page.rect(left - strip - 2, top + at, strip, cell, _colour(token_id))
        crowded = 0 < (length - position) * cell < LABEL_PITCH  # the next stream's 0 comes soon
        if position % every == 0 and (not crowded or every == 1):
            middle = at + cell / 2
            label = f"{stream}{position}"
            page.text(left + middle, top - strip - 5, label, SMALL - 1, "middle")
            page.text(left - strip - 5, top + middle + 3, label, SMALL - 1, "end")
    _cells(page, mask, ids, config, (left, top, cell))
    page.rect(left, top, side, side, "none", INK, line=1.5)
    page.line(left + half, top, left + half, top + side, 1.5)
    page.line(left, top + half, left + side, top + half, 1.5)
    _chunk_frames(page, schedule, (left + half, top + half, cell))
    return top + side


def _cells(
    page: _Page,
    mask: np.ndarray,
    ids: np.ndarray,
    config: ArpConfig,
    place: tuple[float, float, float],
) -> None:
    """Allowed pairs; neighbours of one type are one rectangle, so long sequences stay small."""
    left, top, cell = place
    length = len(mask) // 2
    line = FAINT if cell >= 5 else "none"
    for row in range(len(mask)):
        unused = row >= length and config.tokens[ids[row]].is_control
        kinds = [int(ids[k]) if mask[row, k] else -1 for k in range(len(mask))]
        column = 0
        for kind, members in groupby(kinds):
            count = len(list(members))
            x, y = left + column * cell, top + row * cell
            column += count
            if kind >= 0:
                opacity = 0.25 if unused else 1.0
                page.rect(x, y, count * cell, cell, _colour(kind), opacity=opacity)
    if line != "none":
        path = "".join(
            f"M{_n(left + k * cell)} {_n(top)}v{_n(len(mask) * cell)}"
            f"M{_n(left)} {_n(top + k * cell)}h{_n(len(mask) * cell)}"
            for k in range(1, len(mask))
        )
        page.parts.append(f'<path d="{path}" stroke="{line}" stroke-width="0.6" fill="none"/>')


def _chunk_frames(page: _Page, schedule: ChunkSchedule, place: tuple[float, float, float]) -> None:
    """Frames around the chunks of the query-query part: each is predicted in one pass."""
    left, top, cell = place
    for chunk in range(schedule.num_chunks):
        positions = schedule.chunk_positions(chunk)
        at, size = positions[0] * cell, len(positions) * cell
        name = f"chunk {chunk}: {len(positions)} tokens in one pass"
        width = 1.2 if cell >= 5 else 0.6
        page.rect(left + at, top + at, size, size, "none", INK, name, line=width)


def _thin(pitch: float) -> int:
    """Label every how many-th place, so that labels stay apart: 1, 2, 5, 10, 20, 50..."""
    steps = [m * 10**e for e in range(4) for m in (1, 2, 5)]
    return next(s for s in steps if s * pitch >= LABEL_PITCH)
