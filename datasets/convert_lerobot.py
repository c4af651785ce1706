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

from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats import lerobot_rlds
from arp_jax.data.formats.conversion_run import specs_of, write_dataset
from arp_jax.data.formats.lerobot_layout import SPECS, default_names
from arp_jax.data.formats.lerobot_read import LeRobotDataset, open_lerobot
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
        default_names(list(dataset.vectors)),
        default_names(list(dataset.cameras)),
        lerobot_rlds.REWARD if lerobot_rlds.REWARD in dataset.vectors else None,
    )
    naming = lerobot_rlds.resolve_naming(dataset, naming)
    measured = lerobot_rlds.measure_info(dataset, naming)
    flags.specs = flags.specs or _stored_specs(flags, dataset)
    specs = specs_of(
        flags,
        measured,
        lerobot_rlds.default_meanings(dataset, naming),
        rate_hz=dataset.info.rate_hz,
    )
    if specs.action.rate_hz != dataset.info.rate_hz:
        raise ValueError(
            f"{flags.specs}: actions at {specs.action.rate_hz} Hz, {dataset.folder} has "
            f"{dataset.info.rate_hz}"
        )
    job = lerobot_rlds.make_job(
        dataset,
        naming,
        measured,
        common.coding_of(flags),
        successful=flags.successful,
        sentences=common.sentences_of(flags),
    )
    write_dataset(
        flags,
        specs,
        dataset.episodes[: flags.episodes],
        lerobot_rlds.example_reader(job),
        description=f"Converted from LeRobot {dataset.info.version}, robot {dataset.info.robot}.",
        digest=measured.digest,
        metadata=lerobot_rlds.METADATA,
        reward=f"LeRobot's {naming.reward}" if naming.reward else None,
        language=False,
        image_format=job.coding.image_format,
        extra=lerobot_rlds.language_features(job),
    )


def _stored_specs(flags: argparse.Namespace, dataset: LeRobotDataset) -> Path | None:
    """What our exporter left in the folder, unless flags describe the numbers."""
    path = dataset.folder / SPECS
    return path if path.is_file() and not (flags.unit or flags.frame or flags.dims) else None


def main(argv: Sequence[str]) -> int:
    """Converts a LeRobot dataset; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
