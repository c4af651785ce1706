"""Likelihoods for people and for programs: a table, a summary and a picture an episode.

Flows in: `EpisodeLikelihood`s. Flows out: likelihood.csv (a line a step), summary.json, PNGs, and
rich tables for the terminal. Computes no likelihood itself (`likelihood.py`).
"""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from arp_jax.evaluation.intervals import Interval, PairedDifference, mean_bootstrap, paired_means
from arp_jax.evaluation.likelihood import EpisodeLikelihood

UNITS = (
    "nats; continuous tokens have densities per normalised unit, pixels and classes have "
    "probabilities"
)
# Episodes that the terminal lists: the least likely ones.
LISTED = 10
MOMENTS = 4


@dataclasses.dataclass(frozen=True)
class LikelihoodSummary:
    """Means over episodes with 95 % bootstrap intervals.

    Attributes:
        score: nats per action number (all scored tokens over all numbers of scored actions).
        per_token: token type -> nats per token.
        excluded: tokens beyond the episodes' ends, left out; counted: tokens scored.
    """

    score: Interval
    per_token: dict[str, Interval]
    excluded: int
    counted: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def summarize(episodes: Sequence[EpisodeLikelihood]) -> LikelihoodSummary:
    """Summary of at least one episode."""
    means = {n: np.array([e.mean_per_token(n) for e in episodes]) for n in episodes[0].log_prob}
    return LikelihoodSummary(
        score=mean_bootstrap(np.array([e.score for e in episodes])),
        per_token={n: mean_bootstrap(x[~np.isnan(x)]) for n, x in means.items()},
        excluded=sum(e.excluded for e in episodes),
        counted=int(sum(mask.sum() for e in episodes for mask in e.scored.values())),
    )


def compare(
    recorded: Sequence[EpisodeLikelihood], altered: Sequence[EpisodeLikelihood]
) -> PairedDifference:
    """Altered minus recorded scores over the same episodes."""
    return paired_means(np.array([e.score for e in recorded]), np.array([e.score for e in altered]))


def summary_table(summary: LikelihoodSummary) -> Table:
    """Mean and interval of the score and of every token type."""
    table = Table(title=f"log-likelihood, mean over episodes (95 % interval)\n{UNITS}")
    for column in ("", "nats", "episodes"):
        table.add_column(column)
    table.add_row("per action number", summary.score.describe(), str(summary.score.n))
    for name, interval in summary.per_token.items():
        table.add_row(f"per {name} token", interval.describe(), str(interval.n))
    table.caption = (
        f"{summary.counted:,} tokens scored; {summary.excluded:,} beyond an episode's ends left out"
    )
    return table


def episode_table(episodes: Sequence[EpisodeLikelihood]) -> Table:
    """The least likely episodes, first the least likely."""
    table = Table(title=f"least likely episodes ({min(LISTED, len(episodes))} of {len(episodes)})")
    names = list(episodes[0].log_prob)
    columns = ("episode", "steps", "per action number", *(f"per {n}" for n in names))
    for column in (*columns, "least likely steps"):
        table.add_column(column, justify="right")
    for e in least_likely_first(episodes)[:LISTED]:
        moments = ", ".join(map(str, e.least_likely(3, apart=_apart(e))))
        means = [f"{e.mean_per_token(n):.3f}" for n in names]
        table.add_row(str(e.episode), str(len(e)), f"{e.score:.3f}", *means, moments)
    return table


def control_table(
    recorded: Sequence[EpisodeLikelihood],
    altered: Mapping[str, Sequence[EpisodeLikelihood]],
) -> Table:
    """Recorded actions beside the same actions in another order in time."""
    table = Table(title="nats per action number, recorded against altered actions")
    for column in ("actions", "mean", "minus recorded", "p (Wilcoxon)", "episodes less likely"):
        table.add_column(column)
    table.add_row("recorded", summarize(recorded).score.describe(), "", "", "")
    for how, episodes in altered.items():
        paired = compare(recorded, episodes)
        table.add_row(
            how,
            summarize(episodes).score.describe(),
            paired.difference.describe(),
            f"{paired.p_value:.2g}",
            f"{paired.first_only} of {len(episodes)}",
        )
    return table


def least_likely_first(episodes: Sequence[EpisodeLikelihood]) -> list[EpisodeLikelihood]:
    """Sorted by score, ascending."""
    return sorted(episodes, key=lambda e: e.score)


