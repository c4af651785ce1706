"""Converts demonstrations in the HDF5 layout of robomimic (MimicGen, LIBERO) to RLDS.

Examples:
    python datasets/convert_robomimic.py image_v15.hdf5 --name lift_ph --out ~/rlds \\
        --language "lift the cube" --camera agentview_image=image \\
        --camera robot0_eye_in_hand_image=wrist_image \\
        --state robot0_eef_pos,robot0_eef_quat,robot0_gripper_qpos
    python datasets/convert_robomimic.py low_dim_v15.hdf5 --name lift_valid --filter_key valid \\
        --out ~/rlds
    python datasets/convert_robomimic.py libero_goal/ --name libero_goal --out ~/rlds \\
        --upside_down --camera agentview_rgb=image --camera eye_in_hand_rgb=wrist_image

Actions of robosuite's OSC_POSE controller (-1..1) become changes in m and rad and a gripper command
(1 = open), as env_args in the file says; --raw_actions keeps what is stored. The rate comes from
env_args, the instruction from the file where it has one. Written in parallel; a run that was
interrupted continues when started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats import robomimic_convert
from arp_jax.data.formats import robomimic_hdf5 as robomimic
from arp_jax.data.formats.conversion_run import specs_of, write_dataset
from arp_jax.data.formats.measured_specs import measure
from arp_jax.training.command_line import exit_status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "robomimic")
    add = parser.add_argument
    add("source", type=Path, nargs="+", help=".hdf5 files, or folders with them")
    add("--filter_key", help="only demonstrations that mask/FILTER_KEY names")
    add("--rate", type=float, help="control rate, Hz; default: what the file says")
    add("--raw_actions", action="store_true", help="store actions as they are in the file")
    add("--upside_down", action="store_true", help="pictures stand on their head (LIBERO)")
    common.add_format_flag(parser, "png")
    common.add_naming_flags(parser, "actions")
    return parser.parse_args(argv)


def list_jobs(flags: argparse.Namespace) -> tuple[list[robomimic_convert.DemoJob], float]:
    """All demonstrations in order, and their rate.

    Raises:
        ValueError: files of different rates or controllers, or a rate that nobody knows.
    """
    sentences = common.sentences_of(flags)
    infos = {path: robomimic.read_info(path) for path in robomimic_convert.list_files(flags.source)}
    rates = {flags.rate or info.rate_hz for info in infos.values()}
    if len(rates) > 1 or None in rates:
        raise ValueError(f"control rates of the files: {rates}; say which with --rate")
    with_text = sentences.given or any(info.language for info in infos.values())
    jobs = []
    for path, info in infos.items():
        metric = info.controller if not flags.raw_actions and flags.action == "actions" else None
        for demo in robomimic.list_demos(path, flags.filter_key):
            text = sentences.of(f"{path.name}/{demo}") or info.language
            instruction = text if with_text else None
            jobs.append(robomimic_convert.DemoJob(path, demo, info.env_name, instruction, metric))
    sentences.check([f"{job.path.name}/{job.demo}" for job in jobs])
    if len({job.controller is None for job in jobs}) > 1:
        raise ValueError("the files' controllers differ; convert them apart or use --raw_actions")
    return jobs, float(rates.pop() or 0.0)


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    jobs, rate = list_jobs(flags)
    first = robomimic.read_demo(jobs[0].path, jobs[0].demo)
    naming = common.naming_of(
        flags,
        {key: key.lower() for key in first.vectors},
        {key: key.lower() for key in first.pictures},
        "rewards" if "rewards" in first.arrays else None,
    )
    measured = measure(naming, robomimic_convert.found_demos(jobs))
    controller, known = jobs[0].controller, robomimic.read_info(jobs[0].path).controller
    if known is None and not flags.raw_actions:
        print("actions are stored as they are: env_args tells of no OSC_POSE controller of one arm")
    specs = specs_of(
        flags,
        measured,
        robomimic_convert.default_meanings(naming, controller),
        rate_hz=rate,
        absolute=_absolute(flags, known, len(measured.low)),
        gripper=None if controller is None else "open=1",
    )
    coding = common.coding_of(flags)
    write_dataset(
        flags,
        specs,
        jobs,
        robomimic_convert.reader(naming, measured.cameras, coding, flags.upside_down),
        description=f"{len(jobs)} demonstrations in robomimic's layout: {', '.join(_names(jobs))}.",
        digest=measured.digest,
        metadata=robomimic_convert.METADATA,
        reward="as recorded" if naming.reward else None,
        language=jobs[0].instruction is not None,
        image_format=coding.image_format,
    )


def _absolute(
    flags: argparse.Namespace, controller: robomimic.Controller | None, size: int
) -> Sequence[bool] | bool:
    """Which actions are targets: of the known controller, the gripper's alone."""
    stored = controller is not None and flags.action == "actions"
    known = robomimic_convert.METRIC_ABSOLUTE
    return known if stored and size == len(known) else True


def _names(jobs: Sequence[robomimic_convert.DemoJob]) -> list[str]:
    return sorted({job.env_name or "an unnamed task" for job in jobs})


def main(argv: Sequence[str]) -> int:
    """Converts demonstrations; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
