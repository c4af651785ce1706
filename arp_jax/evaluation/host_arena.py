"""Third-party gymnasium environments as arenas: stepped on the host, here or in worker processes.

Flows in: a gymnasium id and what the policy looks at. Flows out: an `Arena` without pictures. Where
we know how the environment draws its starts from a seed, the starts are recorded with the results,
so that they can be broken down, and compared episode by episode with those of our twin of the
environment (`--public_seeds`).
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from arp_jax.evaluation.arena import Arena, Run
from arp_jax.evaluation.controllers import Controller, MemoryController
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.host_rollout import host_rollout
from arp_jax.evaluation.protocol import Progress, RolloutConfig
from arp_jax.sim import gym_adapter
from arp_jax.sim.task import Factor

HOST = "host"
Starts = Callable[[Iterable[int]], np.ndarray]


def host_arena(
    name: str, observations: tuple[str, ...] | None, reset_law: str, workers: int
) -> Arena:
    """Builds the arena of a gymnasium id.

    Args:
        name: the id.
        observations: names out of the environment's spec; None for its usual ones.
        reset_law: what a seed means in gym-pusht.
        workers: processes that step the environments; 0 for none but this one.

    Raises:
        ValueError: unknown id, observation or reset law.
        ImportError: its package is not installed.
    """
    make_env = functools.partial(gym_adapter.make_host_environment, name, observations, reset_law)
    env = make_env()
    starts, sub_goals, factors = _known(name, reset_law)

    def make_rollout(
        controller: Controller | MemoryController,
        config: RolloutConfig,
        initial: np.ndarray | None,
        film: bool,
    ) -> Run:
        del film
        if initial is None and starts is not None:
            initial = starts(range(config.seed, config.seed + config.episodes))

        def run(params: Any, progress: Progress) -> EpisodeResults:
            return host_rollout(
                make_env,
                controller,
                params,
                config,
                config.seed,
                progress,
                workers=workers,
                initial=initial,
            )

        return run

    return Arena(
        name=name,
        engine=HOST,
        observation_spec=env.observation_spec,
        action_spec=env.action_spec,
        max_episode_steps=env.max_episode_steps,
        make_rollout=make_rollout,
        sub_goals=sub_goals,
        factors=factors,
        public_initial_conditions=starts,
    )


def _known(name: str, reset_law: str) -> tuple[Starts | None, tuple[str, ...], tuple[Factor, ...]]:
    """Starts of integer seeds, sub-goals and factors of an environment that we have a twin of."""
    if name == gym_adapter.GYM_PUSHT:
        from arp_jax.evaluation.push_t_arena import QUADRANT
        from arp_jax.sim.push_t.reset_laws import PUBLIC_LAWS

        return PUBLIC_LAWS[reset_law], (), (QUADRANT,)
    if name in gym_adapter.GYM_ALOHA:
        from arp_jax.sim.gym_aloha_env import initial_conditions
        from arp_jax.sim.tasks import make_task

        task = make_task(gym_adapter.GYM_ALOHA[name])
        return functools.partial(initial_conditions, task.name), task.sub_goals, task.factors
    return None, (), ()
