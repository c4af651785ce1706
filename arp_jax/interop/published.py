"""Which policies have published PyTorch weights, and how each of them is converted.

In: a policy and a state dict, or parameters. Out: the other, and the `Normalizer` that belongs to
the weights. One table instead of a choice in every command. The conversions themselves are in
`arp_push_t.py`, `arp_aloha.py`, `arp_rlbench.py`, `act.py` and `diffusion.py`, imported when they
are needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.interop.torch_state import Report
from arp_jax.normalize import Affine, Normalizer, affine_from_limits
from arp_jax.policies.base import Params
from arp_jax.specs import PolicySpec

State = Mapping[str, np.ndarray]
METHODS_KEY = "config.data.normalization"


@dataclass(frozen=True)
class FilesBeside:
    """Further files of a checkpoint that the command line names; None where it does not.

    Attributes:
        stats: `dataset_stats.pkl` of ACT's family.
        latent_model: prior over codes of ACT++.
    """

    stats: Path | None = None
    latent_model: Path | None = None


def _nothing_beside(file: Path, policy: Any, beside: FilesBeside) -> State:
    """For checkpoints of one file."""
    for name, path in vars(beside).items():
        if path is not None:
            raise ValueError(f"--{name}={path}: weights of this policy are one file; leave it out")
    return {}


@dataclass(frozen=True)
class Conversion:
    """The two directions for one policy.

    Attributes:
        to_ours: (state dict, policy) -> (parameters, report of every tensor).
        to_torch: (parameters, policy, normalizer) -> state dict.
        normalizer: (state dict, policy, config.data.normalization) -> the map that the weights were
            trained with; ValueError when the config asks for another, or the file lacks it.
        beside: (weights' file, policy, files named) -> what lies in further files, to be added to
            the state dict.
        beside_to_torch: (parameters, policy, normalizer) -> {ending of a name: what is written to
            such a file}; a name that ends with ".pkl" is `dataset_stats.pkl`'s content, others are
            state dicts.
    """

    to_ours: Callable[[State, Any], tuple[Params, Report]]
    to_torch: Callable[[Params, Any, Normalizer], dict[str, np.ndarray]]
    normalizer: Callable[[State, Any, Mapping[str, str]], Normalizer]
    beside: Callable[[Path, Any, FilesBeside], State] = _nothing_beside
    beside_to_torch: Callable[[Params, Any, Normalizer], Mapping[str, State]] = lambda *_: {}


def conversion(policy: str) -> Conversion:
    """The conversion of the policy with this name in a config.

    Raises:
        ValueError: there are no published weights of such a policy.
    """
    table = {
        **{"arp": _push_t, "arp_aloha": _aloha, "arp_rlbench": _rlbench},
        **{"act": _act, "diffusion": _diffusion},
    }
    if policy not in table:
        raise ValueError(
            f"policy.name {policy!r} has no published PyTorch weights; those with are "
            f"{', '.join(table)}"
        )
    return table[policy]()


def _push_t() -> Conversion:
    from arp_jax.interop.arp_push_t import convert_push_t, push_t_to_torch

    def normalizer(state: State, policy: Any, methods: Mapping[str, str]) -> Normalizer:
        return normalizer_from_limits(policy.spec, methods)

    return Conversion(convert_push_t, lambda p, policy, _: push_t_to_torch(p, policy), normalizer)


def _aloha() -> Conversion:
    from arp_jax.interop.arp_aloha import aloha_to_torch, convert_aloha, normalizer_from_state

    def normalizer(state: State, policy: Any, methods: Mapping[str, str]) -> Normalizer:
        return normalizer_from_state(state, policy)

    return Conversion(convert_aloha, aloha_to_torch, normalizer)


def _rlbench() -> Conversion:
    from arp_jax.interop.arp_rlbench import convert_rlbench, rlbench_to_torch

    def normalizer(state: State, policy: Any, methods: Mapping[str, str]) -> Normalizer:
        # Its actions are physical already: a place in the scene, a quaternion, two choices.
        size = policy.spec.action.size
        return {"action": Affine(np.zeros(size), np.ones(size))}

    return Conversion(convert_rlbench, lambda p, policy, _: rlbench_to_torch(p, policy), normalizer)


def _act() -> Conversion:
    from arp_jax.interop import act_files
    from arp_jax.interop.act import act_to_torch, convert_act

    def beside(file: Path, policy: Any, named: FilesBeside) -> State:
        return act_files.read_files_beside(file, policy, named.stats, named.latent_model)

    def back(params: Params, policy: Any, normalizer: Normalizer) -> Mapping[str, State]:
        stats, prior = act_files.act_files_to_torch(params, policy, normalizer)
        return {"dataset_stats.pkl": stats} | ({"latent_model": prior} if prior else {})

    return Conversion(
        convert_act,
        lambda params, policy, _: act_to_torch(params, policy),
        act_files.act_normalizer,
        beside,
        back,
    )


def _diffusion() -> Conversion:
    from arp_jax.interop import diffusion_files
    from arp_jax.interop.diffusion import convert_diffusion, diffusion_to_torch, published_form

    def to_torch(params: Params, policy: Any, normalizer: Normalizer) -> dict[str, np.ndarray]:
        state = diffusion_to_torch(params, policy)
        if published_form(policy) == "actpp" or not normalizer:
            return state
        return state | diffusion_files.normalizer_to_state(normalizer, policy)

    def beside(file: Path, policy: Any, named: FilesBeside) -> State:
        if named.latent_model is not None:
            raise ValueError("--latent_model is for policies with config.policy.latent 'codes'")
        return diffusion_files.read_files_beside(file, policy, named.stats)

    def back(params: Params, policy: Any, normalizer: Normalizer) -> Mapping[str, State]:
        if published_form(policy) != "actpp":
            return {}
        return {"dataset_stats.pkl": diffusion_files.stats_of(normalizer, policy)}

    normalizer = diffusion_files.diffusion_normalizer
    return Conversion(convert_diffusion, to_torch, normalizer, beside, back)


def normalizer_from_limits(spec: PolicySpec, methods: Mapping[str, str]) -> Normalizer:
    """The map of limits to -1 .. 1 for every vector feature and the action: (v - 256) / 256 px.

    Raises:
        ValueError: the config normalises one of them otherwise, for which data are needed, or its
            spec has no limits.
    """
    limits = {f.name: (f.low, f.high) for f in spec.observation.features}
    limits["action"] = (spec.action.low, spec.action.high)
    normalizer: Normalizer = {}
    for name, (low, high) in limits.items():
        if methods.get(name) != "limits":
            raise ValueError(
                f"{METHODS_KEY}.{name} is {methods.get(name)!r}; published weights need 'limits'"
            )
        if low is None or high is None:
            raise ValueError(f"{METHODS_KEY}.{name} is 'limits', but its spec has none")
        normalizer[name] = affine_from_limits(low, high)
    return normalizer
