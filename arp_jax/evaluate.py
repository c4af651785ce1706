"""Measures a policy in closed loop: each episode counts once, every number has n and interval.

A run directory and a protocol flow in; a table, and OUT/{summary.json, report.html, scores.png,
episodes.mp4, failures.png, failures.mp4, episodes_*.npz}, flow out. What is measured is what
`arp_jax.control` executes on a robot.

Examples:
    python -m arp_jax.evaluate runs/quickstart
    python -m arp_jax.evaluate runs/quickstart --episodes 1000 --envs 250 --seed 7
    python -m arp_jax.evaluate runs/quickstart --env gym_pusht/PushT-v0 --episodes 50
    python -m arp_jax.evaluate runs/cube --ensemble 0.01
    python -m arp_jax.evaluate runs/cube --execute 20 --latency 5
    python -m arp_jax.evaluate runs/cube --randomize friction.json
    python -m arp_jax.evaluate --compare runs/a runs/b
    python -m arp_jax.evaluate --compare runs/a/eval/one runs/a/eval/other
    python -m arp_jax.evaluate runs/quickstart --untrained
    python -m arp_jax.evaluate --policy expert --env transfer_cube --episodes 200
    python -m arp_jax.evaluate --policy planner --episodes 48

--compare is paired: both start from the same states. Given two folders of results it evaluates
nothing; so one policy in two environments or two ways of executing it can be compared.

Protocol flags that are not given come from the run's `eval` section. --seed: initial states and
noise are functions of (seed, episode number), whatever --envs, --shard and the number of devices.
In gym_pusht/PushT-v0 episode i has the environment seed --seed + i; published scores start at
100000. Many hosts: give host i of n `--shard i/n` and a folder each as --out, then put the folders
together with `python -m arp_jax.merge_evaluations`.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from arp_jax import compile_cache
from arp_jax.evaluation import controllers, report
from arp_jax.evaluation.arena import Arena
from arp_jax.evaluation.baselines import planner_plans
from arp_jax.evaluation.controllers import Controller, MemoryController, policy_controller
from arp_jax.evaluation.environments import (
    ENGINES,
    check_environment,
    make_arena,
)
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.gallery import Failures, Films
from arp_jax.evaluation.protocol import EvalConfig, RolloutConfig, parse_shard
from arp_jax.policies.base import make_physical_act
from arp_jax.sim.randomize import read_ranges
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import load_run
from arp_jax.training.command_line import add_run_flags, exit_status, run_parser
from arp_jax.training.sections import read_section
from arp_jax.training.state import example_batch

BASELINES = ("random", "hold", "planner", "expert")
CHUNK_FLAGS = ("ensemble", "latency", "blend", "base_delay", "drop_zeros")


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something that chooses actions, ready to be evaluated."""

    controller: Controller | MemoryController
    params: Any
    about: Mapping[str, Any]
    initial: np.ndarray | None = None  # set when the controller brings its own episodes


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One subject's episodes, and where they took place."""

    subject: Subject
    results: EpisodeResults
    arena: Arena
    max_steps: int


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.evaluate", __doc__)
    add = parser.add_argument
    add("run", nargs="?", type=Path, metavar="RUN", help="run directory of arp_jax.train")
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two runs, or two results")
    add("--policy", choices=("run", *BASELINES), default="run", help="baselines")
    add("--untrained", action="store_true", help="RUN's policy with fresh parameters")
    add("--env", help="push_t, a task such as transfer_cube, or a gymnasium id")
    add("--engine", choices=ENGINES, help="physics; default: what suits the platform")
    add("--episodes", type=int, help="number of episodes n")
    add("--envs", type=int, help="episodes side by side; does not change outcomes")
    add("--seed", type=int, help="evaluation seed (see above)")
    add("--execute", type=int, help="actions executed of each predicted chunk")
    add("--ensemble", type=float, metavar="TEMPERATURE", help="ask each step, average (ACT: 0.01)")
    add("--latency", type=int, metavar="K", help="actions arrive K steps after their observation")
    add("--blend", type=int, metavar="N", help="steps over which a chunk fades into the next")
    add("--base_delay", type=int, metavar="D", help="a base's commands are sent D steps ahead")
    add("--drop_zeros", action="store_const", const=True, help="ensemble as ACT's code, without 0s")
    add("--max_steps", type=int, help="time limit in control steps")
    add("--reset_law", choices=("legacy", "current"), default="legacy", help="push_t's starts")
    add("--public_seeds", action="store_true", help="starts of gym_pusht, gym_aloha: seed + i")
    add("--workers", type=int, default=0, help="processes that step a gymnasium environment")
    add("--randomize", type=Path, metavar="FILE", help="JSON: model fields varied per episode")
    add("--shard", default="0/1", metavar="i/n", help="only the episodes i, i+n, i+2n...")
    add("--videos", type=int, default=12, help="clips in episodes.mp4; 0 for no pictures at all")
    add("--out", type=Path, help="folder of the results; default RUN/eval/ENV_SEED")
    add_run_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.compare and (arguments.run or arguments.policy != "run" or arguments.untrained):
        parser.error("--compare A B takes no RUN, --policy or --untrained")
    if not arguments.compare and arguments.policy == "run" and arguments.run is None:
        parser.error("give a RUN, --compare A B, or --policy " + "|".join(BASELINES))
    return arguments


