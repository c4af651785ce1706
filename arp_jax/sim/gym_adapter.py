"""gymnasium, both ways: our tasks as its environments, and its environments for our evaluator.

Importing this module registers `arp_jax/transfer_cube-v0` and so on, one for each task and for
Push-T (`gym_task_env.py`); `gymnasium.make("arp_jax.sim.gym_adapter:arp_jax/insertion-v0")` does
both at once. The other way, `make_host_environment` wraps gym-pusht, gym-aloha and any environment
of vectors and pictures as evaluation wants them. A table; gymnasium itself is optional.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from arp_jax.sim.tasks import TASKS

NAMESPACE = "arp_jax"
TASK_IDS = {name: f"{NAMESPACE}/{name}-v0" for name in ("push_t", *TASKS)}
GYM_PUSHT = "gym_pusht/PushT-v0"
# gymnasium id -> our task of the same scene.
GYM_ALOHA = {
    "gym_aloha/AlohaTransferCube-v0": "transfer_cube",
    "gym_aloha/AlohaInsertion-v0": "insertion",
}
_ID = re.compile(r"([\w.]+:)?([\w-]+/)?[\w:.-]+-v\d+")


def register_environments() -> None:
    """Registers our tasks with gymnasium; once is enough, twice does no harm.

    Raises:
        ImportError: gymnasium is not installed.
    """
    # Not `gymnasium.register`: as a plug-in this runs while gymnasium is being imported.
    from gymnasium.envs.registration import register, registry

    for name, gym_id in TASK_IDS.items():
        if gym_id not in registry:
            # No time limit here: it is the environment's own, and reading it would build the task.
            register(gym_id, "arp_jax.sim.gym_task_env:TaskEnv", kwargs={"task": name})


def is_gym_id(name: str) -> bool:
    """Whether a name is a gymnasium id such as "gym_pusht/PushT-v0" or "Pendulum-v1"."""
    return _ID.fullmatch(name) is not None


def make_host_environment(
    name: str, observations: Sequence[str] | None = None, reset_law: str = "legacy"
) -> Any:
    """A third-party environment as a `HostEnvironment` of `evaluation.host_rollout`.

    Args:
        name: gymnasium id; gym-pusht and gym-aloha speak our names and units, every other
            environment has features named by its observation's keys.
        observations: names out of its observation spec; None for its usual ones.
        reset_law: what a seed means in gym-pusht.

    Raises:
        ValueError: unknown id, observation or reset law, or spaces that cannot be evaluated.
        ImportError: its package is not installed.
    """
    chosen = None if observations is None else tuple(observations)
    if name == GYM_PUSHT:
        from arp_jax.sim.gym_pusht_env import DEFAULT_OBSERVATIONS, GymPushT

        return GymPushT(chosen or DEFAULT_OBSERVATIONS, reset_law)
    if name in GYM_ALOHA:
        from arp_jax.sim.gym_aloha_env import GymAloha

        return GymAloha(name, chosen)
    from arp_jax.sim.gym_any_env import GymAny

    return GymAny(name, chosen)


with contextlib.suppress(ImportError):
    register_environments()
