"""Which steps make a training example: pure integer maths, vectorised over examples.

Flows in: episode lengths, the window W, the horizon H. Flows out: for any batch of example ids the
absolute step indices of W observations and H actions, with flags for positions outside the episode
and for actions at or behind a goal. Not here: reading steps (`store.py`), the order of examples
(`loader.py`), the choice of goals (`goals.py`).

An example belongs to one current step t of one episode; time runs to the right:

    observations      t-W+1 ... t                      W steps, the newest last
    actions      t+offset ... t ... t+offset+H-1       H steps, offset <= 0

Positions before the first or after the last step repeat that edge step and are flagged as padding.
A chunk that starts at slot w of the window (offset = w - (W-1)) holds at index h the action of time
t - W + 1 + w + h.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class WindowTable:
    """Training examples of a set of episodes; every array is int64 [N], one entry an example.

    Attributes:
        episode: the episode that the example is taken from.
        step: the current step t within that episode.
        first: absolute index of the episode's first step.
        last: absolute index of the episode's last step.
        window, horizon, action_offset: as in `PolicySpec`.
    """

    episode: np.ndarray
    step: np.ndarray
    first: np.ndarray
    last: np.ndarray
    window: int
    horizon: int
    action_offset: int

    def __len__(self) -> int:
        return len(self.step)

    def current_steps(self, ids: np.ndarray) -> np.ndarray:
        """Absolute indices [B] of the current steps t of examples `ids` [B]."""
        return self.first[ids] + self.step[ids]

    def observation_steps(self, ids: np.ndarray) -> np.ndarray:
        """Absolute step indices [B, W] of the observations of examples `ids` [B]."""
        return self._clipped(ids, self._observation_times())

    def observation_is_pad(self, ids: np.ndarray) -> np.ndarray:
        """Bool [B, W]: True where the window reaches before the episode's first step."""
        return self._outside(ids, self._observation_times())

    def action_steps(self, ids: np.ndarray) -> np.ndarray:
        """Absolute step indices [B, H] of the actions of examples `ids` [B]."""
        return self._clipped(ids, self._action_times())

    def action_is_pad(self, ids: np.ndarray) -> np.ndarray:
        """Bool [B, H]: True where the chunk reaches outside the episode."""
        return self._outside(ids, self._action_times())

    def action_is_past_goal(self, ids: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Bool [B, H]: True for actions at or behind the goal.

        Args:
            ids: examples [B].
            goals: absolute step indices [B] (see `goals.py`). An action of the goal's own time is
                past it: what the goal shows is reached by the actions before.
        """
        return self._absolute(ids, self._action_times()) >= goals[:, None]

    def _observation_times(self) -> np.ndarray:
        return np.arange(1 - self.window, 1)

    def _action_times(self) -> np.ndarray:
        return self.action_offset + np.arange(self.horizon)

    def _absolute(self, ids: np.ndarray, times: np.ndarray) -> np.ndarray:
        return self.current_steps(ids)[:, None] + times  # [B, len(times)]

    def _clipped(self, ids: np.ndarray, times: np.ndarray) -> np.ndarray:
        first, last = self.first[ids][:, None], self.last[ids][:, None]
        return np.minimum(np.maximum(self._absolute(ids, times), first), last)

    def _outside(self, ids: np.ndarray, times: np.ndarray) -> np.ndarray:
        steps = self._absolute(ids, times)
        return (steps < self.first[ids][:, None]) | (steps > self.last[ids][:, None])


def window_table(
    episode_lengths: Sequence[int] | np.ndarray,
    window: int,
    horizon: int,
    action_offset: int = 0,
    pad_after: int | None = None,
    episodes: Iterable[int] | None = None,
    stride: int = 1,
) -> WindowTable:
    """Enumerates the training examples, episode by episode, step by step.

    Args:
        episode_lengths: number of steps of every episode of the store, each >= 1.
        window: W >= 1.
        horizon: H >= 1.
        action_offset: time of the chunk's first action relative to t, -(H-1) .. 0.
        pad_after: at most this many actions of a chunk may lie after the episode's end, 0 .. H-1.
            None is H-1: every step starts an example. Published ARP on Push-T: W=2, H=16,
            action_offset=-1, pad_after=7, which gives the L-7 examples t = 0 .. L-8 an episode.
        episodes: ids of the episodes to use, in this order; None uses all.
        stride: every stride-th step of an episode is the current step of an example: t = 0,
            stride, 2 stride, ...; the steps inside an example stay one apart.

    Returns:
        The table. Before the first step there is no limit: t = 0 is always the first candidate.

    Raises:
        ValueError: an argument is out of range, or no episode is long enough for one example.
    """
    lengths = np.asarray(episode_lengths, np.int64)
    _check_arguments(lengths, window, horizon, action_offset, stride)
    pad_after = horizon - 1 if pad_after is None else pad_after
    if not 0 <= pad_after < horizon:
        raise ValueError(f"pad_after must be in 0 .. horizon-1 = {horizon - 1}, found {pad_after}")
    chosen = _check_episodes(len(lengths), episodes)

    first = np.cumsum(lengths) - lengths  # [E]
    # The chunk's last action, t + offset + H - 1, may be pad_after steps behind L - 1.
    starts = np.clip(lengths + pad_after - horizon - action_offset + 1, 0, lengths)[chosen]
    if starts.sum() == 0:
        raise ValueError(
            f"no episode has room for horizon {horizon} with pad_after {pad_after}: the longest "
            f"has {lengths[chosen].max()} steps; raise pad_after or shorten the horizon"
        )
    starts = -(-starts // stride)
    episode = np.repeat(chosen, starts)
    step = np.arange(len(episode)) - np.repeat(np.cumsum(starts) - starts, starts)
    return WindowTable(
        episode=episode,
        step=step * stride,
        first=first[episode],
        last=(first + lengths - 1)[episode],
        window=window,
        horizon=horizon,
        action_offset=action_offset,
    )


def _check_arguments(
    lengths: np.ndarray, window: int, horizon: int, action_offset: int, stride: int
) -> None:
    if window < 1 or horizon < 1 or stride < 1:
        raise ValueError(
            f"window, horizon and stride must be >= 1, found {window}, {horizon}, {stride}"
        )
    if not -horizon < action_offset <= 0:
        raise ValueError(
            f"action_offset must be in -(horizon-1) .. 0 = {1 - horizon} .. 0, "
            f"found {action_offset}"
        )
    if lengths.ndim != 1 or len(lengths) == 0:
        raise ValueError("episode_lengths is empty: the dataset has no episodes")
    if (lengths < 1).any():
        raise ValueError(f"episode {int(np.argmax(lengths < 1))} has no steps")


def _check_episodes(count: int, episodes: Iterable[int] | None) -> np.ndarray:
    """Episode ids as int64 [E']; raises ValueError naming one that does not exist."""
    if episodes is None:
        return np.arange(count)
    chosen = np.asarray(list(episodes), np.int64)
    if len(chosen) == 0:
        raise ValueError("episodes is empty: choose at least one episode")
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if len(wrong):
        raise ValueError(f"episode {wrong[0]} does not exist: the store has 0 .. {count - 1}")
    return chosen
