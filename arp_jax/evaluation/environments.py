"""Names on the command line -> environments that can be evaluated.

Flows in: an environment name, an engine, the observations that the policy wants, options. Flows
out: an `Arena`, or for third-party gymnasium environments a host environment. A table; what an
environment is like is told elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import jax

from arp_jax.evaluation.arena import Arena
from arp_jax.evaluation.host_rollout import HostEnvironment
from arp_jax.sim.randomize import FieldRange
from arp_jax.specs import PolicySpec, check_match

JITTED = ("push_t",)
PUSH_T_OBSERVATIONS = ("agent_pos", "keypoints")
HOST_PREFIX = "gym_"
ENGINES = ("analytic", "native", "mjx", "mjx-warp")


def is_host_environment(name: str) -> bool:
    """Whether the name means a third-party gymnasium environment, stepped on the host."""
    return name.startswith(HOST_PREFIX)


def default_engine(name: str) -> str:
    """The engine that suits this platform: C MuJoCo on a CPU, MJX on an accelerator."""
    if name in JITTED:
        return "analytic"
    return "native" if jax.default_backend() == "cpu" else "mjx"


def make_arena(
    name: str,
    observations: Sequence[str] | None = None,
    engine: str | None = None,
    reset_law: str = "legacy",
    randomize: tuple[FieldRange, ...] = (),
) -> Arena:
    """Builds an environment of this library.

    Args:
        name: "push_t" or a task of `arp_jax.sim.tasks`.
        observations: names out of its spec; None for its usual ones.
        engine: one of `ENGINES`; None for `default_engine`.
        reset_law: of push_t's initial states.
        randomize: model fields that vary from episode to episode; not in push_t.

    Raises:
        ValueError: unknown environment, observation, engine or reset law; the message names it.
        ImportError: the engine's package is not installed.
    """
    engine = engine or default_engine(name)
    chosen = None if observations is None else tuple(observations)
    if name in JITTED:
        from arp_jax.evaluation.push_t_arena import push_t_arena

        if randomize:
            raise ValueError("--randomize changes fields of a MuJoCo model; push_t has none")
        return push_t_arena(chosen or PUSH_T_OBSERVATIONS, engine, reset_law)
    from arp_jax.evaluation.mujoco_arena import mujoco_arena
    from arp_jax.sim import tasks

    if name not in tasks.TASKS:
        raise ValueError(
            f"--env {name!r} is unknown; choose 'push_t', one of {sorted(tasks.TASKS)} or a "
            "gymnasium id such as 'gym_pusht/PushT-v0'"
        )
    return mujoco_arena(
        tasks.make_task(name), engine, chosen, randomize, lambda: tasks.make_expert(name)
    )


def make_host_environment(
    name: str, observations: Sequence[str] | None = None, reset_law: str = "legacy"
) -> HostEnvironment:
    """Builds a host environment by its gymnasium id; observations None are its usual ones.

    Raises:
        ValueError: unknown id, observation or reset law.
        ImportError: its package is not installed.
    """
    from arp_jax.sim.gym_adapter import GYM_ID, GymPushT

    if name != GYM_ID:
        raise ValueError(f"--env {name!r} is unknown; the host environment is {GYM_ID!r}")
    return GymPushT(tuple(observations or PUSH_T_OBSERVATIONS), reset_law)


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
