"""What an evaluation leaves behind: one row an episode, in the order of the episode ids.

Flows in: arrays from `rollout` or `host_rollout`. Flows out: `EpisodeResults`, saved as `.npz` plus
numbers for the report. Plain numpy; no simulator, no policy, no statistics (`intervals.py`).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SCALARS = ("episode", "seed", "length", "success", "max_reward")


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """Outcomes of N episodes, each counted exactly once.

    Attributes:
        episode: int64 [N], the episode ids 0..N-1.
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

    def __post_init__(self) -> None:
        if not np.array_equal(self.episode, np.arange(self.episode.size)):
            raise ValueError("episodes must be 0..N-1, each exactly once")

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

    def frames(self, episodes: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Recorded frames of chosen episodes, cut at each one's end: {name: [length + 1, ...]}."""
        if self.trajectory is None:
            raise ValueError("no trajectory was recorded; pass `record` to the rollout")
        return [
            {name: values[i, : self.length[i] + 1] for name, values in self.trajectory.items()}
            for i in episodes
        ]

    def save(self, path: Path) -> None:
        """Writes the per-episode table as `.npz` (without trajectories)."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in _SCALARS}
        columns["initial"] = self.initial
        columns |= {f"best_{name}": values for name, values in self.best.items()}
        columns |= {f"final_{name}": values for name, values in self.final.items()}
        np.savez(path, **columns)


def representative_episodes(results: EpisodeResults, count: int) -> list[int]:
    """Up to `count` episode ids worth watching: half the best, half the worst, best first.

    Ties (many successes have the same score) go to the smaller id, so that the choice is stable.
    """
    order = np.argsort(-results.score, kind="stable")
    count = min(count, results.count)
    solved, failed = order[results.success[order]], order[~results.success[order]]
    good = min(solved.size, max(count // 2, count - failed.size))
    bad = count - good
    return [int(i) for i in np.concatenate([solved[:good], failed[failed.size - bad :]])]
