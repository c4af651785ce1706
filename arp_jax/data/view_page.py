"""The page that shows one episode: frames beside plots, a cursor that moves with them.

In: a `ViewedEpisode`. Out: one HTML file that needs nothing else: thumbnails are data URIs, the
script is in the page (`view.html`). Plots are `episode_page.py`'s.
"""

from typing import Any

import numpy as np

from arp_jax.data.episode_page import LEFT, MAX_PANELS, RIGHT, plot_svg, render_page, thumbnail
from arp_jax.data.viewed_episode import Series, ViewedEpisode

# Frames of all cameras together that a page holds unless told otherwise: some 10 MB at 320 pixels.
MAX_FRAMES = 1000
_LONGEST_TEXT = 2000


def write_episode_page(episode: ViewedEpisode, width: int, stride: int = 0) -> str:
    """The page as a string.

    Args:
        episode: what is shown.
        width: of the thumbnails in pixels; smaller pictures keep their size.
        stride: steps between two frames; 0 takes every step as long as the page stays below
            `MAX_FRAMES` frames. Numbers are shown for every step.

    Raises:
        ValueError: width or stride makes no sense, or a picture cannot be decoded (named).
    """
    if width < 16 or stride < 0:
        raise ValueError(f"--width {width} must be at least 16, --stride {stride} at least 0")
    stride = stride or -(-episode.length * max(len(episode.cameras), 1) // MAX_FRAMES)
    frames = {name: _frames(episode, name, width, stride) for name in episode.cameras}
    plots = [
        plot_svg(s.values, s.dims, title=s.name, unit=s.unit, low=s.low, high=s.high)
        for s in episode.series
    ]
    shown = [s for s in episode.series if len(s.dims) <= MAX_PANELS]
    content = {
        "steps": episode.length,
        "stride": stride,
        "rate": episode.rate_hz or 10.0,
        "left": LEFT,
        "right": RIGHT,
        "frames": frames,
        "flags": {name: np.flatnonzero(v).tolist() for name, v in episode.flags.items()},
        "values": [_rounded(s) if s in shown else None for s in episode.series],
    }
    return render_page(
        "view.html",
        episode=episode,
        plots=plots,
        content=content,
        facts=_facts(episode, stride),
        metadata={key: _text(value) for key, value in sorted(episode.metadata.items())},
    )


def _frames(episode: ViewedEpisode, camera: str, width: int, stride: int) -> list[str]:
    pictures = episode.cameras[camera]
    found = []
    for step in range(0, episode.length, stride):
        try:
            found.append(thumbnail(pictures[step], width))
        except ValueError as error:
            where = f"{episode.title}, camera {camera!r}, step {step}"
            raise ValueError(f"{where}: {error}; check it with arp_jax.data.validate") from error
    return found


def _rounded(series: Series) -> list[list[float | None]]:
    """[T][D] with five significant digits; None where a value is not finite."""
    return [
        [float(f"{x:.5g}") if np.isfinite(x) else None for x in row]
        for row in series.values.tolist()
    ]


def _facts(episode: ViewedEpisode, stride: int) -> dict[str, str]:
    """What is said above the pictures."""
    rate = episode.rate_hz
    facts = {"steps": f"{episode.length}"}
    if rate:
        facts["steps"] += f" ({episode.length / rate:.1f} s at {rate:g} Hz)"
    else:
        facts["rate"] = "not stored; played at 10 Hz"
    if stride > 1:
        facts["frames"] = f"one in {stride} steps; --stride 1 shows all"
    for name, values in episode.flags.items():
        steps = np.flatnonzero(values).tolist()
        more = " ..." if len(steps) > 8 else ""
        facts[name] = (", ".join(str(s) for s in steps[:8]) + more) if steps else "never"
    return facts


def _text(value: Any) -> str:
    """A metadata value for people; long ones are cut."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, np.ndarray) and value.size > 16:
        return f"{value.dtype} {list(value.shape)}"
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " ..."
