"""Names on the command line -> environments that can be evaluated and filmed.

Flows in: an environment name, the observations that the policy wants, options. Flows out: a `Task`:
the environment and how to record and render it. Rollout, report and video stay free of any task.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from arp_jax.evaluation.host_rollout import HostEnvironment
from arp_jax.evaluation.rollout import Record
from arp_jax.sim.env import Environment
from arp_jax.specs import PolicySpec, check_match

JITTED = ("push_t",)
HOST_PREFIX = "gym_"


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment with its camera.

    Attributes:
        env: runs inside the compiled program.
        record: what to keep of each State for rendering.
        render: {name: [T, ...]} of recorded frames -> uint8 [T, h, w, 3].
        initial_conditions: integer seeds -> [N, ...], the public benchmark's draws.
    """

    env: Environment
    record: Record
    render: Callable[[dict[str, np.ndarray]], np.ndarray]
    initial_conditions: Callable[[Iterable[int]], np.ndarray]


def is_host_environment(name: str) -> bool:
    """Whether the name means a third-party gymnasium environment, stepped on the host."""
    return name.startswith(HOST_PREFIX)


def make_task(
    name: str, observations: Sequence[str], engine: str = "analytic", reset_law: str = "legacy"
) -> Task:
    """Builds a jitted environment.

    Raises:
        ValueError: unknown environment, observation, engine or reset law; the message names it.
    """
    if name not in JITTED:
        raise ValueError(
            f"--env {name!r} is unknown; choose 'push_t' or a gymnasium id such as "
            "'gym_pusht/PushT-v0'"
        )
    return _push_t(tuple(observations), engine, reset_law)


def _push_t(observations: tuple[str, ...], engine: str, reset_law: str) -> Task:
    from arp_jax.sim.push_t import raster, reset_laws
    from arp_jax.sim.push_t.env import PushT, load_engine

    env = PushT(observations=observations, engine=engine, reset_law=reset_law)

    def record(state: Any) -> dict[str, jax.Array]:
        agent, block = load_engine(engine).pose(state.physics)
        return {"agent": agent, "block": block}

    draw = jax.jit(lambda agent, block: jax.lax.map(lambda x: raster.render(*x), (agent, block)))

    def render(frames: dict[str, np.ndarray]) -> np.ndarray:
        length = len(frames["agent"])
        # Padded to a few fixed lengths, so that clips share compiled programs.
        padding = -length % 64
        padded = [np.pad(frames[k], ((0, padding), (0, 0)), "edge") for k in ("agent", "block")]
        images = np.asarray(draw(*padded))[:length]
        return images.repeat(2, axis=1).repeat(2, axis=2)  # 96 -> 192 px, easier to watch

    laws = {
        "legacy": reset_laws.legacy_initial_conditions,
        "current": reset_laws.current_initial_conditions,
    }
    return Task(env, record, render, laws[reset_law])


def make_host_environment(
    name: str, observations: Sequence[str], reset_law: str = "legacy"
) -> HostEnvironment:
    """Builds a host environment by its gymnasium id.

    Raises:
        ValueError: unknown id, observation or reset law.
        ImportError: its package is not installed.
    """
    from arp_jax.sim.gym_adapter import GYM_ID, GymPushT

    if name != GYM_ID:
        raise ValueError(f"--env {name!r} is unknown; the host environment is {GYM_ID!r}")
    return GymPushT(tuple(observations), reset_law)


def check_environment(spec: PolicySpec, env: Any, policy: str) -> None:
    """Raises SpecMismatch or ValueError unless the environment offers what the policy was made for.

    Args:
        spec: the policy's signature.
        env: has `name`, `observation_spec` and `action_spec`.
        policy: how to call the policy in the message, e.g. its run directory.
    """
    where = f"{policy} and environment {env.name}"
    offered = env.observation_spec.names
    for name in spec.observation.names:
        if name not in offered:
            raise ValueError(
                f"{where}: the policy needs observation {name!r}, offered: {list(offered)}"
            )
    check_match(spec.observation, env.observation_spec.select(spec.observation.names), where)
    check_match(spec.action, env.action_spec, where)
