"""Names on the command line -> environments that can be evaluated.

Flows in: an environment name, an engine, the observations that the policy wants, options. Flows
out: an `Arena`. A table; what an environment is like is told elsewhere.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from arp_jax.evaluation.arena import Arena
from arp_jax.sim import gym_adapter
from arp_jax.sim.randomize import FieldRange
from arp_jax.specs import PolicySpec, check_match

JITTED = ("push_t",)
PUSH_T_OBSERVATIONS = ("agent_pos", "keypoints")
ENGINES = ("analytic", "native", "mjx", "mjx-warp")


def is_host_environment(name: str) -> bool:
    """Whether the name is a gymnasium id, of an environment that is stepped on the host."""
    return gym_adapter.is_gym_id(name)


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
    workers: int = 0,
) -> Arena:
    """Builds an environment of this library, or a third-party one.

    Args:
        name: "push_t", a task of `arp_jax.sim.tasks`, or a gymnasium id.
        observations: names out of its spec; None for its usual ones.
        engine: one of `ENGINES`; None for `default_engine`; not of gymnasium environments.
        reset_law: of push_t's initial states.
        randomize: model fields that vary from episode to episode; of tasks in MuJoCo only.
        workers: processes that step gymnasium environments; 0 for none but this one.

    Raises:
        ValueError: unknown environment, observation, engine or reset law; the message names it.
        ImportError: the engine's package is not installed.
    """
    chosen = None if observations is None else tuple(observations)
    if is_host_environment(name):
        from arp_jax.evaluation.host_arena import host_arena

        if engine or randomize:
            raise ValueError(f"{name} is stepped on the host: it has no --engine, no --randomize")
        return host_arena(name, chosen, reset_law, workers)
    if workers:
        raise ValueError(f"--workers steps gymnasium environments; {name} needs none")
    engine = engine or default_engine(name)
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
    public = None
    if name in gym_adapter.GYM_ALOHA.values():
        from arp_jax.sim.gym_aloha_env import initial_conditions

        public = functools.partial(initial_conditions, name)
    expert = functools.partial(tasks.make_expert, name)
    return mujoco_arena(tasks.make_task(name), engine, chosen, randomize, expert, public)


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
