"""The files that an ACT or ACT++ checkpoint consists of: weights, statistics, the prior over codes.

In: where the weights are, and what was named on the command line. Out: what lies in the other files
as further entries of the state dict, checked against the policy, and the `Normalizer` in them; or
the way back. The weights themselves are `act.py`'s.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.interop.act import PRIOR_PREFIX, prior_to_torch
from arp_jax.interop.dataset_stats import FILE, STATS_PREFIX, read_dataset_stats, standard_affine
from arp_jax.interop.torch_file import read_state
from arp_jax.normalize import Normalizer
from arp_jax.policies.act import ActPolicy


def stats_names(policy: ActPolicy) -> dict[str, tuple[str, int]]:
    """Our name of a vector -> (its name in the statistics, its size).

    Raises:
        ValueError: the policy sees vectors that published ones do not know.
    """
    observation = policy.spec.observation
    names = {policy.state_feature: "qpos", "action": "action"}
    others = [f.name for f in observation.features if f.name not in names]
    if others:
        raise ValueError(
            f"config.observations: published ACT policies see one vector, not also {others[0]!r}"
        )
    sizes = {f.name: f.size for f in observation.features}
    sizes["action"] = policy.spec.action.size
    return {ours: (theirs, sizes[ours]) for ours, theirs in names.items()}


def read_files_beside(
    file: Path, policy: ActPolicy, stats: Path | None, latent_model: Path | None
) -> dict[str, np.ndarray]:
    """Statistics and, for a policy of codes, their prior, under prefixes.

    Args:
        file: the weights; statistics lie beside them unless `stats` names another place.
        policy: that the files must fit.
        stats, latent_model: as named on the command line.

    Raises:
        ValueError: a file is missing, of other sizes, or named in vain.
    """
    where = file.with_name(FILE) if stats is None else stats
    vectors = read_dataset_stats(where)
    for theirs, size in stats_names(policy).values():
        standard_affine(vectors, theirs, size, where)
    found = {f"{STATS_PREFIX}{name}": value for name, value in vectors.items()}
    codes = policy.config.latent == "codes"
    if codes and latent_model is None:
        raise ValueError(
            "config.policy.latent 'codes': the prior over codes is a file of its own "
            "(latent_model_*.ckpt); name it with --latent_model=FILE"
        )
    if latent_model is not None:
        if not codes:
            raise ValueError("--latent_model is for policies with config.policy.latent 'codes'")
        prior = read_state(latent_model)
        found |= {f"{PRIOR_PREFIX}{name}": value for name, value in prior.items()}
    return found


def act_normalizer(
    state: Mapping[str, np.ndarray], policy: ActPolicy, methods: Mapping[str, str]
) -> Normalizer:
    """The maps of state and action in what `read_files_beside` found.

    Raises:
        ValueError: the config normalises otherwise than published policies.
    """
    start = STATS_PREFIX
    stats = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    normalizer = {}
    for ours, (theirs, size) in stats_names(policy).items():
        if methods.get(ours) != "standard":
            raise ValueError(
                f"config.data.normalization.{ours} is {methods.get(ours)!r}; published ACT weights "
                "need 'standard'"
            )
        normalizer[ours] = standard_affine(stats, theirs, size, FILE)
    return normalizer


def act_files_to_torch(
    params: Mapping[str, Any], policy: ActPolicy, normalizer: Normalizer
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Statistics, and the state dict of the latent model (empty without codes).

    Raises:
        ValueError: the policy is none that the published code has.
    """
    stats = {}
    for ours, (theirs, _) in stats_names(policy).items():
        stats[f"{theirs}_mean"] = np.array(normalizer[ours].offset)
        stats[f"{theirs}_std"] = np.array(normalizer[ours].scale)
    codes = policy.config.latent == "codes"
    return stats, prior_to_torch(params, policy) if codes else {}
