"""How likely a policy finds recorded episodes, moment by moment.

A run directory and an RLDS dataset flow in; a table, and OUT/{likelihood.csv, summary.json,
episode_N.png} flow out. At every step t of an episode the recorded chunk (and the plan made from
it) is scored given the observation at t: where the numbers fall, the demonstrator did something
that the policy did not expect.

Examples:
    python -m arp_jax.likelihood runs/push_t_state --dataset data/push_t/1.0.0 --split "train[:4]"
    python -m arp_jax.likelihood runs/push_t_state --dataset data/push_t/1.0.0 --episodes 0,3
    python -m arp_jax.likelihood runs/push_t_state --dataset data/push_t/1.0.0 --altered

Numbers are nats. Continuous tokens have densities per normalised unit (higher than 0 is possible);
heat-map pixels, bins and classes have probabilities. Tokens beyond an episode's ends are left out.
--altered scores the same episodes with their actions reversed and shuffled in time as well: both
must come out less likely.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from rich.console import Console
from tqdm import tqdm

from arp_jax import compile_cache
from arp_jax.data.rlds import Episode, open_dataset
from arp_jax.evaluation import likelihood_report as report
from arp_jax.evaluation.likelihood import (
    ALTERATIONS,
    EpisodeLikelihood,
    altered,
    dataset_episodes,
    make_score_fn,
    score_episode,
)
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import LoadedRun, load_run
from arp_jax.training.command_line import add_run_flags, exit_status, run_parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.likelihood", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run directory of arp_jax.train")
    add("--dataset", type=Path, required=True, metavar="DIR", help="DATA_DIR/name/version")
    add("--split", default="train", help='split or a part of it: "train[:4]"')
    add("--episodes", metavar="N,N", help="numbers within the split; default all")
    add("--altered", action="store_true", help="also score reversed and shuffled actions")
    add("--no_pictures", action="store_true", help="no episode_N.png")
    add("--batch", type=int, default=32, help="steps scored at once; does not change results")
    add("--out", type=Path, help="folder of the results; default RUN/likelihood/DATASET")
    add_run_flags(parser)
    return parser.parse_args(argv)


def episode_numbers(text: str | None) -> list[int] | None:
    """ "0,3" -> [0, 3]; None stays None."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--episodes {text!r}: give numbers like 0,3") from None


def score_dataset(
    flags: argparse.Namespace, loaded: LoadedRun, out: Path
) -> tuple[list[EpisodeLikelihood], dict[str, list[EpisodeLikelihood]]]:
    """Scores and draws episode by episode, so that one at a time is in memory."""
    dataset = open_dataset(flags.dataset)
    cameras = dataset.specs.observation.cameras if dataset.specs else ()
    camera = cameras[0].name if cameras and not flags.no_pictures else None
    chosen = episode_numbers(flags.episodes)
    score = make_score_fn(loaded.policy)

    def scored(episode: Episode, number: int) -> EpisodeLikelihood:
        fixed = (loaded.spec, loaded.normalizer, number, flags.batch)
        return score_episode(score, loaded.params, episode, *fixed)

    found: list[EpisodeLikelihood] = []
    controls: dict[str, list[EpisodeLikelihood]] = {
        how: [] for how in (ALTERATIONS if flags.altered else ())
    }
    total = dataset.num_episodes(flags.split) if chosen is None else len(set(chosen))
    shown = [] if camera is None else [camera]
    episodes = dataset_episodes(dataset, flags.split, loaded.spec, chosen, shown)
    for number, episode in tqdm(episodes, total=total, unit="episode"):
        found.append(scored(episode, number))
        for how, others in controls.items():
            others.append(scored(altered(episode, how, seed=number), number))
        if not flags.no_pictures:
            frames = None if camera is None else np.asarray(episode["observation"][camera])
            picture = report.draw_episode(found[-1], frames, loaded.spec.action.rate_hz)
            (out / f"episode_{number}.png").write_bytes(picture)
    return found, controls


def run_command(flags: argparse.Namespace) -> None:
    """Scores what the flags name, prints the tables, writes the files."""
    if flags.batch < 1:
        raise ValueError(f"--batch must be at least 1, found {flags.batch}")
    compile_cache.enable()
    loaded = load_run(flags.run, step=flags.step, use_ema=not flags.no_ema)
    name = "_".join(flags.dataset.absolute().parts[-2:])
    out = flags.out if flags.out is not None else flags.run / "likelihood" / name
    out.mkdir(parents=True, exist_ok=True)
    found, controls = score_dataset(flags, loaded, out)
    report.write_csv(out / "likelihood.csv", found)
    scale = loaded.normalizer["action"].scale
    about: dict[str, Any] = run_dir.describe_start() | {
        "run": str(flags.run),
        "checkpoint": loaded.step,
        "parameters": "last" if flags.no_ema else "ema",
        "dataset": str(flags.dataset),
        "split": flags.split,
        # Subtract once per scored action from a density per normalised unit.
        "log_scale_of_an_action": float(np.log(scale).sum()),
        "physical_unit": loaded.spec.action.unit,
    }
    report.write_summary(out / "summary.json", found, about, controls)
    console = Console()
    console.print(report.episode_table(found))
    console.print(report.summary_table(report.summarize(found)))
    if controls:
        console.print(report.control_table(found, controls))
    console.print(f"results  {out}", soft_wrap=True, highlight=False)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    logging.set_verbosity(logging.ERROR)  # Orbax narrates each read
    return exit_status(lambda: run_command(flags), flags.traceback)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
