"""A source becomes an opened pack, and the pack what a policy needs to know of it.

Flows in: a path and the `data` section. Flows out: a `Pack` (made first where an RLDS dataset is
given), the `PolicySpec`, the normaliser. Cutting and reading are `arp_jax.data`; several packs at
once are `members.py`, data that are streamed `streams.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from arp_jax.data.folders import find_dataset
from arp_jax.data.pack import pack_dataset, parse_resize
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.source import Source, open_source
from arp_jax.data.store import META_FILE, Pack, open_pack
from arp_jax.data.task import EMBEDDING
from arp_jax.normalize import Affine, Normalizer, Stats, affine_from_limits, affine_from_stats
from arp_jax.specs import PolicySpec
from arp_jax.training.data_config import DataConfig


def find_folder(path: str | Path, config: DataConfig) -> Path:
    """The dataset's folder at a path or URL; raises ValueError that says which key is wrong."""
    try:
        return find_dataset(path)
    except ValueError as error:
        key = "mixture" if config.mixture else "source"
        also = "" if config.mixture or "://" in str(path) else ", 'synthetic' or 'digits'"
        raise ValueError(f"config.data.{key} {error}{also}") from error


def action_card(source: Source, action_space: str) -> str | None:
    """Name of the card that gives a public dataset the actions of a mixture; None for its own."""
    return f"{source.card.name}:{action_space}" if source.card and action_space else None


def prepare_pack(
    path: str | Path,
    target: Path,
    config: DataConfig,
    observations: Sequence[str],
    budget: int,
    action_space: str = "",
) -> Pack:
    """Opens the pack at `path`, or packs the RLDS dataset there first.

    Args:
        path: pack, dataset folder (or its URL), or the folder above its only version.
        target: where an RLDS dataset is packed to.
        config: the `data` section.
        observations: names that are packed; sentence vectors too, where language is asked for.
        budget: bytes of the pack that are kept in memory.
        action_space: in which a public dataset is packed; "" is its card's own.

    Raises:
        ValueError: nothing usable at the path; the message says what was expected.
    """
    folder = find_folder(path, config)
    if (folder / META_FILE).is_file():
        return open_pack(folder, budget)
    names, source = tuple(observations), open_source(str(folder))
    if config.language and EMBEDDING in source.specs.observation.names:
        names = tuple(dict.fromkeys((*names, EMBEDDING)))
    return pack_dataset(
        str(folder),
        target,
        names,
        jax.process_index() == 0,
        split=config.split,
        resize=parse_resize(config.resize),
        card=action_card(source, action_space),
        memory_budget=budget,
    )


def pack_spec(pack: Pack, observations: Sequence[str], shape: tuple[int, int, int]) -> PolicySpec:
    """`policy_spec` of a pack; raises ValueError, too, where it has no specs."""
    if pack.observation_spec is None or pack.action_spec is None:
        raise ValueError(
            f"{pack.directory}: the dataset says nothing about its units (no specs.json); "
            "write one with arp_jax.data.rlds.DatasetSpecs and pack it again"
        )
    specs = DatasetSpecs(pack.observation_spec, pack.action_spec)
    return policy_spec(pack.directory, specs, observations, shape)


def policy_spec(
    where: Path, specs: DatasetSpecs, observations: Sequence[str], shape: tuple[int, int, int]
) -> PolicySpec:
    """The signature that data and config give together.

    Args:
        where: the data, for messages.
        specs: what its numbers mean.
        observations: names that the policy sees.
        shape: (window, horizon, action_offset) of the policy.

    Raises:
        ValueError: the data lack an observation.
    """
    try:
        observation = specs.observation.select(observations)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; see config.observations") from error
    return PolicySpec(observation, specs.action, *shape)


def build_normalizer(stats: Stats, spec: PolicySpec, methods: Mapping[str, str]) -> Normalizer:
    """One map per observed vector feature and for the action.

    Methods of features that this run does not observe are allowed: configs share the section.

    Raises:
        ValueError: a feature without a method, or "limits" for one whose spec has none.
    """
    limits = {f.name: (f.low, f.high) for f in spec.observation.features}
    limits["action"] = (spec.action.low, spec.action.high)
    key = "config.data.normalization"
    normalizer: dict[str, Affine] = {}
    for name, (low, high) in limits.items():
        if name not in methods:
            raise ValueError(f"{key}.{name} is missing; choose limits, standard or min_max")
        if methods[name] != "limits":
            normalizer[name] = affine_from_stats(stats[name], methods[name])
        elif low is None or high is None:
            raise ValueError(f"{key}.{name} is 'limits', but its spec has none; use 'min_max'")
        else:
            normalizer[name] = affine_from_limits(low, high)
    return normalizer
