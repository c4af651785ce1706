"""Which repeated pictures are a defect: dropped frames and cameras that stand still.

In: the `Repeats` of every episode. Out: findings. A small picture of a slow robot repeats by
nature, and a camera may not see what moves. So a repetition counts where the pictures of this
dataset otherwise change with such a movement, and not where a quarter of its episodes have the
same; if a third of all pictures repeat during clear movements, the camera is slower than the arm.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arp_jax.data.checks.episode import EpisodeReport
from arp_jax.data.checks.findings import OBSERVATION, Finding
from arp_jax.data.checks.images import MOVES, Repeats

# A step that moves through this share of the robot's range: two pixels of a picture of 96.
LEAST_MOVED = 0.02
# So many steps of such movement are compared, and so few of them may be repetitions.
LEAST_COMPARED, MOST_REPEATED = 20, 0.005
# A run of repetitions during which the robot travels through so much of its range.
FROZEN_TRAVEL, FROZEN_RUN = 0.5, 4
# From this share of the episodes on, repetitions are the dataset's nature.
HABIT = 0.25
# Movements that any picture shows, and the share of repetitions among them of a slow camera.
CLEAR_MOVE, SLOW_SHARE = 0.03, 0.33


def strange_repeats(reports: Sequence[EpisodeReport]) -> list[Finding]:
    """One finding for each episode and camera with such repetitions."""
    found = []
    for camera in sorted({name for r in reports for name in r.repeats}):
        having = {r.number: r.repeats[camera] for r in reports if camera in r.repeats}
        lengths = {r.number: r.length for r in reports}
        changed = np.sum([r.changed for r in having.values()], axis=0)  # as MOVES
        repeated = np.sort(np.concatenate([r.moved for r in having.values()]))
        some: dict[int, np.ndarray] = {}
        whole: dict[int, np.ndarray] = {}
        for number, repeats in having.items():
            strange = _rare(repeats, changed, repeated) | _frozen(repeats)
            if strange.any():
                all_of_it = len(repeats.steps) == lengths[number] - 1
                (whole if all_of_it else some)[number] = repeats.steps[strange]
        slow = [] if whole else _slow(camera, changed, repeated)
        if slow or len(some) >= max(HABIT * len(having), 2):
            some = {}
        found += slow
        found += [_finding(camera, n, steps) for n, steps in sorted((some | whole).items())]
    return found


def _slow(camera: str, changed: np.ndarray, repeated: np.ndarray) -> list[Finding]:
    """A remark on a camera whose pictures come more rarely than the steps."""
    same = int(np.count_nonzero(repeated > CLEAR_MOVE))
    total = same + int(changed[np.searchsorted(MOVES, CLEAR_MOVE)])
    if same < SLOW_SHARE * total or total < LEAST_COMPARED:
        return []
    message = f"{same / total:.0%} of the pictures of clear movements equal the one before"
    return [Finding("slow_camera", message, None, 0, OBSERVATION + camera)]


def _finding(camera: str, number: int, steps: np.ndarray) -> Finding:
    message = f"{len(steps)} picture(s) equal the one before while the robot moves"
    where: dict[str, Any] = {"field": OBSERVATION + camera, "steps": len(steps)}
    first, last = int(steps[0]), int(steps[-1])
    return Finding("duplicate_frames", message, number, first, last=last, **where)


def _rare(repeats: Repeats, changed: np.ndarray, repeated: np.ndarray) -> np.ndarray:
    """Which repetitions are rare: elsewhere, steps that moved half as far show another picture."""
    half = repeats.moved / 2
    run = _runs(repeats.steps)
    own = np.array([np.sum(repeats.moved[run == r] >= h) for r, h in zip(run, half, strict=True)])
    same = len(repeated) - np.searchsorted(repeated, half, side="left") - own
    other = changed[np.minimum(np.searchsorted(MOVES, half), len(MOVES) - 1)]
    moved = repeats.moved > LEAST_MOVED
    return moved & (other >= LEAST_COMPARED) & (same <= MOST_REPEATED * other)


def _runs(steps: np.ndarray) -> np.ndarray:
    """Number of the run of successive steps that each one belongs to."""
    return np.concatenate([[0], np.cumsum(np.diff(steps) != 1)])[: len(steps)]


def _frozen(repeats: Repeats) -> np.ndarray:
    """Which repetitions belong to a run during which the robot travels through its range."""
    if not len(repeats.steps):
        return np.zeros(0, bool)
    run = _runs(repeats.steps)
    travel, size = np.bincount(run, repeats.moved), np.bincount(run)
    return (travel[run] > FROZEN_TRAVEL) & (size[run] >= FROZEN_RUN)
