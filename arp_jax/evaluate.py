"""Measures a policy in closed loop: each episode counts once, every number has n and interval.

A run directory and a protocol flow in; a table, and OUT/{summary.json, report.html, scores.png,
episodes.mp4, episodes_*.npz}, flow out. What is measured is what `arp_jax.control` executes on a
robot.

Examples:
    python -m arp_jax.evaluate runs/quickstart
    python -m arp_jax.evaluate runs/quickstart --episodes 1000 --envs 250 --seed 7
    python -m arp_jax.evaluate runs/quickstart --env gym_pusht/PushT-v0 --episodes 50
    python -m arp_jax.evaluate --compare runs/a runs/b
    python -m arp_jax.evaluate runs/quickstart --untrained
    python -m arp_jax.evaluate --policy planner --episodes 48

Protocol flags that are not given come from the run's `eval` section. --seed: initial states and
noise are functions of (seed, episode number), whatever --envs and the number of devices. In
gym_pusht/PushT-v0 episode i has the environment seed --seed + i; published scores start at 100000.
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
from arp_jax.evaluation.baselines import planner_plans
from arp_jax.evaluation.controllers import Controller, policy_controller
from arp_jax.evaluation.environments import (
    Task,
    check_environment,
    is_host_environment,
    make_host_environment,
    make_task,
)
from arp_jax.evaluation.episodes import EpisodeResults, representative_episodes
from arp_jax.evaluation.host_rollout import host_rollout
from arp_jax.evaluation.rollout import Rollout, RolloutConfig
from arp_jax.evaluation.video import grid_frames, write_video
from arp_jax.policies.base import make_physical_act
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import load_run
from arp_jax.training.command_line import add_run_flags, exit_status, run_parser
from arp_jax.training.sections import read_section
from arp_jax.training.state import example_batch

DEFAULT_OBSERVATIONS = ("agent_pos", "keypoints")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The `eval` section: the protocol. See `RolloutConfig` for episodes, envs, seed, max_steps.

    Attributes:
        env: "push_t" (compiled) or a gymnasium id (on the host).
        execute: actions executed of each predicted chunk.
    """

    env: str = "push_t"
    episodes: int = 256
    envs: int = 256
    seed: int = 100_000
    execute: int = 8
    max_steps: int = 300

    @property
    def rollout(self) -> RolloutConfig:
        """The part that the rollouts need."""
        return RolloutConfig(self.episodes, self.envs, self.seed, self.max_steps)


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something that chooses actions, ready to be evaluated."""

    controller: Controller
    params: Any
    observations: tuple[str, ...]
    about: Mapping[str, Any]
    initial: np.ndarray | None = None  # set when the controller brings its own episodes


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.evaluate", __doc__)
    add = parser.add_argument
    add("run", nargs="?", type=Path, metavar="RUN", help="run directory of arp_jax.train")
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two runs, same initial states")
    add("--policy", choices=("run", "random", "hold", "planner"), default="run", help="baselines")
    add("--untrained", action="store_true", help="RUN's policy with fresh parameters")
    add("--env", help="push_t or gym_pusht/PushT-v0")
    add("--episodes", type=int, help="number of episodes n")
    add("--envs", type=int, help="episodes side by side; does not change outcomes")
    add("--seed", type=int, help="evaluation seed (see above)")
    add("--execute", type=int, help="actions executed of each predicted chunk")
    add("--max_steps", type=int, help="time limit in control steps")
    add("--reset_law", choices=("legacy", "current"), default="legacy", help="initial states")
    add("--engine", choices=("analytic", "mjx"), default="analytic", help="physics of push_t")
    add("--public_seeds", action="store_true", help="push_t starts as gym_pusht does: seed + i")
    add("--videos", type=int, default=12, help="clips in episodes.mp4; 0 for none")
    add("--out", type=Path, help="folder of the results; default RUN/eval/ENV_SEED")
    add_run_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.compare and (arguments.run or arguments.policy != "run" or arguments.untrained):
        parser.error("--compare A B takes no RUN, --policy or --untrained")
    if not arguments.compare and arguments.policy == "run" and arguments.run is None:
        parser.error("give a RUN, --compare A B, or --policy random|hold|planner")
    return arguments


def eval_config(flags: argparse.Namespace, run: Path | None) -> EvalConfig:
    """Flags over the run's `eval` section over the defaults."""
    section: dict[str, Any] = {}
    if run is not None and (run / run_dir.CONFIG_FILE).is_file():
        section = dict(run_dir.read_config(run).get("eval", {}))
    for field in dataclasses.fields(EvalConfig):
        if getattr(flags, field.name) is not None:
            section[field.name] = getattr(flags, field.name)
    return read_section(EvalConfig, section, "config.eval")


