"""Evaluation results for people and for programs: a table, `summary.json`, one `report.html`.

Flows in: `EpisodeResults` of one or more controllers. Flows out: numbers with n and 95 % interval,
and files. The report is self-contained (plot and video are inlined). Computes no outcome itself.
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.evaluation import breakdown
from arp_jax.evaluation.breakdown import FactorRates, SubGoalRate
from arp_jax.evaluation.episodes import EpisodeResults, load_results
from arp_jax.evaluation.gallery import Failures
from arp_jax.evaluation.intervals import (
    Interval,
    PairedDifference,
    mean_bootstrap,
    paired_means,
    paired_outcomes,
    wilson,
)
from arp_jax.evaluation.report_page import inlined, render_page


@dataclasses.dataclass(frozen=True)
class Summary:
    """The headline numbers of one controller.

    Attributes:
        label: how the tables call it.
        success: rate with Wilson interval.
        score: mean over episodes of the best success metric, with bootstrap interval.
        max_reward: mean over episodes of the largest reward, with bootstrap interval.
        success_metric: what `score` is the best value of, e.g. "coverage".
        mean_length: mean number of executed actions.
        steps_per_second: executed control steps per second, compilation excluded.
        seconds, compile_seconds: wall times.
        sub_goals, factors: rates by stage of the reward and by initial condition.
        diverged: episodes in which the simulation broke down; they count as failures.
    """

    label: str
    success: Interval
    score: Interval
    max_reward: Interval
    success_metric: str
    mean_length: float
    steps_per_second: float
    seconds: float
    compile_seconds: float
    sub_goals: tuple[SubGoalRate, ...] = ()
    factors: tuple[FactorRates, ...] = ()
    diverged: int = 0

    @property
    def episodes(self) -> int:
        """Number of episodes n."""
        return self.success.n

    def to_json(self) -> dict[str, Any]:
        """Flat plain values; for Push-T the score's keys are "max_coverage_mean" and so on."""
        score = f"max_{self.success_metric}"
        return {
            "label": self.label,
            "n": self.episodes,
            "confidence": self.success.confidence,
            "success": self.success.value,
            "success_interval": [self.success.low, self.success.high],
            f"{score}_mean": self.score.value,
            f"{score}_interval": [self.score.low, self.score.high],
            "max_reward_mean": self.max_reward.value,
            "max_reward_interval": [self.max_reward.low, self.max_reward.high],
            "mean_length": self.mean_length,
            "steps_per_second": self.steps_per_second,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "sub_goals": breakdown.sub_goals_to_json(self.sub_goals),
            "factors": breakdown.factors_to_json(self.factors),
            "diverged": self.diverged,
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two controllers on the same initial states; differences are second minus first."""

    first: str
    second: str
    success: PairedDifference
    score: PairedDifference
    max_reward: PairedDifference

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """The paired differences as text, one line a quantity."""
        rows = [("success", self.success), ("score", self.score), ("max reward", self.max_reward)]
        lines = [
            f"{self.second} minus {self.first}, paired on {self.success.difference.n} episodes"
        ]
        for name, paired in rows:
            lines.append(
                f"  {name:<11} {paired.difference.describe():<26} p = {paired.p_value:.3g} "
                f"({paired.test}; {paired.second_only} better, {paired.first_only} worse)"
            )
        return "\n".join(lines)


def summarize(label: str, results: EpisodeResults) -> Summary:
    """Headline numbers of one controller's episodes."""
    diverged = results.best.get("diverged", np.zeros(results.count))
    return Summary(
        label=label,
        success=wilson(results.success),
        score=mean_bootstrap(results.score),
        max_reward=mean_bootstrap(results.max_reward),
        success_metric=results.success_metric,
        mean_length=float(results.length.mean()),
        steps_per_second=results.steps_per_second,
        seconds=results.seconds,
        compile_seconds=results.compile_seconds,
        sub_goals=breakdown.sub_goal_rates(results),
        factors=breakdown.factor_rates(results),
        diverged=int((diverged > 0).sum()),
    )


def compare(labels: tuple[str, str], first: EpisodeResults, second: EpisodeResults) -> Comparison:
    """Paired comparison; raises ValueError unless both started from the same initial states."""
    same = np.array_equal(first.initial, second.initial)
    # An environment that hides its starts has drawn them from its seeds.
    if not same or (not first.initial.size and not np.array_equal(first.seed, second.seed)):
        raise ValueError("--compare needs the same initial states: use one seed and one reset law")
    return Comparison(
        *labels,
        success=paired_outcomes(first.success, second.success),
        score=paired_means(first.score, second.score),
        max_reward=paired_means(first.max_reward, second.max_reward),
    )


def compare_all(results: Mapping[str, EpisodeResults]) -> Comparison:
    """Paired comparison of exactly two labels; raises as `compare`."""
    (a, first), (b, second) = results.items()
    return compare((a, b), first, second)


def read_summary(folder: Path) -> dict[str, Any]:
    """The `summary.json` of an evaluation's folder.

    Raises:
        ValueError: there is none, or it is of an older version; the message names it.
    """
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}; name a folder that arp_jax.evaluate wrote") from error
    if not isinstance(summary, dict) or not summary.get("protocol"):
        raise ValueError(f"{path} has no protocol; evaluate again with this version")
    return summary


