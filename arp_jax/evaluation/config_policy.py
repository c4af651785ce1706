"""A policy from a config file alone: no dataset, no run, no parameters.

Flows in: a config of plain values (a file's `get_config().to_dict()` or a run's config.json). Flows
out: the `Policy` that training would build. Its spec comes from the environment that the config
names in `eval.env` (a real robot's name will do), or from the one robot that the policy is made
for, instead of from the data. For describing, profiling and importing; whoever has data uses
`arp_jax.training.inputs`, which reads the spec from there.
"""

from collections.abc import Mapping
from typing import Any

from arp_jax.evaluation.environments import JITTED
from arp_jax.policies.aloha_robots import ROBOTS
from arp_jax.policies.base import Policy, build_policy
from arp_jax.sim.tasks import TASKS, make_task
from arp_jax.specs import ActionSpec, ObservationSpec, PolicySpec

GYM_PUSH_T = "gym_pusht/"
SPEC_KEYS = ("observations", "window", "horizon", "action_offset")


def policy_of_config(config: Mapping[str, Any]) -> Policy:
    """The policy that `config` describes.

    Args:
        config: plain values with the keys policy, eval.env, observations, window, horizon and
            action_offset, as `configs.common.base()` gives them.

    Raises:
        ValueError: a key is missing or unknown, or the environment has no known spec; named.
    """
    section = _required(config, "policy")
    if "name" not in section:
        raise ValueError("config.policy.name is missing; e.g. 'arp'")
    return build_policy(section["name"], section, spec_of_config(config), config.get("images"))


def spec_of_config(config: Mapping[str, Any]) -> PolicySpec:
    """The signature that config and robot give together; raises as `policy_of_config`."""
    observations, window, horizon, offset = (_required(config, key) for key in SPEC_KEYS)
    observation, action = robot_spec(
        _required(config, "policy")["name"], _required(config, "eval").get("env", "")
    )
    return PolicySpec(observation.select(observations), action, window, horizon, offset)


def robot_spec(policy: str, env: str) -> tuple[ObservationSpec, ActionSpec]:
    """Everything that may be seen and commanded.

    Args:
        policy: name of the policy; some are made for one robot only.
        env: environment of the others.

    Raises:
        ValueError: neither of them says what robot it is.
    """
    if policy == "arp_digits":
        from arp_jax.data import digits

        return digits.OBSERVATION_SPEC, digits.ACTION_SPEC
    if policy == "arp_aloha":
        from arp_jax.policies.arp_aloha import published_aloha_spec

        aloha = published_aloha_spec()
        return aloha.observation, aloha.action
    if policy == "arp_rlbench":
        from arp_jax.policies.rlbench_config import rlbench_spec

        rlbench = rlbench_spec()
        return rlbench.observation, rlbench.action
    if env in ROBOTS:
        return ROBOTS[env]()
    if env in JITTED or env.startswith(GYM_PUSH_T):
        from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC

        return OBSERVATION_SPEC, ACTION_SPEC
    if env in TASKS:
        task = make_task(env)
        return task.observation_spec, task.action_spec
    raise ValueError(
        f"config.eval.env {env!r} has no known spec; choose 'push_t', one of {sorted(TASKS)}, a "
        f"robot ({', '.join(ROBOTS)}) or a gymnasium id such as 'gym_pusht/PushT-v0'"
    )


def _required(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise ValueError(f"config.{key} is missing; start from configs.common.base()")
    return config[key]
