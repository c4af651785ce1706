"""What training reads: the `data` section becomes a normaliser and two endless sets of batches.

Flows in: the config and the run directory. Flows out: `Inputs` with the `PolicySpec` that the data
gives, batches of training and held-out episodes, and the map of each feature. With packs everything
is a pure function of the config and the packs' content, so a resumed run reads on where it stopped;
a stream is resumed approximately. Not here: how packs are opened and mixed (`members.py`), what is
streamed (`streams.py`), how either is made or read (`arp_jax.data`).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.batches import Batches
from arp_jax.data.loader import BatchStream, Loader, train_validation_split
from arp_jax.data.mixtures import MemberShare
from arp_jax.data.store import Pack
from arp_jax.normalize import Normalizer, Stats
from arp_jax.specs import PolicySpec, check_match
from arp_jax.training.data_config import DataConfig
from arp_jax.training.members import Loaders, content_hash, open_members
from arp_jax.training.packs import build_normalizer
from arp_jax.training.streams import open_streams


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Data of a run, ready to be read.

    Attributes:
        where: the data, or a mixture's target, for messages.
        spec: the policy's signature.
        stats: statistics of the data, or of those members that a mixture names.
        normalizer: the map of each feature.
        train, validation: batches of training and held-out episodes; the latter may be absent.
        train_episodes, validation_episodes: numbers of the (target's) episodes.
        train_examples: windows that `train` draws from; None where a stream did not count them.
        validation_examples: windows of the held-out episodes.
        content_hash: identifies the data.
        instructions: what "language" in a batch points into; a stream has none of it.
        pack: the data, or a mixture's target; None where they are streamed.
        target: batches of `pack`'s training episodes; `train`, where there is no mixture.
        shares: the members of a mixture; empty without one.
        stats_of: names of the members whose statistics `stats` are; empty where it is all of them.
    """

    where: str
    spec: PolicySpec
    stats: Stats
    normalizer: Normalizer
    train: Batches
    validation: Batches | None
    train_episodes: np.ndarray
    validation_episodes: np.ndarray
    train_examples: int | None
    validation_examples: int
    content_hash: str
    instructions: tuple[str, ...] = ()
    pack: Pack | None = None
    target: Loader | None = None
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
        ValueError: what `open_members` or `open_streams`, `build_normalizer` and the readers raise.
    """
    return (_stream if data.stream else _unpack)(config, data, run_dir, normalizer)


def _unpack(
    config: Mapping[str, Any], data: DataConfig, run_dir: Path, normalizer: Normalizer | None
) -> Inputs:
    """Inputs that are read from packs."""
    members = open_members(data, tuple(config["observations"]), _shape(config), run_dir)
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
    validation = loaders.target(held_out) if len(held_out) else None
    return Inputs(
        where=str(pack.directory),
        spec=spec,
        stats=members.stats,
        normalizer=normalizer,
        train=train,
        validation=validation,
        train_episodes=training,
        validation_episodes=held_out,
        train_examples=train.num_windows,
        validation_examples=validation.num_windows if validation is not None else 0,
        content_hash=content_hash(members, shares),
        instructions=members.instructions,
        pack=pack,
        target=target,
        shares=tuple(shares),
        stats_of=members.mix.stats if members.mix is not None else (),
    )


def _stream(
    config: Mapping[str, Any], data: DataConfig, run_dir: Path, normalizer: Normalizer | None
) -> Inputs:
    """Inputs that are streamed."""
    try:
        streams = open_streams(data, tuple(config["observations"]), _shape(config), run_dir)
        made = build_normalizer(streams.stats, streams.spec, data.normalization)
        normalizer = made if normalizer is None else normalizer
        train, validation = streams.batches(
            data, normalizer, config["train"]["batch_size"], config["seed"]
        )
    except ImportError as error:  # one line for a user of a command
        raise ValueError(
            f"config.data.stream: {error}; data on a disk are read without it, too: "
            "config.data.stream_reader=python"
        ) from error
    return Inputs(
        where=str(streams.training[0].source.path),
        spec=streams.spec,
        stats=streams.stats,
        normalizer=normalizer,
        train=train,
        validation=validation,
        train_episodes=streams.train_episodes,
        validation_episodes=streams.validation_episodes,
        train_examples=streams.train_examples,
        validation_examples=streams.validation_examples,
        content_hash=streams.content_hash,
        shares=streams.shares,
        stats_of=data.mix.stats if data.mix is not None else (),
    )


def _shape(config: Mapping[str, Any]) -> tuple[int, int, int]:
    return config["window"], config["horizon"], config["action_offset"]


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
    where = inputs.where
    if not pack:
        check_match(spec, inputs.spec, f"--resume: the imported policy and the data at {where}")
    elif pack != inputs.content_hash:
        mixed = " or another member of the mixture" if inputs.shares else ""
        raise ValueError(
            f"--resume: the data at {where}{mixed} changed since step {step}; "
            "restore it or start a new run"
        )
