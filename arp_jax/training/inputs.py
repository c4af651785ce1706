"""What training reads: the `data` section becomes a pack, a normaliser and two streams of batches.

Flows in: a `DataConfig`, names of observations, the run directory. Flows out: `Inputs` with the
`PolicySpec` that the data gives, loaders of training and held-out episodes, and the map of each
feature. Everything is a pure function of the config and the pack's content, so a resumed run reads
on where it stopped. Not here: how a pack is made or read (`arp_jax.data`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arp_jax.data.loader import Loader, train_validation_split
from arp_jax.data.pack import pack_dataset
from arp_jax.data.store import META_FILE, Pack, open_pack
from arp_jax.normalize import Affine, Normalizer, affine_from_limits, affine_from_stats
from arp_jax.specs import PolicySpec, check_match

# Sources that a run writes into its own directory; train.py says by what.
SYNTHETIC, DIGITS = "synthetic", "digits"
BUILT_IN = (SYNTHETIC, DIGITS)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section.

    Attributes:
        source: an RLDS dataset folder (features.json), a pack (meta.json), or one of `BUILT_IN`:
            "synthetic" (random curves for debugging) or "digits" (scikit-learn's, as a pen).
        split: split of an RLDS source, or a part of it ("train[:90]").
        pack_dir: where an RLDS source is packed to; "" is RUN/pack.
        normalization: feature -> "limits" (of its spec), "standard", "min_max" or "quantile" (of
            its statistics); every vector feature that is observed, and "action".
        augment: device-side augmentation ("push_t_mirror"); "" means none.
        pad_after: actions of a chunk that may lie behind the episode's end; -1 means all but one.
        validation_fraction: share of episodes held out.
        split_seed: draws the held-out episodes; not the run's seed, so that runs are comparable.
        max_train_episodes: 0 means all that are not held out.
        prefetch: batches prepared ahead by a thread.
        memory_budget_mb: the pack is kept in memory up to this size, the rest is read as needed.
    """

    source: str
    split: str = "train"
    pack_dir: str = ""
    normalization: Mapping[str, str] = dataclasses.field(default_factory=dict)
    augment: str = ""
    pad_after: int = -1
    validation_fraction: float = 0.02
    split_seed: int = 42
    max_train_episodes: int = 0
    prefetch: int = 2
    memory_budget_mb: int = 2048

    def __post_init__(self) -> None:
        if self.prefetch < 1 or self.memory_budget_mb < 0 or self.max_train_episodes < 0:
            raise ValueError("prefetch must be >= 1, memory_budget_mb, max_train_episodes >= 0")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Data of a run, ready to be read."""

    pack: Pack
    spec: PolicySpec
    normalizer: Normalizer
    train: Loader
    validation: Loader | None
    train_episodes: np.ndarray
    validation_episodes: np.ndarray

    def describe(self) -> str:
        """Lines for the log: sizes, and one batch's shapes and ranges as the policy sees them."""
        held_out = len(self.validation_episodes)
        lines = [
            f"data: {len(self.train_episodes)} episodes, {self.train.num_windows} examples "
            f"({held_out} episodes held out), {self.train.batches_per_epoch:.1f} batches an epoch"
        ]
        batch = self.train.batch_at(0)
        for name, x in (*batch["observation"].items(), ("action", batch["action"])):
            lines.append(
                f"  {name:12s} {x.dtype!s:8s} {list(x.shape)} in [{x.min():.3g}, {x.max():.3g}]"
            )
        return "\n".join(lines)


def built_in_source(run_dir: Path, name: str) -> Path:
    """Where the writers of `BUILT_IN` datasets put theirs: RUN/name/1.0.0."""
    return run_dir / name / "1.0.0"


def prepare_pack(config: DataConfig, observations: Sequence[str], run_dir: Path) -> Pack:
    """Opens the pack at `config.source`, or packs the RLDS dataset there first.

    Raises:
        ValueError: nothing usable at the path; the message says what was expected.
    """
    built_in = config.source in BUILT_IN
    source = built_in_source(run_dir, config.source) if built_in else Path(config.source)
    budget = config.memory_budget_mb << 20
    if not source.is_dir():
        raise ValueError(
            f"config.data.source {str(source)!r} is no directory; give an RLDS dataset "
            "(DATA_DIR/name/version), a pack, 'synthetic' or 'digits'"
        )
    if (source / META_FILE).is_file():
        return open_pack(source, budget)
    if not (source / "features.json").is_file():
        raise ValueError(
            f"config.data.source {str(source)!r} holds neither {META_FILE} (a pack) nor "
            "features.json (an RLDS dataset); name the version folder, e.g. push_t/1.0.0"
        )
    target = Path(config.pack_dir) if config.pack_dir else run_dir / "pack"
    visible = jax.process_index() == 0
    return pack_dataset(
        source, target, tuple(observations), visible, split=config.split, memory_budget=budget
    )


def policy_spec(
    pack: Pack, observations: Sequence[str], window: int, horizon: int, action_offset: int
) -> PolicySpec:
    """The signature that data and config give together."""
    if pack.observation_spec is None or pack.action_spec is None:
        raise ValueError(
            f"{pack.directory}: the dataset says nothing about its units (no specs.json); "
            "write one with arp_jax.data.rlds.DatasetSpecs and pack it again"
        )
    observation = pack.observation_spec.select(observations)
    return PolicySpec(observation, pack.action_spec, window, horizon, action_offset)


def build_normalizer(pack: Pack, spec: PolicySpec, methods: Mapping[str, str]) -> Normalizer:
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
            normalizer[name] = affine_from_stats(pack.stats[name], methods[name])
        elif low is None or high is None:
            raise ValueError(f"{key}.{name} is 'limits', but its spec has none; use 'min_max'")
        else:
            normalizer[name] = affine_from_limits(low, high)
    return normalizer


def open_inputs(
    config: Mapping[str, Any],
    data: DataConfig,
    run_dir: Path,
    normalizer: Normalizer | None = None,
) -> Inputs:
    """Everything above.

    Args:
        config: all of it, plain values.
        data: its `data` section.
        run_dir: where built-in data and packs are.
        normalizer: of the run that is continued; its parameters know no other units. None makes
            one as the config asks.
    """
    observations = tuple(config["observations"])
    pack = prepare_pack(data, observations, run_dir)
    spec = policy_spec(
        pack, observations, config["window"], config["horizon"], config["action_offset"]
    )
    made = build_normalizer(pack, spec, data.normalization)
    normalizer = made if normalizer is None else normalizer
    training, held_out = train_validation_split(
        pack.num_episodes,
        data.validation_fraction,
        data.split_seed,
        data.max_train_episodes or None,
    )
    pad_after = None if data.pad_after < 0 else min(data.pad_after, spec.horizon - 1)

    def loader(episodes: np.ndarray) -> Loader:
        return Loader(
            pack,
            spec,
            normalizer,
            config["train"]["batch_size"],
            config["seed"],
            host=(jax.process_index(), jax.process_count()),
            episodes=episodes,
            pad_after=pad_after,
        )

    validation = loader(held_out) if len(held_out) else None
    return Inputs(pack, spec, normalizer, loader(training), validation, training, held_out)


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
    elif pack != inputs.pack.content_hash:
        raise ValueError(
            f"--resume: the data at {where} changed since step {step}; "
            "restore it or start a new run"
        )


def validation_positions(loader: Loader, most: int) -> range:
    """Batches to evaluate: at most `most`, fewer when the held-out episodes have fewer."""
    return range(min(most, math.ceil(loader.batches_per_epoch)))
