"""The whole way on one machine: demonstrations, training, evaluation, artifact.

Runs the very commands that a user would type, one after the other, printing each, and gathers their
results in RUN/summary.json and a table. Nothing here is special to the quickstart but the order.

Example:
    python -m launch.quickstart --workdir runs/quickstart
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/push_t_quick.py"
DEMONSTRATIONS = 300
TIME_FORMAT = "{:.0f} s"


# Huge pages for the allocator: a training step on a CPU takes 30 % less (benchmarks/README.md).
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def run_command(arguments: list[str]) -> None:
    """Runs a Python command in the checkout, showing it; stops the quickstart when it fails."""
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    environment = {**ENVIRONMENT, **os.environ}
    finished = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"the command above failed (exit code {finished.returncode})")


def timed(phases: dict[str, float], name: str, work: Callable[[], Any]) -> None:
    """Runs `work` and records its wall time in seconds under `name`."""
    start = time.monotonic()
    work()
    phases[name] = round(time.monotonic() - start, 1)


def evaluate(run: Path, label: str, episodes: int, *flags: str) -> dict[str, Any]:
    """Evaluates the run's policy (or a baseline) and returns the summary that was written."""
    out = run / "eval" / label
    run_command(
        ["-m", "arp_jax.evaluate", str(run), f"--episodes={episodes}", f"--out={out}", *flags]
    )
    return json.loads((out / "summary.json").read_text())


def setup_seconds() -> float | None:
    """Wall time of the environment's installation, as the Makefile recorded it."""
    record = Path(sys.prefix) / "setup_seconds"
    return float(record.read_text()) if record.exists() else None


def print_summary(summary: dict[str, Any]) -> None:
    """The results and the wall time of each phase as two tables."""
    console = Console()
    results = Table(title="Push-T, planned demonstrations", title_justify="left")
    for heading in ("policy", "n", "success [95 %]", "mean max coverage [95 %]", "mean max reward"):
        results.add_column(heading)
    for label, result in summary["results"].items():
        results.add_row(
            label,
            str(result["n"]),
            "{:.3f} [{:.3f}, {:.3f}]".format(result["success"], *result["success_interval"]),
            "{:.3f} [{:.3f}, {:.3f}]".format(
                result["max_coverage_mean"], *result["max_coverage_interval"]
            ),
            f"{result['max_reward_mean']:.3f}",
        )
    console.print(results)
    phases = Table(title="Wall time", title_justify="left")
    phases.add_column("phase")
    phases.add_column("time", justify="right")
    for name, seconds in summary["phases_s"].items():
        phases.add_row(name, TIME_FORMAT.format(seconds))
    phases.add_row("total", TIME_FORMAT.format(summary["total_s"]))
    console.print(phases)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--episodes", type=int, default=256, help="episodes to evaluate")
    arguments = parser.parse_args()
    run, data = arguments.workdir.resolve(), arguments.workdir.resolve() / "data"
    phases: dict[str, float] = {}
    results: dict[str, Any] = {}
    installed = setup_seconds()
    if installed is not None:
        phases["environment"] = installed

    timed(phases, "demonstrations", lambda: run_command(
        ["datasets/push_t_planned/build.py", f"--episodes={DEMONSTRATIONS}", f"--out={data}"]
    ))  # fmt: skip
    timed(phases, "training", lambda: run_command(
        ["-m", "arp_jax.train", f"--config={CONFIG}", f"--workdir={run}", "--overwrite",
         f"--config.data.source={data}/push_t_planned/1.0.0"]
    ))  # fmt: skip

    def evaluation() -> None:
        results["trained"] = evaluate(run, "push_t", arguments.episodes)
        results["untrained"] = evaluate(run, "untrained", 64, "--untrained")
        results["planner"] = evaluate(run, "planner", 32, "--policy=planner")

    timed(phases, "evaluation", evaluation)
    timed(phases, "export", lambda: run_command(["-m", "arp_jax.export_policy", str(run)]))

    trained = results["trained"]
    summary = {
        "success": trained["success"],
        "success_interval": trained["success_interval"],
        "coverage_mean": trained["max_coverage_mean"],
        "coverage_interval": trained["max_coverage_interval"],
        "n": trained["n"],
        "results": results,
        "phases_s": phases,
        "total_s": round(sum(phases.values()), 1),
    }
    (run / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print_summary(summary)
    print(f"report    {run}/eval/push_t/report.html\nsummary   {run}/summary.json")
    print(f"artifact  {run}/artifact")


if __name__ == "__main__":
    main()
