"""TFDS builder: Push-T demonstrations planned in our own simulator, as RLDS; needs no download.

In: number of episodes and a seed. Out: one RLDS episode per *successful* plan, in the order of the
planner's seeds 0, 1, 2, ..., so that the first episodes of a larger build are those of a smaller
one. State observations only, unless images are asked for. Run `build.py`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from arp_jax.data import episode_rlds, push_t_rlds, rlds_build
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.sim.experts.push_t_planner import Demonstration, PlannerConfig, plan_demonstrations
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC, observe

Planner = Callable[[Sequence[int], PlannerConfig, bool], list[Demonstration]]

# Give up when fewer than one plan in this many succeeds: something is broken then.
_MAX_TRIES_PER_EPISODE = 8
# Frames drawn by one call, so that one compiled program serves every episode length.
_FRAMES = 64

_DESCRIPTION = """\
Push-T demonstrations by a sampling planner in arp_jax's exact simulator: every episode covers more
than 95 % of the goal. Speed and action noise vary from episode to episode. Positions are pixels of
a 512x512 world, y down; the action is the pusher's absolute target at 10 Hz. reward =
clip(coverage / 0.95, 0, 1) after the action; the last step is terminal.
"""
_CITATION = """\
@misc{arp_jax_push_t_planned,
  title={Push-T demonstrations planned in the arp_jax simulator},
  author={{The arp\\_jax authors}}
}
"""
_LICENSE = "Apache License 2.0, the arp_jax authors"


class PushTPlanned(tfds.core.GeneratorBasedBuilder):
    """Planned Push-T demonstrations.

    Args:
        episodes: number of successful demonstrations N.
        seed: of all random numbers.
        images: whether steps have the 96x96 image.
        planner: makes demonstrations from seeds.
        **kwargs: of the TFDS builder, above all data_dir.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - TFDS's interface

    def __init__(
        self,
        *,
        episodes: int = 1,
        seed: int = 0,
        images: bool = False,
        planner: Planner = plan_demonstrations,
        **kwargs: Any,
    ) -> None:
        if episodes < 1:
            raise ValueError(f"--episodes must be at least 1, found {episodes}")
        self._episodes, self._seed, self._planner = episodes, seed, planner
        names = OBSERVATION_SPEC.names
        self._spec = OBSERVATION_SPEC.select(n for n in names if images or n != "image")
        super().__init__(file_format="array_record", **kwargs)

    @property
    def arguments(self) -> dict[str, Any]:
        """What determines the result, for build.json."""
        observations = list(self._spec.names)
        return {"episodes": self._episodes, "seed": self._seed, "observations": observations}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=push_t_rlds.push_t_features(self._spec, ACTION_SPEC, recorded=False),
            citation=_CITATION,
            license=_LICENSE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        specs = DatasetSpecs(self._spec, ACTION_SPEC)
        rlds_build.write_sidecars(Path(self.data_dir), specs, self.arguments)
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        demonstrations = plan_successes(self._episodes, self._seed, self._planner)
        for demonstration in tqdm(demonstrations, desc="push_t_planned", unit="episode"):
            yield demonstration.seed, _example(demonstration, self._spec.names)


def plan_successes(episodes: int, seed: int, planner: Planner) -> list[Demonstration]:
    """The first `episodes` successful demonstrations, in the order of the planner's seeds.

    Raises:
        ValueError: when almost no plan succeeds.
    """
    config = PlannerConfig(seed=seed)
    successes: list[Demonstration] = []
    tried = 0
    while len(successes) < episodes:
        if tried >= _MAX_TRIES_PER_EPISODE * episodes:
            raise ValueError(
                f"push_t_planned: {len(successes)} of {tried} plans succeeded, {episodes} wanted; "
                "the planner or the simulator is broken (run their tests)"
            )
        missing = episodes - len(successes)
        demonstrations = planner(range(tried, tried + missing), config, True)
        successes += [d for d in demonstrations if d.success]
        tried += missing
    return successes


def _example(demonstration: Demonstration, names: tuple[str, ...]) -> dict[str, Any]:
    return episode_rlds.episode_example(
        observation=_observe(demonstration, names),
        action=demonstration.actions,
        reward=np.clip(demonstration.coverage / geometry.SUCCESS_COVERAGE, 0.0, 1.0),
        success=demonstration.success,
        metadata={
            "episode_id": demonstration.seed,
            "max_coverage": demonstration.coverage.max(),
            "initial": demonstration.initial,
        },
    )


def _observe(demonstration: Demonstration, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Observations [T, ...] of a demonstration, computed in blocks of `_FRAMES` frames."""
    total = len(demonstration.actions)
    pad = -total % _FRAMES
    agent = np.pad(demonstration.agent_pos, ((0, pad), (0, 0)), mode="edge")
    block = np.pad(demonstration.block_pose, ((0, pad), (0, 0)), mode="edge")
    blocks = [
        _observe_block(agent[i : i + _FRAMES], block[i : i + _FRAMES], names)
        for i in range(0, total, _FRAMES)
    ]
    return {name: np.concatenate([b[name] for b in blocks])[:total] for name in names}


@functools.partial(jax.jit, static_argnums=2)
def _observe_block(agent: jax.Array, block: jax.Array, names: tuple[str, ...]) -> dict[str, Any]:
    return observe(agent, block, names)
