"""Policies compared on one task: trained on the same data for the same time, then evaluated alike.

    python -m launch.compare --config=configs/compare_push_t.py --source=DATA --workdir=OUT

A config of a comparison and a dataset flow in; a run directory for each policy (OUT/NAME, made by
the commands that a user would type, each printed), OUT/{comparison.md, comparison.png,
summary.json, README.txt} flow out. Started again, it goes on where it stopped: what is trained is
not trained again. First the speed of every policy is measured (`budget.json`), then each trains the
steps that fill config.minutes at that speed, so that its learning rate ends where its training
does. Not here: the table and the picture (`comparison.py`).
"""

import dataclasses
import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from arp_jax.evaluation import report
from arp_jax.training import run_dir
from arp_jax.training.command_line import check_only_flags, exit_status, parse_flags
from arp_jax.training.data_config import BUILT_IN
from arp_jax.training.metrics import FILE as METRICS_FILE
from arp_jax.training.metrics import read_lines
from arp_jax.training.sections import read_section
from launch import comparison
from launch.quickstart import run_command

PLAN_FILE, BUDGET_FILE, ATTEMPTS_FILE = "plan.json", "budget.json", "attempts.json"
# What may change between two starts: it decides nothing that was learned.
_EVALUATION = ("title", "env", "engine", "episodes", "envs", "seed")
_INTERVALS = 6  # of the timing run; the first is left out


