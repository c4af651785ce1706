"""What training reads: the `data` section becomes packs, a normaliser and two streams of batches.

Flows in: the config and the run directory. Flows out: `Inputs` with the `PolicySpec` that the data
gives, loaders of training and held-out episodes, and the map of each feature. Everything is a pure
function of the config and the packs' content, so a resumed run reads on where it stopped. Not here:
how packs are opened and mixed (`members.py`), made or read (`arp_jax.data`).
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.loader import BatchStream, Loader, train_validation_split
from arp_jax.data.mixtures import MemberShare
from arp_jax.data.store import Pack
from arp_jax.normalize import Normalizer, Stats
from arp_jax.specs import PolicySpec, check_match
from arp_jax.training.data_config import DataConfig
from arp_jax.training.members import Loaders, content_hash, open_members
from arp_jax.training.packs import build_normalizer


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Data of a run, ready to be read.

    Attributes:
        pack: the data, or a mixture's target.
        spec: the policy's signature.
        stats: statistics of the data, or of those members that a mixture names.
        normalizer: the map of each feature.
        train, validation: batches of training and held-out episodes; the latter may be absent.
        target: batches of `pack`'s training episodes; `train`, where there is no mixture.
        train_episodes, validation_episodes: ids of `pack`.
        instructions: what "language" in a batch points into.
        content_hash: identifies the data.
        shares: the members of a mixture; empty without one.
        stats_of: names of the members whose statistics `stats` are; empty where it is all of them.
    """

    pack: Pack
    spec: PolicySpec
    stats: Stats
    normalizer: Normalizer
    train: BatchStream
    validation: Loader | None
    target: Loader
    train_episodes: np.ndarray
    validation_episodes: np.ndarray
    instructions: tuple[str, ...]
    content_hash: str
    shares: tuple[MemberShare, ...] = ()
    stats_of: tuple[str, ...] = ()


def open_inputs(
    config: Mapping[str, Any],
    data: DataConfig,
    run_dir: Path,
    normalizer: Normalizer | None = None,
) -> Inputs:
    """Opens the data and cuts off the held-out episodes.

    Args:
        config: all of it, plain values.
        data: its `data` section.
        run_dir: where built-in data and packs are.
        normalizer: of the run that is continued; its parameters know no other units. None makes
            one as the config asks.

    Raises:
        ValueError: what `open_members`, `build_normalizer` and the loaders raise.
    """
    shape = (config["window"], config["horizon"], config["action_offset"])
    members = open_members(data, tuple(config["observations"]), shape, run_dir)
    pack, spec = members.packs[0], members.specs[0]
    made = build_normalizer(members.stats, spec, data.normalization)
    normalizer = made if normalizer is None else normalizer
    training, held_out = train_validation_split(
        pack.num_episodes,
        data.held_out_fraction,
        data.split_seed,
        data.max_train_episodes or None,
    )
    loaders = Loaders(members, data, normalizer, config["train"]["batch_size"], config["seed"])
    train: BatchStream
    shares: list[MemberShare] = []
    target = loaders.target(training)
    if members.mix is None:
        train = target
    else:
        train, shares = loaders.mixture(training)
    return Inputs(
        pack=pack,
        spec=spec,
        stats=members.stats,
        normalizer=normalizer,
        train=train,
        validation=loaders.target(held_out) if len(held_out) else None,
        target=target,
        train_episodes=training,
        validation_episodes=held_out,
        instructions=members.instructions,
        content_hash=content_hash(members, shares),
        shares=tuple(shares),
        stats_of=members.mix.stats if members.mix is not None else (),
    )


def check_same_data(inputs: Inputs, spec: PolicySpec, pack: str, step: int) -> None:
    """Refuses to continue a run on data that it was not made for.

    Args:
        inputs: what would be read.
        spec: the run's.
        pack: content hash of the data that it read; "" for an imported run, which may be continued
            on any data that has its spec.
        step: of the checkpoint, for the message.

    Raises:
        ValueError: other data, or SpecMismatch naming what differs from the import.
    """
    where = inputs.pack.directory
    if not pack:
        check_match(spec, inputs.spec, f"--resume: the imported policy and the data at {where}")
    elif pack != inputs.content_hash:
        mixed = " or another member of the mixture" if inputs.shares else ""
        raise ValueError(
            f"--resume: the data at {where}{mixed} changed since step {step}; "
            "restore it or start a new run"
        )


def validation_positions(loader: Loader, most: int) -> range:
    """Batches to evaluate: at most `most`, fewer when the held-out episodes have fewer."""
    return range(min(most, math.ceil(loader.batches_per_epoch)))