def write_csv(path: Path, episodes: Sequence[EpisodeLikelihood]) -> None:
    """A line a step; the first line, a comment, says the units."""
    names = list(episodes[0].log_prob)
    columns = [column for name in names for column in (name, f"{name}_tokens")]
    with path.open("w", newline="") as file:
        file.write(f"# {UNITS}; sums over the scored tokens of the chunk predicted at t\n")
        writer = csv.writer(file)
        writer.writerow(
            ["episode", "t", *columns, "total", "scored_actions", "total_per_action_dim"]
        )
        for e in episodes:
            sums = {name: e.sums(name) for name in names}
            counts = {name: e.counts(name) for name in names}
            total, per_dim = e.total, e.per_action_dim
            for t in range(len(e)):
                cells = [c for n in names for c in (f"{sums[n][t]:.6g}", counts[n][t])]
                tail = (f"{total[t]:.6g}", e.actions[t], f"{per_dim[t]:.6g}")
                writer.writerow([e.episode, t, *cells, *tail])


def write_summary(
    path: Path,
    episodes: Sequence[EpisodeLikelihood],
    about: Mapping[str, Any],
    altered: Mapping[str, Sequence[EpisodeLikelihood]],
) -> dict[str, Any]:
    """Everything but the steps as JSON; returns the document."""
    document = {
        "units": UNITS,
        "about": dict(about),
        "summary": summarize(episodes).to_json(),
        "altered": {
            how: summarize(found).to_json()
            | {"minus_recorded": dataclasses.asdict(compare(episodes, found))}
            for how, found in altered.items()
        },
        "episodes": [
            {
                "episode": e.episode,
                "steps": len(e),
                "per_action_dim": e.score,
                "per_token": {name: e.mean_per_token(name) for name in e.log_prob},
                "tokens_left_out": e.excluded,
                "least_likely": [
                    {"t": t, "per_action_dim": float(e.per_action_dim[t])}
                    for t in e.least_likely(MOMENTS, apart=_apart(e))
                ],
            }
            for e in least_likely_first(episodes)
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return document


def draw_episode(e: EpisodeLikelihood, frames: np.ndarray | None, rate_hz: float) -> bytes:
    """PNG: likelihood along one episode by token type, the least likely moments marked.

    Args:
        e: the episode's scores.
        frames: uint8 [T, h, w, 3] of a camera, shown at the marked moments; None without images.
        rate_hz: control rate, for the axis in seconds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(e.log_prob)
    moments = sorted(e.least_likely(MOMENTS, apart=_apart(e)))
    heights = [1.4] * (1 + len(names)) + ([1.9] if frames is not None else [])
    # The object interface draws without pyplot's global state and without a display.
    figure = Figure(figsize=(8, 0.6 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    curves = {"all, per action number": e.per_action_dim}
    for name in names:
        counts = e.counts(name)
        means = np.divide(e.sums(name), counts, out=np.full(len(e), np.nan), where=counts > 0)
        curves[f"{name}, per token"] = means
    first = None
    for row, (label, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[row], sharex=first)
        first = first or axes
        axes.plot(np.arange(len(e)), curve, color=f"C{row}", lw=1.2)
        axes.set_ylabel("nats", fontsize=8)
        axes.set_title(label, fontsize=8, loc="left", pad=2)
        axes.tick_params(labelsize=7, labelbottom=row == len(names))
        for number, t in enumerate(moments, 1):
            axes.axvline(t, color="0.75", lw=0.8, zorder=0)
            if np.isfinite(curve[t]):
                axes.plot(t, curve[t], "o", color="crimson", ms=4)
            if row == 0:
                axes.annotate(
                    str(number),
                    (t, 0),
                    xycoords=("data", "axes fraction"),
                    xytext=(2, 2),
                    textcoords="offset points",
                    fontsize=7,
                )
        if row == len(names):
            axes.set_xlabel(f"step t (1/{rate_hz:g} s)", fontsize=8)
    if frames is not None:
        cells = grid[-1].subgridspec(1, MOMENTS)
        for number, t in enumerate(moments, 1):
            axes = figure.add_subplot(cells[number - 1])
            axes.imshow(frames[t])
            axes.set_axis_off()
            axes.set_title(f"{number}: t = {t}, {e.per_action_dim[t]:.2f}", fontsize=8, pad=2)
    figure.suptitle(
        f"episode {e.episode}: {e.score:.3f} nats per action number ({len(e)} steps)", fontsize=10
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _apart(e: EpisodeLikelihood) -> int:
    """Steps between two marked moments: neighbours share most of their chunk."""
    return max(1, len(e) // 16)