def eval_config(flags: argparse.Namespace, run: Path | None) -> EvalConfig:
    """Flags over the run's `eval` section over the defaults."""
    for name in CHUNK_FLAGS:
        if flags.policy != "run" and getattr(flags, name) is not None:
            raise ValueError(f"--policy {flags.policy} predicts no chunks for --{name}")
    if flags.ensemble is not None and flags.execute not in (None, 1):
        raise ValueError("--ensemble asks the policy at each step; leave out --execute")
    section: dict[str, Any] = {}
    if run is not None and (run / run_dir.CONFIG_FILE).is_file():
        section = dict(run_dir.read_config(run).get("eval", {}))
    for field in dataclasses.fields(EvalConfig):
        if getattr(flags, field.name) is not None:
            section[field.name] = getattr(flags, field.name)
    return read_section(EvalConfig, section, "config.eval")


def load_subject(run: Path, config: EvalConfig, flags: argparse.Namespace, arena: Arena) -> Subject:
    """The run's policy; raises when the run and the environment do not fit."""
    loaded = load_run(run, step=flags.step, use_ema=not flags.no_ema)
    check_environment(loaded.spec, arena, f"run {run}")
    params = loaded.params
    if flags.untrained:
        params = loaded.policy.init(jax.random.key(0), example_batch(loaded.spec))
    name = f"{run.name} (untrained)" if flags.untrained else run.name
    act = make_physical_act(loaded.policy, loaded.normalizer)
    about = {
        "run": str(run),
        "checkpoint": "none (untrained)" if flags.untrained else loaded.step,
        "parameters": "fresh" if flags.untrained else ("last" if flags.no_ema else "ema"),
        "parameter count": sum(np.size(x) for x in jax.tree.leaves(params)),
    }
    controller = policy_controller(name, act, loaded.spec, config.execution)
    return Subject(controller, params, about)


def baseline(
    config: EvalConfig,
    rollout: RolloutConfig,
    flags: argparse.Namespace,
    arena: Arena,
) -> Subject:
    """A controller that was not trained."""
    nothing = {"run": "none"}
    if flags.policy == "random":
        chosen = controllers.random_controller(arena.action_spec, config.execute)
        return Subject(chosen, {}, nothing)
    if flags.policy == "hold":
        spec = arena.observation_spec
        hold = controllers.hold_controller(spec, arena.action_spec, config.execute)
        return Subject(hold, {}, nothing)
    if flags.policy == "expert":
        if arena.make_expert is None:
            raise ValueError(f"--policy expert: {config.env} has no scripted expert")
        expert = controllers.expert_controller("expert", arena.make_expert(), arena.action_spec)
        return Subject(expert, {}, nothing)
    if config.env != "push_t":
        raise ValueError("--policy planner plans in push_t; use --env push_t")
    initial, plans = planner_plans(rollout.episodes, rollout.ids, rollout.seed, rollout.max_steps)
    planner = controllers.replay_controller("planner", config.execute)
    return Subject(planner, plans, nothing, initial)


def run_observations(run: Path | None) -> tuple[str, ...] | None:
    """What a run's policy looks at, before its checkpoint is read; None for the usual."""
    if run is None or not (run / run_dir.CONFIG_FILE).is_file():
        return None
    names = run_dir.read_config(run).get("observations")
    return None if names is None else tuple(names)


def evaluate(run: Path | None, config: EvalConfig, flags: argparse.Namespace) -> Evaluation:
    """All episodes of one run or baseline."""
    policy_run = run if flags.policy == "run" else None
    ranges = read_ranges(flags.randomize) if flags.randomize else ()
    arena = make_arena(
        config.env,
        run_observations(policy_run),
        flags.engine,
        flags.reset_law,
        ranges,
        flags.workers,
    )
    limit = config.max_steps or arena.max_episode_steps
    rollout = RolloutConfig(config.episodes, config.envs, config.seed, limit, flags.shard)
    if policy_run is not None:
        subject = load_subject(policy_run, config, flags, arena)
    else:
        subject = baseline(config, rollout, flags, arena)
    initial = subject.initial
    if initial is None and flags.public_seeds:
        if arena.public_initial_conditions is None:
            raise ValueError(f"--public_seeds: {config.env} has no public seeds")
        seeds = range(config.seed, config.seed + config.episodes)
        initial = arena.public_initial_conditions(seeds)
    run_all = arena.make_rollout(subject.controller, rollout, initial, bool(flags.videos))
    bar = functools.partial(tqdm, desc=subject.controller.name, unit="batch")
    results = arena.classified(run_all(subject.params, bar))
    return Evaluation(subject, results, arena, limit)


