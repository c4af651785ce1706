"""Converts a LeRobot dataset (codebase version 2.0, 2.1 or 3.0) to RLDS, without torch.

Examples:
    python datasets/convert_lerobot.py ~/lerobot/svla_so101_pickplace --name so101_pickplace \\
        --out ~/rlds --unit deg --frame joint --gripper open=1 \\
        --camera up=image --camera side=image_2 --vector state --successful
    python datasets/convert_lerobot.py ~/lerobot/pusht --name pusht --out ~/rlds --unit px \\
        --frame world --image_format png

LeRobot names the dimensions but not their units, frames and conventions: say them with flags, or
give the specs.json of a dataset that this one shall join. What `convert_to_lerobot.py` wrote needs
neither. Limits are those of the stored statistics; depth maps and texts other than the tasks are
left out; an episode's name for --language_file is its number. Written in parallel; a run that was
interrupted continues when started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data import conversion_flags as common
from arp_jax.data import lerobot_rlds
from arp_jax.data.array_episodes import Naming
from arp_jax.data.lerobot_layout import SPECS
from arp_jax.data.lerobot_read import LeRobotDataset, open_lerobot
from arp_jax.data.measured_specs import action_spec, given_specs, recorded_observation
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rlds_write import Conversion, convert
from arp_jax.training.command_line import exit_status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "lerobot")
    add = parser.add_argument
    add("source", type=Path, help="folder with meta/info.json")
    add("--successful", action="store_true", help="every episode ends in success")
    add("--episodes", type=int, help="the first so many only")
    common.add_format_flag(parser, "jpeg")
    common.add_naming_flags(parser, lerobot_rlds.ACTION)
    return parser.parse_args(argv)


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    dataset = open_lerobot(flags.source)
    naming = common.naming_of(
        flags,
        lerobot_rlds.default_names(list(dataset.vectors)),
        lerobot_rlds.default_names(list(dataset.cameras)),
        lerobot_rlds.REWARD if lerobot_rlds.REWARD in dataset.vectors else None,
    )
    naming = lerobot_rlds.resolve_naming(dataset, naming)
    specs = _specs(flags, dataset, naming)
    job = lerobot_rlds.make_job(
        dataset,
        naming,
        common.coding_of(flags),
        successful=flags.successful,
        sentences=common.sentences_of(flags),
    )
    conversion = Conversion(
        name=flags.name,
        specs=specs,
        features=lerobot_rlds.rlds_features(job, specs),
        description=f"Converted from LeRobot {dataset.info.version}, robot {dataset.info.robot}.",
        arguments=common.arguments_of(flags, specs, lerobot_rlds.source_digest(dataset)),
        license=flags.license,
    )
    folder = convert(
        flags.out,
        conversion,
        dataset.episodes[: flags.episodes],
        lerobot_rlds.example_reader(job),
        workers=flags.workers,
        per_shard=flags.per_shard,
    )
    print(common.summary(folder))


def _specs(flags: argparse.Namespace, dataset: LeRobotDataset, naming: Naming) -> DatasetSpecs:
    meanings = lerobot_rlds.default_meanings(dataset, naming)
    sizes = lerobot_rlds.feature_sizes(dataset, naming)
    cameras = lerobot_rlds.camera_specs(dataset, naming)
    dims = meanings[lerobot_rlds.ACTION].dims
    stored, described = dataset.folder / SPECS, flags.unit or flags.frame or flags.dims
    path = flags.specs or (stored if stored.is_file() and not described else None)
    if path is not None:
        specs = given_specs(path, sizes, cameras, len(dims))
        if specs.action.rate_hz != dataset.info.rate_hz:
            raise ValueError(
                f"{path}: actions at {specs.action.rate_hz} Hz, "
                f"{dataset.folder} has {dataset.info.rate_hz} a second"
            )
        return specs
    meanings = common.meanings_of(flags, meanings)
    low, high = lerobot_rlds.action_range(dataset, naming)
    action = action_spec(
        low,
        high,
        meanings[lerobot_rlds.ACTION],
        rate_hz=dataset.info.rate_hz,
        # Changes of the arm; a gripper is told where to go.
        absolute=[not flags.relative or "gripper" in dim.lower() for dim in dims],
        gripper=flags.gripper,
    )
    return DatasetSpecs(recorded_observation(sizes, meanings, cameras), action)


def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
