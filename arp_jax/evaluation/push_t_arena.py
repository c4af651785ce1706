"""Push-T as an arena: this library's own environment in its engines, drawn by its rasteriser."""

import functools
from typing import Any

import jax
import numpy as np

from arp_jax.evaluation.arena import Arena, Run
from arp_jax.evaluation.controllers import Controller, MemoryController
from arp_jax.evaluation.protocol import RolloutConfig
from arp_jax.evaluation.rollout import Rollout
from arp_jax.sim.areas import quadrant_factor
from arp_jax.sim.push_t import raster, reset_laws
from arp_jax.sim.push_t.env import ENGINES, PushT, load_engine

# Where the block begins; y points down in the picture.
QUADRANT = quadrant_factor(
    lambda initial: initial[2:4],
    (256.0, 256.0),
    ("upper left", "upper right", "lower left", "lower right"),
    name="block quadrant",
)


def push_t_arena(observations: tuple[str, ...], engine: str, reset_law: str) -> Arena:
    """Builds the arena; raises ValueError for an unknown observation, engine or reset law."""
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine} does not run push_t; choose one of {sorted(ENGINES)}")
    env = PushT(observations=observations, engine=engine, reset_law=reset_law)

    def record(state: Any) -> dict[str, jax.Array]:
        agent, block = load_engine(engine).pose(state.physics)
        return {"agent": agent, "block": block}

    def make_rollout(
        controller: Controller | MemoryController,
        config: RolloutConfig,
        initial: np.ndarray | None,
        film: bool,
    ) -> Run:
        return Rollout(env, controller, config, initial=initial, record=record if film else None)

    return Arena(
        name=env.name,
        engine=engine,
        observation_spec=env.observation_spec,
        action_spec=env.action_spec,
        max_episode_steps=env.max_episode_steps,
        make_rollout=make_rollout,
        render=_render,
        factors=(QUADRANT,),
        public_initial_conditions=reset_laws.PUBLIC_LAWS[reset_law],
    )


@functools.cache
def _draw() -> Any:
    return jax.jit(lambda agent, block: jax.lax.map(lambda x: raster.render(*x), (agent, block)))


def _render(frames: dict[str, np.ndarray], initial: np.ndarray) -> np.ndarray:
    """{agent [T, 2], block [T, 3]} px -> uint8 [T, 192, 192, 3]."""
    del initial
    length = len(frames["agent"])
    # Padded to a few fixed lengths, so that clips share compiled programs.
    padding = -length % 64
    padded = [np.pad(frames[k], ((0, padding), (0, 0)), "edge") for k in ("agent", "block")]
    images = np.asarray(_draw()(*padded))[:length]
    return images.repeat(2, axis=1).repeat(2, axis=2)  # 96 -> 192 px, easier to watch