def write_films(
    evaluation: Evaluation, count: int, out: Path
) -> tuple[Path | None, Sequence[Failures]]:
    """OUT/episodes.mp4 and pictures of failures; without OpenGL the report has no pictures."""
    for name in ("episodes.mp4", "failures.mp4", "failures.png"):
        (out / name).unlink(missing_ok=True)  # of an earlier evaluation
    if evaluation.arena.render is None or not count:
        return None, ()
    films = Films(evaluation.arena, evaluation.results, out)
    try:
        video, failures = films.representative(count), films.failures()
    except RuntimeError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return None, ()
    return video, () if failures is None else (failures,)


def output_folder(flags: argparse.Namespace, config: EvalConfig) -> Path:
    """--out, or a name made of the subject, environment, seed and what is unusual."""
    if flags.out is not None:
        return flags.out
    name = f"{config.env.replace('/', '_')}_{config.seed}"
    for key in ("engine", *CHUNK_FLAGS):
        if getattr(flags, key) is not None:
            name += f"_{key}_{getattr(flags, key)}"
    if flags.randomize:
        name += f"_{flags.randomize.stem}"
    if flags.compare:
        name += f"_against_{flags.compare[0].name}"
    elif flags.policy != "run" or flags.untrained:
        name += f"_{'untrained' if flags.untrained else flags.policy}"
    if flags.shard[1] > 1:
        name += "_shard_{}_of_{}".format(*flags.shard)
    if flags.compare:
        return flags.compare[1] / "eval" / name
    return (flags.run if flags.run is not None else Path("runs")) / "eval" / name


def protocol_of(
    config: EvalConfig, flags: argparse.Namespace, evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """What the shards of one evaluation have in common, as plain JSON values."""
    first = next(iter(evaluations.values()))
    common = {key: value for key, value in dataclasses.asdict(config).items() if key != "envs"}
    common["max_steps"] = first.max_steps
    common["engine"] = first.arena.engine
    common["reset law"] = flags.reset_law
    common["public seeds"] = flags.public_seeds
    ranges = read_ranges(flags.randomize) if flags.randomize else ()
    common["randomize"] = [dataclasses.asdict(r) | {"names": list(r.names)} for r in ranges]
    for label, evaluation in evaluations.items():
        # Hosts may see a run under different paths.
        about = {key: value for key, value in evaluation.subject.about.items() if key != "run"}
        common[f"subject {label}"] = about
    return common


def compare_results(folders: Sequence[Path]) -> str:
    """Two finished evaluations, paired: the table and the differences of their subjects."""
    results = {}
    for folder in folders:
        label = report.read_summary(folder)["label"]
        results[f"{label} ({folder.name})"] = report.read_results(folder, label)
    if len(results) < 2:
        raise ValueError(f"--compare: {folders[0]} and {folders[1]} have the same name")
    summaries = [report.summarize(label, episodes) for label, episodes in results.items()]
    return f"{report.table(summaries)}\n{report.compare_all(results).describe()}"


def run_command(flags: argparse.Namespace) -> None:
    """Evaluates what the flags name, prints the table, writes the report."""
    if flags.compare and all((folder / "summary.json").is_file() for folder in flags.compare):
        print(compare_results(flags.compare))
        return
    compile_cache.enable()
    flags.shard = parse_shard(flags.shard)
    runs = flags.compare or [flags.run]
    config = eval_config(flags, runs[0])
    out = output_folder(flags, config)
    evaluations: dict[str, Evaluation] = {}
    about: dict[str, Any] = run_dir.describe_start()
    for run in runs:
        evaluation = evaluate(run, config, flags)
        label = evaluation.subject.controller.name
        # Two runs may have one folder name.
        label = label if label not in evaluations else f"{label} ({run})"
        evaluations[label] = evaluation
        for key, value in evaluation.subject.about.items():
            about[f"{key} {label}" if flags.compare else key] = value
    protocol = protocol_of(config, flags, evaluations)
    about |= {k: v for k, v in protocol.items() if not k.startswith("subject ")}
    about |= {"envs": config.envs, "shard": "{}/{}".format(*flags.shard)}
    results = {label: evaluation.results for label, evaluation in evaluations.items()}
    comparison = report.compare_all(results) if flags.compare else None
    out.mkdir(parents=True, exist_ok=True)
    video, failures = write_films(list(evaluations.values())[-1], flags.videos, out)
    summaries = report.write_report(
        out,
        results,
        about,
        comparison=comparison,
        video=video,
        failures=failures,
        protocol=protocol,
    )
    print(report.table(summaries))
    if comparison is not None:
        print(comparison.describe())
    print(f"report  {out / 'report.html'}")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    logging.set_verbosity(logging.ERROR)  # Orbax narrates each read
    return exit_status(lambda: run_command(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
