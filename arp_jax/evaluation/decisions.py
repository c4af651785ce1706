"""What a controller is asked: the observations of one episode when new actions are due.

Flows in: histories, ids and the step of a batch of episodes, as a rollout holds them. Flows out: a
batched `Decision`, with the noise that belongs to (evaluation seed, episode id, step). The compiled
rollout, the native one and the one on the host all ask by this file. Decides nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from arp_jax.evaluation.protocol import NOISE_STREAM, episode_keys


@struct.dataclass
class Decision:
    """What one episode offers when a new chunk is due; no batch axis.

    Attributes:
        observation: {name: [W, ...]}, physical units, newest last.
        rng: key of this (evaluation seed, episode, step).
        step: int32 [], executed actions so far.
        episode: int32 [], episode id.
        initial, readings: the episode's initial condition and the engine's readings of now
            (sim/task.py), for experts; None where the environment has none. A policy reads neither.
    """

    observation: dict[str, jax.Array]
    rng: jax.Array
    step: jax.Array
    episode: jax.Array
    initial: jax.Array | None = None
    readings: dict[str, jax.Array] | None = None


def batch_decisions(
    seed: int,
    episodes: jax.Array,
    step: jax.Array,
    observation: dict[str, jax.Array],
    initial: jax.Array | None = None,
    readings: Any = None,
) -> Decision:
    """The decisions of E episodes at one step; every leaf of the result has a leading axis E.

    Args:
        seed: evaluation seed.
        episodes: int [E], episode ids.
        step: int [], executed actions so far.
        observation: {name: [E, W, ...]}.
        initial, readings: as in `Decision`, with a leading axis E.
    """
    keys = episode_keys(seed, episodes, NOISE_STREAM)
    return Decision(
        observation=observation,
        rng=jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step),
        step=jnp.broadcast_to(step, episodes.shape),
        episode=episodes,
        initial=initial,
        readings=readings,
    )
