"""A shuffle buffer of training windows whose size is counted in bytes.

Flows in: canonical episodes with encoded pictures. Flows out: windows in random order, each once.
A picture is held once however many windows show it, and let go with the last of them; so `nbytes`
is what the held pictures and vectors take. Reading episodes and decoding is `stream.py`'s business.
"""

import dataclasses
from typing import Any

import numpy as np

from arp_jax.data.task import EMBEDDING
from arp_jax.data.windows import WindowTable


@dataclasses.dataclass
class Shown:
    """Observations of n steps as they are stored.

    Attributes:
        where: file and episode, for messages.
        steps: their numbers in the episode, int64 [n].
        vectors: {name: float32 [n, D]}.
        pictures: {name: n pictures, encoded (bytes) or uint8 [height, width, 3]}.
    """

    where: str
    steps: np.ndarray
    vectors: dict[str, np.ndarray]
    pictures: dict[str, list[Any]]


@dataclasses.dataclass
class Window:
    """One training example.

    Attributes:
        observation: of W steps.
        action: float32 [H, A].
        action_is_pad: bool [H].
        goal, action_is_past_goal: observation of the goal (n = 1) and bool [H]; None without goals.
        embedding: float32 [D], the instruction's vector; None where the episode has none stored.
    """

    observation: Shown
    action: np.ndarray
    action_is_pad: np.ndarray
    goal: Shown | None
    action_is_past_goal: Any
    embedding: Any


class _Held:
    """An episode of which windows are left."""

    def __init__(
        self,
        episode: dict[str, Any],
        table: WindowTable,
        goals: np.ndarray | None,
        dropped: np.ndarray | None,
        where: str,
    ) -> None:
        observation = episode["observation"]
        self.action, self._where = episode["action"], where
        self._table, self._goals, self._dropped = table, goals, dropped
        self.vectors = {n: v for n, v in observation.items() if not _is_picture(v)}
        # Copies of single frames: a row of an array would keep the whole array alive.
        self.pictures: dict[str, list[Any]] = {
            n: [f if isinstance(f, bytes) else f.copy() for f in v]
            for n, v in observation.items()
            if _is_picture(v)
        }
        self.left = len(table)
        steps = len(self.action)
        # How many places of windows left show a step, and the bytes of its pictures.
        needed = self._needed(np.arange(len(table)))
        self._uses = np.bincount(needed.ravel(), minlength=steps)
        self._sizes = np.zeros(steps, np.int64)
        for frames in self.pictures.values():
            for step in range(steps):
                if self._uses[step]:
                    frame = frames[step]
                    self._sizes[step] += len(frame) if isinstance(frame, bytes) else frame.nbytes
                else:
                    frames[step] = None
        self._vector_bytes = self.action.nbytes + sum(v.nbytes for v in self.vectors.values())
        self.nbytes = int(self._sizes.sum()) + self._vector_bytes

    def window(self, row: int) -> Window:
        ids = np.array([row])
        goal = past = embedding = None
        if self._goals is not None:
            goal = self._shown(self._goals[ids])
            past = self._table.action_is_past_goal(ids, self._goals[ids])[0]
        if self._dropped is not None:
            embedding = self.vectors[EMBEDDING][self._table.current_steps(ids)[0]]
            embedding = np.where(self._dropped[row], 0, embedding).astype(np.float32)
        return Window(
            self._shown(self._table.observation_steps(ids)[0]),
            self.action[self._table.action_steps(ids)[0]],
            self._table.action_is_pad(ids)[0],
            goal,
            past,
            embedding,
        )

    def release(self, row: int) -> int:
        """Lets go of what only this window needed; returns the bytes."""
        self.left -= 1
        freed = 0
        for step in self._needed(np.array([row])).ravel():
            self._uses[step] -= 1
            if self._uses[step] == 0:
                freed += int(self._sizes[step])
                for frames in self.pictures.values():
                    frames[step] = None
        return freed + (self._vector_bytes if self.left == 0 else 0)

    def _needed(self, rows: np.ndarray) -> np.ndarray:
        """Steps whose pictures the windows show, [n, W] or with the goal [n, W + 1]."""
        steps = self._table.observation_steps(rows)
        return steps if self._goals is None else np.column_stack([steps, self._goals[rows]])

    def _shown(self, steps: np.ndarray) -> Shown:
        return Shown(
            self._where,
            steps,
            {name: values[steps] for name, values in self.vectors.items()},
            {name: [frames[step] for step in steps] for name, frames in self.pictures.items()},
        )


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

    def add(
        self,
        episode: dict[str, Any],
        table: WindowTable,
        goals: np.ndarray | None = None,
        dropped: np.ndarray | None = None,
        where: str = "",
    ) -> None:
        """Takes in all windows of one episode.

        Args:
            episode: canonical, pictures as object arrays [T] of bytes or uint8 [T, H, W, 3].
            table: its N windows, made of this episode's length alone.
            goals: the step that is each window's goal, int64 [N]; None gives no goals.
            dropped: windows that go without their instruction, bool [N]; None gives no vectors of
                instructions.
            where: file and episode, for messages.
        """
        held = _Held(episode, table, goals, dropped, where)
        self.nbytes += held.nbytes
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
