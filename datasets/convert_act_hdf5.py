"""Converts episodes in the HDF5 layout of ACT and Mobile ALOHA to RLDS.

Examples:
    python datasets/convert_act_hdf5.py ~/aloha/wipe_wine --name wipe_wine --out ~/rlds \\
        --language "wipe the wine off the table" --camera cam_high=image \\
        --camera cam_left_wrist=wrist_image --camera cam_right_wrist=wrist_image_2
    python datasets/convert_act_hdf5.py ACT --name insertion --out ~/rlds --rate 50 --mirror
    python datasets/convert_act_hdf5.py my_arm --out ~/rlds --rate 10 --color_order bgr \\
        --degrees --gripper_percent

Reads episode_*.hdf5 and mirror_episode_*.hdf5, with raw or JPEG pictures, and base velocities where
they are. Written in parallel; a run that was interrupted continues when started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data.formats import act_convert
from arp_jax.data.formats import act_hdf5_read as act
from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats.conversion_run import specs_of, write_dataset
from arp_jax.data.formats.measured_specs import measure
from arp_jax.training.command_line import exit_status

_DESCRIPTION = "Episodes recorded in the HDF5 layout of ACT ({count}, {mirrored} of them mirrored)."


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "act")
    add = parser.add_argument
    add("source", type=Path, help="folder with .hdf5 files, or one file")
    add("--rate", type=float, default=50.0, help="control rate, Hz; default %(default)s")
    add("--name_filter", default="*", help="shell pattern of file names; default all")
    add("--skip_mirrored", action="store_true", help="leave out files named *mirror*")
    add("--mirror", action="store_true", help="add the mirror image of every episode")
    add(
        "--color_order",
        choices=("rgb", "bgr"),
        default="rgb",
        help="of pictures as ACT's scripts see them: bgr where OpenCV read the camera and nobody "
        "converted; compressed pictures then keep their bytes",
    )
    add(
        "--base",
        choices=("auto", "always", "never"),
        default="auto",
        help="two more actions for a mobile base; auto: if any file has base_action",
    )
    add("--smooth_base", action="store_true", help="mean of five steps, as ACT++ trains")
    add(
        "--shift_real",
        action="store_true",
        help="pair observations of real robots with the action of the step before, as ACT does",
    )
    add("--degrees", action="store_true", help="joints are in degrees; stored in rad")
    add("--gripper_percent", action="store_true", help="grippers are 0..100; stored as 0..1")
    common.add_format_flag(parser, None)
    common.add_naming_flags(parser, None)
    return parser.parse_args(argv)


def list_jobs(flags: argparse.Namespace, paths: Sequence[Path]) -> list[act_convert.ActJob]:
    """All episodes in order, then their mirror images."""
    root = flags.source if flags.source.is_dir() else flags.source.parent
    sentences = common.sentences_of(flags)
    names = [path.relative_to(root).as_posix() for path in paths]
    sentences.check(names)
    found = [path for path in paths if act.is_mirrored(path)]
    if flags.mirror and found:
        raise ValueError(f"--mirror: {found[0]} is a mirror image; add --skip_mirrored")
    jobs = []
    for mirrored in (False, True) if flags.mirror else (False,):
        for path, name in zip(paths, names, strict=True):
            text = sentences.of(name) if sentences.given else None
            if text and mirrored:
                text = act.mirror_sentence(text)
            jobs.append(act_convert.ActJob(path, name, text, mirrored))
    return jobs


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    paths = act.find_episodes(flags.source, flags.name_filter, flags.skip_mirrored)
    layouts = [act.read_layout(path) for path in paths]
    layout = layouts[0]
    jpeg = all(other.compressed for other in layouts)
    has_base = any("base_action" in other.sizes for other in layouts)
    options = act_convert.ActOptions(
        coding=common.coding_of(flags, "jpeg" if jpeg and layout.cameras else "png"),
        color_order=flags.color_order,
        base=flags.base == "always" or (flags.base == "auto" and has_base),
        smooth_base=flags.smooth_base,
        shift_real=flags.shift_real,
        degrees=flags.degrees,
        gripper_percent=flags.gripper_percent,
    )
    flags.action = "action"
    vectors = {k: name for k, name in act_convert.VECTORS.items() if k in layout.sizes}
    naming = common.naming_of(flags, vectors, {name: name for name in layout.cameras})
    jobs = list_jobs(flags, paths)
    measured = measure(naming, (act_convert.found_episode(job, options) for job in jobs))
    arms = layout.sizes["action"] in (7, 14)
    specs = specs_of(
        flags,
        measured,
        act_convert.default_meanings(layout, options),
        rate_hz=flags.rate,
        gripper="open=1" if arms else None,
    )
    act_convert.check_radians(measured, specs.action.unit)
    write_dataset(
        flags,
        specs,
        jobs,
        act_convert.reader(naming, measured, options),
        description=_DESCRIPTION.format(count=len(jobs), mirrored=sum(j.mirrored for j in jobs)),
        digest=measured.digest,
        metadata=act_convert.METADATA,
        reward=None,
        language=jobs[0].instruction is not None,
        image_format=options.coding.image_format,
    )


def main(argv: Sequence[str]) -> int:
    """Converts ACT's episodes; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