def load_subject(run: Path, config: EvalConfig, flags: argparse.Namespace, env: Any) -> Subject:
    """The run's policy; raises when the run and the environment do not fit."""
    loaded = load_run(run, step=flags.step, use_ema=not flags.no_ema)
    check_environment(loaded.spec, env, f"run {run}")
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
    controller = policy_controller(name, act, loaded.spec, config.execute)
    return Subject(controller, params, loaded.spec.observation.names, about)


def baseline(config: EvalConfig, flags: argparse.Namespace, env: Any) -> Subject:
    """A controller that was not trained."""
    if flags.policy == "random":
        chosen = controllers.random_controller(env.action_spec, config.execute)
    elif flags.policy == "hold":
        chosen = controllers.hold_controller(env.observation_spec, env.action_spec, config.execute)
    else:
        if is_host_environment(config.env):
            raise ValueError("--policy planner plans in push_t; use --env push_t")
        initial, plans = planner_plans(config.episodes, config.seed, config.max_steps)
        chosen = controllers.replay_controller("planner", config.execute)
        return Subject(chosen, plans, DEFAULT_OBSERVATIONS, {"run": "none"}, initial)
    return Subject(chosen, {}, DEFAULT_OBSERVATIONS, {"run": "none"})


def run_observations(run: Path | None) -> tuple[str, ...]:
    """What a run's policy looks at, before its checkpoint is read."""
    if run is None or not (run / run_dir.CONFIG_FILE).is_file():
        return DEFAULT_OBSERVATIONS
    return tuple(run_dir.read_config(run).get("observations", DEFAULT_OBSERVATIONS))


def evaluate(
    run: Path | None, config: EvalConfig, flags: argparse.Namespace
) -> tuple[Subject, EpisodeResults, Task | None]:
    """All episodes of one run or baseline."""
    policy_run = run if flags.policy == "run" else None
    observations = run_observations(policy_run)
    host = is_host_environment(config.env)
    task = None if host else make_task(config.env, observations, flags.engine, flags.reset_law)
    make_env = functools.partial(make_host_environment, config.env, observations, flags.reset_law)
    env = make_env() if task is None else task.env
    if policy_run is not None:
        subject = load_subject(policy_run, config, flags, env)
    else:
        subject = baseline(config, flags, env)
    bar = functools.partial(tqdm, desc=subject.controller.name, unit="batch")
    if task is None:
        results = host_rollout(
            make_env, subject.controller, subject.params, config.rollout, config.seed, bar
        )
        return subject, results, None
    initial = subject.initial
    if initial is None and flags.public_seeds:
        initial = task.initial_conditions(range(config.seed, config.seed + config.episodes))
    rollout = Rollout(
        task.env,
        subject.controller,
        config.rollout,
        initial=initial,
        record=task.record if flags.videos else None,
    )
    return subject, rollout(subject.params, bar), task


def film(task: Task, results: EpisodeResults, count: int, out: Path) -> Path:
    """Best and worst episodes as OUT/episodes.mp4."""
    chosen = representative_episodes(results, count)
    clips = [task.render(frames) for frames in results.frames(chosen)]
    path = out / "episodes.mp4"
    # Twice the control rate: an episode of 30 s is watched in 15.
    write_video(path, grid_frames(clips, results.success[chosen]), 2 * task.env.action_spec.rate_hz)
    return path


def output_folder(flags: argparse.Namespace, config: EvalConfig) -> Path:
    """--out, or a name made of the subject, environment and seed."""
    if flags.out is not None:
        return flags.out
    name = f"{config.env.replace('/', '_')}_{config.seed}"
    if flags.compare:
        return flags.compare[1] / "eval" / f"{name}_against_{flags.compare[0].name}"
    if flags.policy != "run" or flags.untrained:
        name += f"_{'untrained' if flags.untrained else flags.policy}"
    return (flags.run if flags.run is not None else Path("runs")) / "eval" / name


def run_command(flags: argparse.Namespace) -> None:
    """Evaluates what the flags name, prints the table, writes the report."""
    compile_cache.enable()
    runs = flags.compare or [flags.run]
    config = eval_config(flags, runs[0])
    out = output_folder(flags, config)
    results: dict[str, EpisodeResults] = {}
    about: dict[str, Any] = run_dir.describe_start() | dataclasses.asdict(config)
    if not is_host_environment(config.env):
        about["engine"] = flags.engine
    about["reset law"] = flags.reset_law
    task = None
    for run in runs:
        subject, episodes, task = evaluate(run, config, flags)
        label = subject.controller.name
        # Two runs may have one folder name.
        label = label if label not in results else f"{label} ({run})"
        results[label] = episodes
        about |= {f"{key} {label}" if flags.compare else key: v for key, v in subject.about.items()}
    comparison = None
    if flags.compare:
        (a, first), (b, second) = results.items()
        comparison = report.compare((a, b), first, second)
    out.mkdir(parents=True, exist_ok=True)
    video = None
    if task is not None and flags.videos:
        video = film(task, list(results.values())[-1], flags.videos, out)
    summaries = report.write_report(out, results, about, comparison=comparison, video=video)
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
