"""What a comparison of policies shows: one table, one picture, one summary.json, one README.txt.

Flows in: the run directories that `launch.compare` made, evaluated and exported. Flows out: a row
for each policy with n, intervals and the paired difference to the first, and the files. Trains and
evaluates nothing; intervals and tests are `arp_jax.evaluation`'s.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arp_jax.evaluation import report
from arp_jax.evaluation.intervals import PairedDifference
from arp_jax.evaluation.report import Comparison, Summary
from arp_jax.training import run_dir

EVALUATION = "compare"  # RUN/eval/compare

_README = """\
{title}: {policies}.
Trained on the same demonstrations for the same time and evaluated from the same initial states by
launch/compare.py.

command      {command}
in           {cwd}
revision     {revision}
finished     {started}
devices      {devices}
versions     {versions}

{table}
Each policy took training steps for {minutes:g} minutes: its speed was measured first and the number
of steps chosen by it (budget.json), so that its learning rate ends where its training does. Not
timed, because they train nothing or end by themselves: {untimed}. "minutes" is the wall time of the
whole training command, with its start, compilation, checkpoints and what it does when it is done.
Brackets are 95 % intervals: Wilson for success, bootstrap for means; differences are paired, over
the same initial states. "ms per chunk" is one act() at batch size 1 on this machine. The parameters
of VINN are the demonstrated moments that it looks up.

Reproduce it: check out that revision, install those versions, and run the command with another
--workdir. To train the same numbers of steps on another machine, copy budget.json into the new
--workdir before the start. Each folder NAME/ is an ordinary run of arp_jax.train, with its own
README.txt; its evaluation is NAME/eval/{evaluation}. What is equal is said in the config file.

comparison.md   the table            comparison.png  success and score with their intervals
summary.json    all numbers          plan.json       the resolved config of the comparison
budget.json     measured speeds      attempts.json   when each training began and ended
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One policy.

    Attributes:
        name: its folder.
        parameters: numbers in what acts.
        minutes: wall time of training; steps, examples: taken in it.
        summary: of its episodes.
        milliseconds: of one call of the exported policy, batch 1.
        against: paired with the first policy; None for that one.
    """

    name: str
    parameters: int
    minutes: float
    steps: int
    examples: int
    summary: Summary
    milliseconds: float
    against: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        against = None if self.against is None else self.against.to_json()
        return fields | {"summary": self.summary.to_json(), "against": against}


def read_rows(folder: Path, names: Sequence[str], minutes: Mapping[str, float]) -> list[Row]:
    """The rows of the policies `names`, whose runs are folder/NAME.

    Raises:
        ValueError: an evaluation is missing, or they began in different states.
    """
    rows: list[Row] = []
    first = None
    for name in names:
        run = folder / name
        about = report.read_summary(run / "eval" / EVALUATION)
        episodes = report.read_results(run / "eval" / EVALUATION, about["label"])
        against = None if first is None else report.compare((names[0], name), first, episodes)
        first = episodes if first is None else first
        train = run_dir.read_config(run)["train"]
        manifest = json.loads((run / "artifact" / "manifest.json").read_text())
        row = Row(
            name,
            about["about"]["parameter count"],
            minutes[name],
            train["steps"],
            train["steps"] * train["batch_size"],
            report.summarize(name, episodes),
            manifest["latency"]["median_ms"],
            against,
        )
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each policy."""
    score, first = f"max {rows[0].summary.success_metric}", rows[0].name
    head = ["policy", "parameters", "minutes", "steps", "examples", "n", "success", score]
    head += ["ms per chunk", f"success minus {first}", f"{score} minus {first}"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        summary, against = row.summary, row.against
        cells = [row.name, f"{row.parameters:,}", f"{row.minutes:.1f}", f"{row.steps:,}"]
        cells += [f"{row.examples:,}", str(summary.episodes)]
        cells += [summary.success.describe(percent=True), summary.score.describe()]
        cells += [f"{row.milliseconds:.1f}"]
        cells += ["", ""] if against is None else [
            _difference(against.success, percent=True),
            _difference(against.score),
        ]  # fmt: skip
        lines.append(cells)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _difference(paired: PairedDifference, percent: bool = False) -> str:
    value = paired.difference
    text = f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
    if percent:
        low, middle, high = (f"{100 * x:+.1f}" for x in (value.low, value.value, value.high))
        text = f"{middle} points [{low}, {high}]"
    return f"{text}, p = {paired.p_value:.2g}"


def picture(title: str, rows: Sequence[Row], path: Path) -> None:
    """Bars with 95 % intervals: success on the left, mean score on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface draws without pyplot's global state and without a display.
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title} (n = {rows[0].summary.episodes} each, 95 % intervals)")
    names = [row.name for row in rows]
    panels = {
        "success": [row.summary.success for row in rows],
        f"mean max {rows[0].summary.success_metric}": [row.summary.score for row in rows],
    }
    axes = figure.subplots(1, 2)
    for axis, (label, intervals) in zip(axes, panels.items(), strict=True):
        values = [i.value for i in intervals]
        # Rounding can put a bound on the wrong side of 0 or 1 by a hair.
        below = [max(0.0, i.value - i.low) for i in intervals]
        above = [max(0.0, i.high - i.value) for i in intervals]
        axis.bar(
            [f"{name}\n{value:.2f}" for name, value in zip(names, values, strict=True)],
            values,
            yerr=[below, above],
            color=[f"C{k}" for k in range(len(rows))],
            capsize=4,
        )
        axis.set(ylabel=label, ylim=(min(0.0, *values), 1.0 if label == "success" else None))
    figure.savefig(path, dpi=110)


def write(folder: Path, title: str, rows: Sequence[Row], plan: Mapping[str, Any]) -> str:
    """Writes the files; returns the text for the screen."""
    text, about = table(rows), run_dir.describe_start()
    (folder / "comparison.md").write_text(f"{title}\n\n{text}")
    picture(title, rows, folder / "comparison.png")
    document = {
        "title": title,
        "policies": [row.to_json() for row in rows],
        "plan": dict(plan),
        "about": about,
    }
    run_dir.write_text(folder / "summary.json", json.dumps(document, indent=2) + "\n")
    readme = _README.format(
        title=title,
        policies=", ".join(row.name for row in rows),
        table=text,
        minutes=plan["minutes"],
        untimed=", ".join(plan["untimed"]) or "none",
        evaluation=EVALUATION,
        **about
        | {
            "devices": ", ".join(about["devices"]),
            "versions": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
        },
    )
    run_dir.write_text(folder / "README.txt", readme)
    return (
        f"{title}\n\n{text}\npicture  {folder / 'comparison.png'}\nreadme   {folder / 'README.txt'}"
    )
