"""What an evaluation leaves behind: one row an episode, in the order of the episode ids.

Flows in: arrays from one of the rollouts. Flows out: `EpisodeResults`, saved as `.npz` and read
back, and the results of shards put together. Plain numpy; no simulator, no policy, no statistics
(`intervals.py`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Columns of the table: arrays with one row an episode, single values, and prefixes of dicts.
_ROWS = ("episode", "seed", "initial", "length", "success", "max_reward")
_ONCE = ("success_metric", "seconds", "compile_seconds")
_BEST, _FINAL, _CLASS, _NAMES = "best_", "final_", "class_", "names_"


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """Outcomes of N episodes, each counted exactly once.

    Attributes:
        episode: int64 [N], the episode ids, increasing: 0..N-1, or those of a shard.
        seed: int64 [N], what the initial state was drawn from besides the id: the evaluation seed
            (jitted environments) or the environment's own integer seed (host environments).
        initial: float32 [N, ...], initial conditions; empty [N, 0] when the environment hides them.
        length: int32 [N], executed actions.
        success: bool [N], the task was solved within the time limit.
        max_reward: float32 [N], largest reward of the episode (the benchmark score of Push-T).
        best, final: {metric: float32 [N]}, largest and last value of each metric.
        success_metric: the metric whose best value is the score, e.g. "coverage".
        trajectory: {name: [N, T + 1, ...]} recorded frames (initial one first, meaningful up to
            the episode's length), or None.
        seconds: wall time of the episodes, without compilation.
        compile_seconds: wall time of compilation.
        sub_goals: what max_reward >= 1, 2, ... means; empty when rewards are not stages.
        classes: {factor: int32 [N]}, place of each episode in `class_names[factor]`.
        class_names: {factor: names of its classes}.
    """

    episode: np.ndarray
    seed: np.ndarray
    initial: np.ndarray
    length: np.ndarray
    success: np.ndarray
    max_reward: np.ndarray
    best: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    success_metric: str
    trajectory: dict[str, np.ndarray] | None
    seconds: float
    compile_seconds: float
    sub_goals: tuple[str, ...] = ()
    classes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (np.diff(self.episode) > 0).all():
            raise ValueError("episodes must be in the order of their ids, each exactly once")

    @property
    def count(self) -> int:
        """Number of episodes N."""
        return int(self.episode.size)

    @property
    def steps_per_second(self) -> float:
        """Executed control steps (those of frozen episodes excluded) per second of wall time."""
        return float(self.length.sum()) / max(self.seconds, 1e-9)

    @property
    def score(self) -> np.ndarray:
        """Best value [N] of the success metric in each episode."""
        return self.best[self.success_metric]

    def frames(self, rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Recorded frames of chosen rows, cut at each one's end: {name: [length + 1, ...]}."""
        if self.trajectory is None:
            raise ValueError("no trajectory was recorded; pass `record` to the rollout")
        return [
            {name: values[i, : self.length[i] + 1] for name, values in self.trajectory.items()}
            for i in rows
        ]

    def save(self, path: Path) -> None:
        """Writes everything but the trajectories as `.npz`; `load_results` reads it back."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in (*_ROWS, *_ONCE)}
        columns["sub_goals"] = np.array(self.sub_goals, dtype=np.str_)
        columns |= {f"{_BEST}{name}": values for name, values in self.best.items()}
        columns |= {f"{_FINAL}{name}": values for name, values in self.final.items()}
        columns |= {f"{_CLASS}{name}": values for name, values in self.classes.items()}
        columns |= {
            f"{_NAMES}{name}": np.array(values, dtype=np.str_)
            for name, values in self.class_names.items()
        }
        np.savez(path, **columns)


def load_results(path: Path) -> EpisodeResults:
    """Reads what `EpisodeResults.save` wrote.

    Raises:
        ValueError: not such a file; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            columns = dict(table)
            return EpisodeResults(
                **{name: columns[name] for name in _ROWS},
                best=_with_prefix(columns, _BEST),
                final=_with_prefix(columns, _FINAL),
                classes=_with_prefix(columns, _CLASS),
                class_names={
                    name: tuple(map(str, values))
                    for name, values in _with_prefix(columns, _NAMES).items()
                },
                sub_goals=tuple(map(str, columns["sub_goals"])),
                success_metric=str(columns["success_metric"]),
                seconds=float(columns["seconds"]),
                compile_seconds=float(columns["compile_seconds"]),
                trajectory=None,
            )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no table of episodes: {error}") from error


def _with_prefix(columns: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}


def merge_results(parts: Sequence[EpisodeResults], episodes: int) -> EpisodeResults:
    """Puts the shards of one evaluation together, in the order of the episode ids.

    The times are sums, so that steps_per_second is the speed of one host.

    Args:
        parts: without trajectories.
        episodes: N, number of episodes of the whole evaluation.

    Raises:
        ValueError: an episode is there twice or missing, or the parts' metrics differ.
    """
    ids = np.concatenate([part.episode for part in parts])
    present, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"episode {present[times > 1][0]} is in two shards")
    missing = np.setdiff1d(np.arange(episodes), present)
    if missing.size:
        raise ValueError(
            f"{missing.size} of {episodes} episodes are missing, the first is {missing[0]}; "
            "name all shards"
        )
    if present[-1] >= episodes:
        raise ValueError(f"episode {present[-1]} is beyond the {episodes} of the evaluation")
    first, order = parts[0], np.argsort(ids)
    for part in parts[1:]:
        if part.best.keys() != first.best.keys() or part.class_names != first.class_names:
            raise ValueError("the shards have different metrics or factors")

    def table(pick: Callable[[EpisodeResults], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {k: np.concatenate([pick(p)[k] for p in parts])[order] for k in pick(first)}

    rows: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _ROWS
    }
    return dataclasses.replace(
        first,
        **rows,
        best=table(lambda part: part.best),
        final=table(lambda part: part.final),
        classes=table(lambda part: part.classes),
        trajectory=None,
        seconds=sum(part.seconds for part in parts),
        compile_seconds=sum(part.compile_seconds for part in parts),
    )


def representative_episodes(results: EpisodeResults, count: int) -> list[int]:
    """Up to `count` rows worth watching: half the best, half the worst, best first.

    Ties (many successes have the same score) go to the smaller id, so that the choice is stable.
    """
    order = np.argsort(-results.score, kind="stable")
    count = min(count, results.count)
    solved, failed = order[results.success[order]], order[~results.success[order]]
    good = min(solved.size, max(count // 2, count - failed.size))
    bad = count - good
    return [int(i) for i in np.concatenate([solved[:good], failed[failed.size - bad :]])]