def define_flags() -> None:
    """The command line; not at import, because other commands call their config flag the same."""
    config_flags.DEFINE_config_file("config", None, "Config file of a comparison.")
    flags.DEFINE_string("source", None, "Demonstrations, e.g. DATA/push_t/1.0.0.")
    flags.DEFINE_string("workdir", None, "Folder; runs/NAME of configs/NAME.py.")
    flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The config of a comparison.

    Attributes:
        title: of table and picture.
        order: the policies; the others are compared with the first.
        policies: name -> (config file, flags of `arp_jax.train`...).
        untimed: policies that train for the steps of their own config.
        minutes: of training steps for each of the others.
        timing_steps: in which the speed of each is measured.
        env, engine, episodes, envs, seed: of the evaluation, see `arp_jax.evaluate`.
    """

    title: str
    order: tuple[str, ...]
    policies: Mapping[str, tuple[str, ...]]
    untimed: tuple[str, ...]
    minutes: float
    timing_steps: int
    env: str
    engine: str
    episodes: int
    envs: int
    seed: int

    def __post_init__(self) -> None:
        for name in (*self.order, *self.untimed):
            if name not in self.policies:
                raise ValueError(f"config.policies has no {name!r}; known: {sorted(self.policies)}")
        if len(self.order) < 2:
            raise ValueError(f"config.order {self.order}: a comparison needs two policies or more")
        if not self.minutes > 0:
            raise ValueError(f"config.minutes must be positive, found {self.minutes}")
        if self.timing_steps < 12:  # two updates are in flight: a short run looks too fast
            raise ValueError(f"config.timing_steps must be >= 12, found {self.timing_steps}")


def compare(plan: Plan, source: str, folder: Path) -> None:
    """Everything; see the module."""
    keep_plan(plan, source, folder)
    for name in plan.order:
        if name not in plan.untimed and name not in read_json(folder / BUDGET_FILE):
            measure_speed(plan, name, source, folder)
    for name in plan.order:
        train(plan, name, source, folder)
    for name in plan.order:
        evaluate(plan, folder / name)
        if not (folder / name / "artifact" / "manifest.json").is_file():
            run_command(["-m", "arp_jax.export_policy", str(folder / name)])
    minutes = {name: spent_seconds(folder, name) / 60 for name in plan.order}
    results = comparison.read_rows(folder, plan.order, minutes)
    print("\n" + comparison.write(folder, plan.title, results, dataclasses.asdict(plan)))


def keep_plan(plan: Plan, source: str, folder: Path) -> None:
    """Writes OUT/plan.json, or checks that what was begun there is the same comparison.

    Raises:
        ValueError: another comparison, naming the first difference, or a folder of something else.
    """
    path = folder / PLAN_FILE
    new = json.loads(json.dumps({"source": source, **dataclasses.asdict(plan)}))
    if (
        not path.is_file()
        and folder.is_dir()
        and any(f.name != BUDGET_FILE for f in folder.iterdir())
    ):
        raise ValueError(f"--workdir {folder} is not empty and no comparison; choose another")
    old = read_json(path)
    for key in old:
        if key not in _EVALUATION and old[key] != new.get(key):
            raise ValueError(
                f"{folder} was begun with another {key} ({old[key]!r}, not {new.get(key)!r}); use "
                "that or another --workdir"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, new)


def train_command(plan: Plan, name: str, source: str, folder: Path, run: Path) -> list[str]:
    """The arguments of `python` that train a policy, up to its number of steps."""
    file, *own = plan.policies[name]
    command = ["-m", "arp_jax.train", f"--config={file}", f"--workdir={run}", *own]
    command.append(f"--config.data.source={source}")
    if source not in BUILT_IN:  # those are written into each run
        command.append(f"--config.data.pack_dir={folder / 'pack'}")
    return command


def measure_speed(plan: Plan, name: str, source: str, folder: Path) -> None:
    """Takes a few training steps; writes their rate and the budget's steps into budget.json."""
    run, steps = folder / "timing" / name, plan.timing_steps
    every = max(1, steps // _INTERVALS)
    run_command(
        [
            *train_command(plan, name, source, folder, run),
            *("--overwrite", f"--config.train.steps={steps}", f"--config.train.log_every={every}"),
            "--config.train.eval_every=0",
        ]
    )
    rows = [row for row in read_lines(run / METRICS_FILE) if row["kind"] == "train"]
    rate = statistics.median(row["steps_per_s"] for row in rows[1:])
    budget = read_json(folder / BUDGET_FILE)
    budget[name] = {"steps_per_s": rate, "steps": steps_within(plan.minutes, rate)}
    write_json(folder / BUDGET_FILE, budget)
    print(f"{name}: {rate:.2f} steps/s, {budget[name]['steps']} steps in {plan.minutes:g} minutes")
    shutil.rmtree(run.parent)


def steps_within(minutes: float, steps_per_s: float) -> int:
    """How many steps fit, at least one."""
    return max(1, math.floor(60 * minutes * steps_per_s))


def train(plan: Plan, name: str, source: str, folder: Path) -> None:
    """Trains a policy, or what is left of its training; keeps when it began and ended."""
    run = folder / name
    if is_trained(run):
        print(f"{name}: trained")
        return
    command = train_command(plan, name, source, folder, run)
    if name not in plan.untimed:
        steps = read_json(folder / BUDGET_FILE)[name]["steps"]
        command += [f"--config.train.steps={steps}", f"--config.train.save_every={steps // 4 + 1}"]
    begun = (run / run_dir.CONFIG_FILE).is_file()
    attempts = read_json(folder / ATTEMPTS_FILE)
    mine = attempts.setdefault(name, [])
    if mine and mine[-1][1] is None:
        # It was killed: its last sign of life ends it.
        signs = [run / METRICS_FILE, folder / ATTEMPTS_FILE]
        mine[-1][1] = max(sign.stat().st_mtime for sign in signs if sign.exists())
    mine.append([time.time(), None])
    write_json(folder / ATTEMPTS_FILE, attempts)
    try:
        run_command([*command, "--resume" if begun else "--overwrite"])
    finally:
        mine[-1][1] = time.time()
        write_json(folder / ATTEMPTS_FILE, attempts)


def is_trained(run: Path) -> bool:
    """Whether the last checkpoint of the run is complete."""
    if not (run / run_dir.CONFIG_FILE).is_file():
        return False
    return (run / "checkpoints" / str(run_dir.read_config(run)["train"]["steps"])).is_dir()


def spent_seconds(folder: Path, name: str) -> float:
    """Wall time of the training commands of a policy: start, compilation, steps, finishing."""
    return sum(end - begin for begin, end in read_json(folder / ATTEMPTS_FILE)[name])


def evaluate(plan: Plan, run: Path) -> None:
    """Evaluates a policy unless that was done with the same protocol."""
    out = run / "eval" / comparison.EVALUATION
    wanted = {"env": plan.env, "episodes": plan.episodes, "seed": plan.seed}
    if (out / "summary.json").is_file():
        done = report.read_summary(out)["protocol"]
        if all(done[key] == value for key, value in wanted.items()):
            return
    engine = [f"--engine={plan.engine}"] if plan.engine else []
    run_command(
        [
            *("-m", "arp_jax.evaluate", str(run), f"--out={out}", "--videos=0", *engine),
            *(f"--{key}={value}" for key, value in wanted.items()),
            f"--envs={min(plan.envs, plan.episodes)}",
        ]
    )


def read_json(path: Path) -> dict[str, Any]:
    """Content of a file that this module wrote; empty when there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes it whole or not at all."""
    run_dir.write_text(path, json.dumps(content, indent=2) + "\n")


def run_flags(argv: list[str]) -> None:
    """Checks the command line and compares."""
    check_only_flags(argv)
    given = flags.FLAGS
    if not given.config or not given.source:
        raise ValueError("give --config=configs/compare_NAME.py and --source=DATA")
    plan = read_section(Plan, given.config.to_dict(), "config")
    config_file = config_flags.get_config_filename(given["config"])
    source = given.source if given.source in BUILT_IN else str(Path(given.source).resolve())
    compare(plan, source, run_dir.choose_folder(given.workdir, config_file))


def main(argv: list[str]) -> None:
    """Runs the command and exits with its status (2 for wrong usage, in one line)."""
    logging.set_verbosity(logging.WARNING)
    sys.exit(exit_status(lambda: run_flags(argv), flags.FLAGS.traceback))


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
