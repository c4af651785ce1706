"""The two public laws for Push-T's initial conditions, and their JAX twins.

Seeds (host) or keys (device) flow in, raw draws [5] flow out: agent x, y, block x, y (px), angle
(rad), to be given to an engine's `reset`. The *legacy* law is that of Diffusion Policy, ARP and
gym-pusht up to 0.1.6; the *current* one is gym-pusht 0.1.8's. The same seed means different
episodes under each, and scores under the two laws are not comparable.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.push_t import geometry

RESET_LAWS = ("legacy", "current")
AGENT_RANGE = (50, 450)  # px, integers, upper bound excluded
BLOCK_RANGE = (100, 400)


def legacy_initial_conditions(seeds: Iterable[int]) -> np.ndarray:
    """Draws of `np.random.RandomState(seed)` as in Diffusion Policy's `PushTEnv.reset`.

    Args:
        seeds: one non-negative integer per episode; published results use 100000, 100001, ...

    Returns:
        float32 [N, 5].
    """

    def draw(seed: int) -> list[float]:
        rng = np.random.RandomState(seed)
        return [
            rng.randint(*AGENT_RANGE),
            rng.randint(*AGENT_RANGE),
            rng.randint(*BLOCK_RANGE),
            rng.randint(*BLOCK_RANGE),
            rng.randn() * 2 * np.pi - np.pi,
        ]

    return np.array([draw(seed) for seed in seeds], np.float32).reshape(-1, 5)


def current_initial_conditions(seeds: Iterable[int]) -> np.ndarray:
    """Draws of gym-pusht 0.1.8's `env.reset(seed=seed)`.

    Args:
        seeds: one non-negative integer per episode.

    Returns:
        float32 [N, 5].
    """

    def draw(seed: int) -> list[float]:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        return [
            float(rng.integers(*AGENT_RANGE)),
            float(rng.integers(*AGENT_RANGE)),
            float(rng.integers(*BLOCK_RANGE)),
            float(rng.integers(*BLOCK_RANGE)),
            rng.uniform(-np.pi, np.pi),
        ]

    return np.array([draw(seed) for seed in seeds], np.float32).reshape(-1, 5)


# What an integer seed means in gym-pusht: law -> (seeds -> raw initial conditions [N, 5]).
PUBLIC_LAWS = {"legacy": legacy_initial_conditions, "current": current_initial_conditions}


def sample_initial_condition(rng: Array, law: str) -> Array:
    """Draws from the same distribution as the host-side law, from a JAX key.

    Args:
        rng: a JAX PRNG key.
        law: "legacy" or "current".

    Returns:
        float32 [5].

    Raises:
        ValueError: for an unknown law.
    """
    check_law(law)
    agent_rng, block_rng, angle_rng = jax.random.split(rng, 3)
    agent = jax.random.randint(agent_rng, (2,), *AGENT_RANGE)
    block = jax.random.randint(block_rng, (2,), *BLOCK_RANGE)
    if law == "legacy":
        angle = jax.random.normal(angle_rng, (1,), jnp.float32) * 2 * jnp.pi - jnp.pi
    else:
        angle = jax.random.uniform(angle_rng, (1,), jnp.float32, -jnp.pi, jnp.pi)
    return jnp.concatenate([agent, block, angle]).astype(jnp.float32)


def check_law(law: str) -> None:
    """Raises ValueError when `law` is not one of `RESET_LAWS`."""
    if law not in RESET_LAWS:
        raise ValueError(f"reset_law={law!r} is unknown; choose one of {list(RESET_LAWS)}")


def initial_from_pose(agent: ArrayLike, block: ArrayLike) -> np.ndarray:
    """The raw draw that puts agent and block where they are observed (inverse of `reset`).

    Args:
        agent: [..., 2] px.
        block: [..., 3] body-origin pose: x, y (px), angle (rad).

    Returns:
        float64 [..., 5]; exact when block and agent do not overlap.
    """
    agent, block = np.asarray(agent, np.float64), np.asarray(block, np.float64)
    offset = geometry.CENTER_OF_GRAVITY_Y
    sin, cos = np.sin(block[..., 2]), np.cos(block[..., 2])
    x = block[..., 0] - sin * offset
    y = block[..., 1] + cos * offset - offset
    return np.concatenate([agent, np.stack([x, y, block[..., 2]], -1)], -1)
