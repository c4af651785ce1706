"""Pictures of chosen episodes: a video of the best and worst; failures as sheet and video.

Flows in: an `Arena` and results with recorded frames. Flows out: files for the report. Failures are
the first ones by episode id: since ids say nothing about difficulty, they are a fair sample.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from arp_jax.evaluation.arena import Arena
from arp_jax.evaluation.episodes import EpisodeResults, representative_episodes
from arp_jax.evaluation.video import grid_frames, write_video

# Videos run at twice the robot's speed: an episode of 30 s is watched in 15.
_SPEED = 2.0
_SLOWEST_FPS = 2.0
_MOMENTS = 5
_CAPTION, _GAP = 16, 2
FAILURES = 8


@dataclasses.dataclass(frozen=True)
class Failures:
    """Pictures of failed episodes: a PNG, and an mp4 where there is one."""

    sheet: Path
    video: Path | None = None


class Films:
    """Pictures of one evaluation's episodes; each is drawn once.

    Args:
        arena: draws.
        results: with a trajectory.
        out: folder of the files.
    """

    def __init__(self, arena: Arena, results: EpisodeResults, out: Path) -> None:
        self._arena, self._results, self._out = arena, results, out
        self._clips: dict[int, np.ndarray] = {}

    def representative(self, count: int) -> Path:
        """Half best, half worst episodes as OUT/episodes.mp4."""
        return self._write("episodes.mp4", representative_episodes(self._results, count))

    def failures(self, count: int = FAILURES) -> Failures | None:
        """Failed episodes as OUT/failures.png and OUT/failures.mp4; None when there are none."""
        rows = failed_rows(self._results, count)
        if not rows:
            return None
        captions = [caption(self._results, row) for row in rows]
        sheet = self._out / "failures.png"
        Image.fromarray(contact_sheet([self._clip(row) for row in rows], captions)).save(sheet)
        return Failures(sheet, self._write("failures.mp4", rows))

    def _write(self, name: str, rows: Sequence[int]) -> Path:
        path = self._out / name
        frames = grid_frames([self._clip(row) for row in rows], self._results.success[list(rows)])
        write_video(path, frames, max(_SLOWEST_FPS, _SPEED * self._arena.film_rate_hz))
        return path

    def _clip(self, row: int) -> np.ndarray:
        if row not in self._clips:
            self._clips[row] = self._arena.film(self._results, row)
        return self._clips[row]


def failed_rows(results: EpisodeResults, count: int) -> list[int]:
    """Up to `count` rows of episodes without success, by episode id."""
    return [int(row) for row in np.flatnonzero(~results.success)[:count]]


def caption(results: EpisodeResults, row: int) -> str:
    """One line about an episode: its id, how far it got, its classes."""
    parts = [f"episode {results.episode[row]}", f"{results.length[row]} steps"]
    parts.append(f"max {results.success_metric} {results.score[row]:.3g}")
    stage = int(min(results.max_reward[row], len(results.sub_goals)))
    if results.sub_goals:
        reached = results.sub_goals[stage - 1] if stage else "no sub-goal"
        parts.append(f"reached: {reached}")
    for factor, classes in results.classes.items():
        parts.append(f"{factor}: {results.class_names[factor][classes[row]]}")
    return "; ".join(parts)


def contact_sheet(clips: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """A picture with one line an episode: a few moments from its first to its last frame.

    Args:
        clips: uint8 [T_i, h, w, 3], all of one h and w.
        captions: one line for each.

    Returns:
        uint8 [N * (h + 18), 5 * (w + 2), 3].
    """
    height, width = clips[0].shape[1:3]
    cell_h, cell_w = height + _CAPTION + _GAP, width + _GAP
    sheet = np.full((len(clips) * cell_h, _MOMENTS * cell_w, 3), 255, np.uint8)
    for line, clip in enumerate(clips):
        moments = np.linspace(0, len(clip) - 1, _MOMENTS).round().astype(int)
        top = line * cell_h + _CAPTION
        for column, moment in enumerate(moments):
            left = column * cell_w
            sheet[top : top + height, left : left + width] = clip[moment]
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    for line, text in enumerate(captions):
        draw.text((2, line * cell_h + 2), text, fill=(0, 0, 0))
    return np.asarray(image)
