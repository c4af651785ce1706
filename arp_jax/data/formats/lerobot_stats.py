"""Statistics as LeRobot keeps them, per episode and for the whole dataset.

In: the numbers or the pictures of an episode. Out: {"min", "max", "mean", "std", "count", "q01",
"q10", "q50", "q90", "q99"} as nested lists; of pictures per channel, in [0, 1], shaped [3, 1, 1].
Statistics that training here uses are `stats.py`'s.

Layout and aggregation as in huggingface/lerobot, src/lerobot/datasets/compute_stats.py: means and
variances are merged exactly; a low quantile of the whole is the smallest of the episodes', a high
one the greatest.
"""

from collections.abc import Sequence

import numpy as np

EpisodeStats = dict[str, np.ndarray]

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
# Pictures beyond these numbers add nothing to the statistics of an episode.
_MOST_FRAMES = 100
_LONGEST_SIDE = 150


def vector_stats(rows: np.ndarray) -> EpisodeStats:
    """Statistics of [T, D] numbers (or truth values): arrays [D], and the count [1]."""
    values = rows.astype(np.float64)
    quantiles = np.quantile(values, list(_QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


def sampled_steps(steps: int) -> frozenset[int]:
    """The steps whose pictures are looked at: all, or evenly spread ones of a long episode."""
    count = min(steps, _MOST_FRAMES)
    return frozenset(np.linspace(0, steps - 1, count).round().astype(int).tolist())


class PictureStats:
    """Histogram of the pictures of an episode, fed one by one."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256))
        self._frames = 0

    def add(self, pixels: np.ndarray) -> None:
        """Adds a picture uint8 [H, W, 3]; of a large one every n-th pixel."""
        stride = max(1, max(pixels.shape[:2]) // _LONGEST_SIDE)
        for channel in range(3):
            plane = pixels[::stride, ::stride, channel]
            self._counts[channel] += np.bincount(plane.reshape(-1), minlength=256)
        self._frames += 1

    def result(self) -> EpisodeStats:
        """Statistics of all pictures so far: arrays [3, 1, 1] in [0, 1], and their number [1]."""
        levels = np.arange(256) / 255
        weights = self._counts / self._counts.sum(axis=1, keepdims=True)  # [3, 256]
        mean = weights @ levels
        variance = (weights * np.square(levels - mean[:, None])).sum(axis=1)
        below = np.cumsum(weights, axis=1)
        # The first level that the wanted share of pixels does not exceed.
        ends = {"min": 1e-12, "max": 1 - 1e-12, **_QUANTILES}
        stats = {key: levels[(below < share).sum(axis=1)] for key, share in ends.items()}
        stats |= {"mean": mean, "std": np.sqrt(variance)}
        columns = {key: value.reshape(3, 1, 1) for key, value in stats.items()}
        return columns | {"count": np.array([self._frames])}


def merge_stats(episodes: Sequence[EpisodeStats]) -> EpisodeStats:
    """Statistics of the whole from those of its episodes."""
    stacked = {key: np.stack([e[key] for e in episodes]) for key in episodes[0]}  # [E, ...]
    count = stacked["count"].sum(axis=0)
    shares = stacked["count"] / count
    shares = shares.reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (stacked["mean"] * shares).sum(axis=0)
    spread = np.square(stacked["std"]) + np.square(stacked["mean"] - mean)
    merged = {"mean": mean, "std": np.sqrt((spread * shares).sum(axis=0)), "count": count}
    for key in ("min", *(q for q, share in _QUANTILES.items() if share <= 0.5)):
        merged[key] = stacked[key].min(axis=0)
    for key in ("max", *(q for q, share in _QUANTILES.items() if share > 0.5)):
        merged[key] = stacked[key].max(axis=0)
    return merged