def read_results(folder: Path, label: str) -> EpisodeResults:
    """One controller's episodes out of an evaluation's folder; raises as `load_results`."""
    return load_results(folder / table_name(label))


def summary_columns(summaries: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """The headline table by columns: (title, one cell for each summary)."""
    columns = [
        ("", [s.label for s in summaries]),
        ("n", [str(s.episodes) for s in summaries]),
        ("success", [s.success.describe(percent=True) for s in summaries]),
        (f"max {summaries[0].success_metric}", [s.score.describe() for s in summaries]),
        ("max reward", [s.max_reward.describe() for s in summaries]),
        ("length", [f"{s.mean_length:.0f}" for s in summaries]),
        ("steps/s", [f"{s.steps_per_second:,.0f}" for s in summaries]),
    ]
    # In tasks whose score is the reward, two columns would be the same.
    return [c for i, c in enumerate(columns) if c[0] not in [d[0] for d in columns[:i]]]


def table(summaries: Sequence[Summary]) -> str:
    """Plain text: one line a controller, then rates in detail; intervals are 95 %."""
    columns = summary_columns(summaries)
    rows = [[title for title, _ in columns]]
    rows += [[cells[i] for _, cells in columns] for i in range(len(summaries))]
    widths = [max(len(row[c]) for row in rows) for c in range(len(columns))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    for s in summaries:
        if s.diverged:
            lines.append(f"{s.label}: the simulation diverged in {s.diverged} episodes")
        details = breakdown.describe(s.sub_goals, s.factors)
        lines += [f"{s.label}, by sub-goal and initial condition", details] if details else []
    return "\n".join(lines)


def distribution_plot(results: Mapping[str, EpisodeResults]) -> bytes:
    """PNG: histogram and cumulative distribution of the score, one colour a controller."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface draws without pyplot's global state and without a display.
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    histogram, cumulative = figure.subplots(1, 2)
    name = next(iter(results.values())).success_metric
    low = min(float(r.score.min()) for r in results.values())
    high = max(float(r.score.max()) for r in results.values())
    bins = np.linspace(min(0.0, low), max(1.0, high), 41)
    for label, r in results.items():
        histogram.hist(r.score, bins=bins, alpha=0.55, label=f"{label} (n={r.count})")
        cumulative.ecdf(r.score, label=label)
    histogram.set(xlabel=f"max {name}", ylabel="episodes")
    cumulative.set(xlabel=f"max {name}", ylabel="fraction of episodes at most this")
    histogram.legend(fontsize=8, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def write_report(
    out: Path,
    results: Mapping[str, EpisodeResults],
    about: Mapping[str, Any],
    *,
    comparison: Comparison | None = None,
    video: Path | None = None,
    failures: Sequence[Failures] = (),
    protocol: Mapping[str, Any] | None = None,
) -> list[Summary]:
    """Writes `summary.json`, `report.html`, `scores.png` and one `episodes_<label>.npz` each.

    `summary.json` holds the subject's numbers at the top level, the others under "beside".

    Args:
        out: folder, made if absent.
        results: label -> episodes; the first label is the subject, the others stand beside it.
        about: plain JSON values to print and keep: command, environment, seed, versions...
        comparison: printed when given.
        video: mp4 to inline.
        failures: pictures of failed episodes to inline.
        protocol: plain JSON values that two shards of one evaluation must agree on; kept.

    Returns:
        The summaries, in the order of `results`.
    """
    out.mkdir(parents=True, exist_ok=True)
    summaries = [summarize(label, r) for label, r in results.items()]
    plot = distribution_plot(results)
    (out / "scores.png").write_bytes(plot)
    for label, r in results.items():
        r.save(out / table_name(label))
    document = summaries[0].to_json() | {
        "beside": [s.to_json() for s in summaries[1:]],
        "about": dict(about),
        "comparison": None if comparison is None else comparison.to_json(),
        "protocol": dict(protocol or {}),
    }
    (out / "summary.json").write_text(json.dumps(document, indent=2) + "\n")
    page = render_page(
        summaries=summaries,
        columns=summary_columns(summaries),
        about=about,
        comparison=None if comparison is None else comparison.describe(),
        plot=inlined(plot),
        video=inlined(video),
        failures=[{"sheet": inlined(f.sheet), "video": inlined(f.video)} for f in failures],
    )
    (out / "report.html").write_text(page)
    return summaries


def table_name(label: str) -> str:
    """Name of the file with a label's episodes."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in label)
    return f"episodes_{safe}.npz"
