"""A shuffle buffer of training windows whose size is counted in bytes.

Flows in: canonical episodes with encoded pictures. Flows out: windows in random order, each once.
A picture is held once however many windows show it, and let go with the last of them; so `nbytes`
is what the held pictures and vectors take. Reading episodes and decoding is `stream.py`'s business.
"""

import dataclasses
from typing import Any

import numpy as np

from arp_jax.data.windows import WindowTable


@dataclasses.dataclass
class Window:
    """One training example as it is stored: W observations and H actions.

    Attributes:
        vectors: {name: float32 [W, D]}.
        pictures: {name: W pictures, encoded (bytes) or uint8 [height, width, 3]}.
        action: float32 [H, A].
        action_is_pad: bool [H].
    """

    vectors: dict[str, np.ndarray]
    pictures: dict[str, list[Any]]
    action: np.ndarray
    action_is_pad: np.ndarray


class _Held:
    """An episode of which windows are left."""

    def __init__(self, episode: dict[str, Any], table: WindowTable) -> None:
        observation = episode["observation"]
        self.table, self.action = table, episode["action"]
        self.vectors = {n: v for n, v in observation.items() if not _is_picture(v)}
        # Copies of single frames: a row of an array would keep the whole array alive.
        self.pictures: dict[str, list[Any]] = {
            n: [f if isinstance(f, bytes) else f.copy() for f in v]
            for n, v in observation.items()
            if _is_picture(v)
        }
        self.left = len(table)
        shown = table.observation_steps(np.arange(len(table)))  # [N, W]
        steps = len(self.action)
        # How many places of windows left show a step, and the bytes of its pictures.
        self.shown = np.bincount(shown.ravel(), minlength=steps)
        self.sizes = np.zeros(steps, np.int64)
        for frames in self.pictures.values():
            for step in range(steps):
                if self.shown[step]:
                    frame = frames[step]
                    self.sizes[step] += len(frame) if isinstance(frame, bytes) else frame.nbytes
                else:
                    frames[step] = None
        self.vector_bytes = self.action.nbytes + sum(v.nbytes for v in self.vectors.values())

    def window(self, row: int) -> Window:
        ids = np.array([row])
        steps = self.table.observation_steps(ids)[0]  # [W]
        return Window(
            {name: values[steps] for name, values in self.vectors.items()},
            {name: [frames[step] for step in steps] for name, frames in self.pictures.items()},
            self.action[self.table.action_steps(ids)[0]],
            self.table.action_is_pad(ids)[0],
        )

    def release(self, row: int) -> int:
        """Lets go of what only this window needed; returns the bytes."""
        self.left -= 1
        freed = 0
        for step in self.table.observation_steps(np.array([row]))[0]:
            self.shown[step] -= 1
            if self.shown[step] == 0:
                freed += int(self.sizes[step])
                for frames in self.pictures.values():
                    frames[step] = None
        return freed + (self.vector_bytes if self.left == 0 else 0)


class WindowBuffer:
    """Windows waiting to be drawn.

    Attributes:
        nbytes: bytes of pictures and vectors held.
        episodes: episodes of which windows are held.
    """

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.nbytes = 0
        self.episodes = 0
        self._rng = np.random.default_rng(seed)
        self._waiting: list[tuple[_Held, int]] = []

    def __len__(self) -> int:
        """Windows waiting."""
        return len(self._waiting)

    def add(self, episode: dict[str, Any], table: WindowTable) -> None:
        """Takes in all windows of one episode.

        Args:
            episode: canonical, pictures as object arrays [T] of bytes or uint8 [T, H, W, 3].
            table: its windows, made of this episode's length alone.
        """
        held = _Held(episode, table)
        self.nbytes += int(held.sizes.sum()) + held.vector_bytes
        self.episodes += 1
        self._waiting.extend((held, row) for row in range(len(table)))

    def draw(self) -> Window:
        """Takes out one window, each equally likely; raises IndexError when there is none."""
        if not self._waiting:
            raise IndexError("the buffer is empty")
        place = int(self._rng.integers(len(self._waiting)))
        held, row = self._waiting[place]
        self._waiting[place] = self._waiting[-1]
        self._waiting.pop()
        window = held.window(row)
        self.nbytes -= held.release(row)
        self.episodes -= held.left == 0
        return window


def _is_picture(values: np.ndarray) -> bool:
    """Whether an observation [T, ...] is a camera's."""
    return values.dtype == object or values.ndim == 4
