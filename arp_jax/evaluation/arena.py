"""An arena: an environment in one engine, ready to be evaluated, with its camera and its classes.

Rollout, report and video stay free of any task: whatever they need to know of one is here. Built
from names by `environments.py`; the makers are `mujoco_arena.py` and `push_t_arena.py`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.evaluation.controllers import Controller, MemoryController
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.protocol import Progress, RolloutConfig
from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.task import Factor
from arp_jax.specs import ActionSpec, ObservationSpec

# (parameters, progress bar) -> results.
Run = Callable[[Any, Progress], EpisodeResults]


class MakeRollout(Protocol):
    """Prepares the evaluation of one controller."""

    def __call__(
        self,
        controller: Controller | MemoryController,
        config: RolloutConfig,
        initial: np.ndarray | None,
        film: bool,
    ) -> Run:
        """See `Rollout`; with `film`, what `Arena.render` needs is recorded."""
        ...


@dataclasses.dataclass(frozen=True)
class Arena:
    """An environment that can be evaluated and filmed.

    Attributes:
        name, observation_spec, action_spec, max_episode_steps: of the environment.
        engine: what steps it.
        make_rollout: prepares an evaluation in this engine.
        render: ({name: [T, ...]} recorded frames, initial condition) -> uint8 [T, h, w, 3]; None
            where nothing can be filmed.
        film_every: control steps between two pictures of a video.
        sub_goals: what reward >= 1, 2, ... means; empty when rewards are not stages.
        factors: by which results are broken down.
        public_initial_conditions: integer seeds -> [N, ...], the public benchmark's draws, or None.
        make_expert: its scripted expert, or None.
    """

    name: str
    engine: str
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    max_episode_steps: int
    make_rollout: MakeRollout
    render: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray] | None = None
    film_every: int = 1
    sub_goals: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()
    public_initial_conditions: Callable[[Iterable[int]], np.ndarray] | None = None
    make_expert: Callable[[], Expert] | None = None

    @property
    def film_rate_hz(self) -> float:
        """Pictures a second at the robot's own speed."""
        return self.action_spec.rate_hz / self.film_every

    def classified(self, results: EpisodeResults) -> EpisodeResults:
        """The results with each episode's classes and the names of the sub-goals."""
        if not results.initial.size:
            # An environment that hides its starts.
            return dataclasses.replace(results, sub_goals=self.sub_goals)
        initial = jnp.asarray(results.initial)
        classes = {
            f.name: np.asarray(jax.vmap(f.classify)(initial), np.int32) for f in self.factors
        }
        names = {factor.name: factor.values for factor in self.factors}
        return dataclasses.replace(
            results, sub_goals=self.sub_goals, classes=classes, class_names=names
        )

    def film(self, results: EpisodeResults, row: int) -> np.ndarray:
        """Pictures uint8 [T, h, w, 3] of one recorded episode, first and last one included."""
        if self.render is None:
            raise ValueError(f"{self.name} cannot be filmed")
        (frames,) = results.frames([row])
        last = len(next(iter(frames.values()))) - 1
        shown = np.unique([*range(0, last, self.film_every), last])
        return self.render({k: values[shown] for k, values in frames.items()}, results.initial[row])
