"""What a batch says about the task: a goal and an instruction for each example.

Flows in: a `Pack`, windows, which examples. Flows out: {"task": {"goal": {name: [B, ...]},
"language": int32 [B], "language_embedding": [B, D]}, "action_is_past_goal": bool [B, H]}, as far as
it was asked for. Goals are observations of a later step of the same episode, normalised like the
others; an instruction is an index into the pack's list, -1 for none. Which step and which sentence
is drawn in `goals.py` and `language.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.goals import GOALS, goal_steps
from arp_jax.data.language import NONE, EpisodeInstructions
from arp_jax.data.store import Pack
from arp_jax.data.windows import WindowTable
from arp_jax.normalize import Affine, normalize_observation

EMBEDDING = "language_embedding"


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What batches say about the task; the default says nothing.

    Attributes:
        goal: "uniform" or "hindsight" (see `goals.GOALS`); "" gives no goals.
        language: give the index of an instruction and, where stored, its embedding.
        language_dropout: probability with which an example goes without its instruction.
    """

    goal: str = ""
    language: bool = False
    language_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.goal and self.goal not in GOALS:
            raise ValueError(f"goal {self.goal!r} is unknown; choose one of {GOALS} or ''")
        if not 0 <= self.language_dropout <= 1:
            raise ValueError(f"language_dropout must be in 0 .. 1, found {self.language_dropout}")


class TaskReader:
    """Reads the task of examples of one pack."""

    def __init__(
        self,
        pack: Pack,
        config: TaskConfig,
        observations: Sequence[str],
        normalizer: Mapping[str, Affine],
        seed: int,
        instructions: Sequence[str] | None = None,
        embedding: bool = True,
    ) -> None:
        """Prepares the draws.

        Args:
            pack: the step store.
            config: what is asked for.
            observations: names that a goal shows.
            normalizer: maps of the vectors among them.
            seed: of the draws.
            instructions: the list that indices point into; None is the pack's own.
            embedding: give the instruction's vector, where the pack stores it.

        Raises:
            ValueError: language is asked for and there is none.
        """
        self._pack, self._config, self._seed = pack, config, seed
        self._observations, self._normalizer = tuple(observations), normalizer
        self._embedding = embedding and EMBEDDING in pack.shapes
        self._language: EpisodeInstructions | None = None
        if config.language:
            listed = pack.instructions if instructions is None else instructions
            if not listed:
                raise ValueError(
                    f"{pack.directory}: no episode has an instruction; set data.language to False"
                )
            position = {text: index for index, text in enumerate(listed)}
            own = [position[text] for text in pack.instructions]
            self._language = EpisodeInstructions(
                [[own[index] for index in choices] for choices in pack.episode_language]
            )

    def read(self, table: WindowTable, epochs: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
        """Entries of the batch for examples `ids` [B] of `epochs` [B]; {} when nothing is asked."""
        entries: dict[str, Any] = {}
        task: dict[str, Any] = {}
        if self._config.goal:
            current, last = table.current_steps(ids), table.last[ids]
            goals = goal_steps(self._config.goal, current, last, self._seed, epochs, ids)
            shown = self._pack.read_steps(goals, self._observations)
            task["goal"] = normalize_observation(shown, self._normalizer)
            entries["action_is_past_goal"] = table.action_is_past_goal(ids, goals)
        if self._language is not None:
            dropout = self._config.language_dropout
            episodes = table.episode[ids]
            chosen = self._language.choose(episodes, self._seed, epochs, ids, dropout)
            task["language"] = chosen
            if self._embedding:
                stored = self._pack.read_steps(table.current_steps(ids), [EMBEDDING])[EMBEDDING]
                stored[chosen == NONE] = 0
                task[EMBEDDING] = stored
        if task:
            entries["task"] = task
        return entries
