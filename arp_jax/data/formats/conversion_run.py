"""What every conversion command does once its reader has measured the source.

In: flags (`conversion_flags.py`), measurements (`measured_specs.py`), jobs and their reader. Out:
the finished RLDS folder (`rlds_write.py`), and a summary of it.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arp_jax.data.episode_rlds import episode_features
from arp_jax.data.formats.conversion_flags import meanings_of, sentences_of
from arp_jax.data.formats.measured_specs import (
    Meaning,
    Measured,
    action_spec,
    given_specs,
    recorded_observation,
)
from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.data.rlds_write import Conversion, Read, convert

# Flags that change how and where, but not what is written; files count by their content.
_NOT_THE_RESULT = {
    *("source", "out", "name", "workers", "per_shard", "traceback", "license"),
    *("specs", "language_file"),
}


def specs_of(
    flags: argparse.Namespace,
    measured: Measured,
    defaults: Mapping[str, Meaning],
    *,
    rate_hz: float,
    absolute: Sequence[bool] | bool = True,
    gripper: str | None = None,
) -> DatasetSpecs:
    """What --specs says, or --unit and the other flags, or the defaults.

    Args:
        flags: with those of `add_meaning_flags`.
        measured: what was found.
        defaults: of features and "action", as the reader knows them; those that are absent, or
            have another number of dimensions, are unknown.
        rate_hz, absolute, gripper: of the action.

    Raises:
        ValueError: the flags do not fit what was found.
    """
    if flags.specs is not None:
        given = [f for f in ("unit", "frame", "dims", "gripper", "relative") if getattr(flags, f)]
        if given:
            raise ValueError(f"--{given[0]}: --specs says this already; leave one of them out")
        return given_specs(flags.specs, measured)
    sizes = {**measured.sizes, "action": len(measured.low)}
    fitting = {
        name: defaults[name]
        if name in defaults and len(defaults[name].dims) in (0, size)
        else Meaning()
        for name, size in sizes.items()
    }
    meanings = meanings_of(flags, fitting)
    action = action_spec(
        measured.low,
        measured.high,
        meanings["action"],
        rate_hz=rate_hz,
        absolute=False if flags.relative else absolute,
        gripper=flags.gripper or gripper,
    )
    return DatasetSpecs(recorded_observation(measured, meanings), action)


def write_dataset(
    flags: argparse.Namespace,
    specs: DatasetSpecs,
    jobs: Sequence[Any],
    read: Read,
    *,
    description: str,
    digest: str,
    metadata: Mapping[str, Any],
    reward: str | None,
    language: bool,
    image_format: str,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Converts all jobs and prints a summary; returns the dataset's folder.

    Args:
        flags: with those of `command_parser`.
        specs: what the numbers mean.
        jobs, read: as in `rlds_write.convert`.
        description: of the dataset.
        digest: of the source's content.
        metadata, reward, language, image_format, extra: as in `episode_rlds.episode_features`.

    Raises:
        ValueError: as `rlds_write.convert` does.
    """
    features = episode_features(
        specs.observation,
        specs.action,
        metadata=metadata,
        reward=reward,
        language=language,
        image_format=image_format,
        extra=extra,
    )
    conversion = Conversion(
        name=flags.name,
        specs=specs,
        features=features,
        description=description,
        arguments=arguments_of(flags, specs, digest),
        license=flags.license,
    )
    folder = convert(
        flags.out, conversion, jobs, read, workers=flags.workers, per_shard=flags.per_shard
    )
    print(summary(folder))
    return folder


def arguments_of(flags: argparse.Namespace, specs: DatasetSpecs, digest: str) -> dict[str, Any]:
    """What determines the result, for build.json: the content of files, not where they lie."""
    kept = {k: v for k, v in vars(flags).items() if k not in _NOT_THE_RESULT}
    content = {
        "source_sha256": digest,
        "sentences": dict(sentences_of(flags).by_episode),
        "specs": {"observation": specs.observation.to_json(), "action": specs.action.to_json()},
    }
    return dict(json.loads(json.dumps(kept | content)))


def summary(folder: Path) -> str:
    """Counts of a finished dataset, read back from its files, as a few printable lines."""
    dataset = open_dataset(folder)
    lengths = [len(episode["is_first"]) for episode in dataset.episodes("train", ["is_first"])]
    names = [name for name in dataset.features if name.startswith("observation/")]
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return (
        f"dataset   {folder} ({size:.1f} MB)\n"
        f"episodes  {len(lengths)} of {min(lengths)} to {max(lengths)} steps\n"
        f"steps     {sum(lengths)}\n"
        f"contents  {', '.join(name.split('/', 1)[1] for name in names)}"
    )
