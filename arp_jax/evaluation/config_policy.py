"""A policy from a config file alone: no dataset, no run, no parameters.

Flows in: a config of plain values (a file's `get_config().to_dict()` or a run's config.json). Flows
out: the `Policy` that training would build, its spec taken from the environment that the config
names in `eval.env` instead of from the data. For describing, profiling and importing; whoever has
data uses `arp_jax.training.inputs`, which reads the spec from there.
"""

from collections.abc import Mapping
from typing import Any

from arp_jax.evaluation.environments import JITTED, is_host_environment
from arp_jax.policies.base import Policy, build_policy
from arp_jax.specs import ActionSpec, ObservationSpec, PolicySpec

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
    return build_policy(section["name"], section, spec_of_config(config))


def spec_of_config(config: Mapping[str, Any]) -> PolicySpec:
    """The signature that environment and config give together; raises as `policy_of_config`."""
    observations, window, horizon, offset = (_required(config, key) for key in SPEC_KEYS)
    observation, action = environment_spec(_required(config, "eval").get("env", ""))
    return PolicySpec(observation.select(observations), action, window, horizon, offset)


def environment_spec(name: str) -> tuple[ObservationSpec, ActionSpec]:
    """Everything that an environment lets a policy see, and what it lets it command.

    Raises:
        ValueError: no environment of that name.
    """
    if name in JITTED or is_host_environment(name):
        from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC

        return OBSERVATION_SPEC, ACTION_SPEC
    raise ValueError(
        f"config.eval.env {name!r} has no known spec; choose 'push_t' or a gymnasium id such as "
        "'gym_pusht/PushT-v0'"
    )


def _required(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise ValueError(f"config.{key} is missing; start from configs.common.base()")
    return config[key]
