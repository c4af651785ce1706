"""Converts a replay of Diffusion Policy (zarr, a folder or a .zip) to RLDS.

Examples:
    python datasets/convert_diffusion_policy_zarr.py pusht_cchi_v7_replay.zarr --name push_t_raw \\
        --out ~/rlds --rate 10 --camera img=image --state state --unit px --frame world
    python datasets/convert_diffusion_policy_zarr.py square.zarr.zip --name square --out ~/rlds \\
        --rate 20 --camera agentview_image=image --camera robot0_eye_in_hand_image=wrist_image \\
        --state robot0_eef_pos,robot0_eef_quat,robot0_gripper_qpos --language "put it on the peg"

Takes any replay: arrays under data/, cut into episodes by meta/episode_ends. Push-T with rewards,
key-points and its simulator's specs is made by datasets/push_t/build.py. Written in parallel; a run
that was interrupted continues when started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats import zarr_convert
from arp_jax.data.formats.conversion_run import specs_of, write_dataset
from arp_jax.data.formats.measured_specs import measure
from arp_jax.data.formats.zarr_replay import open_buffer
from arp_jax.training.command_line import exit_status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "replay")
    add = parser.add_argument
    add("source", type=Path, help="folder that ends in .zarr, or zip file of one")
    add("--rate", type=float, required=True, help="control rate, Hz")
    add("--reward", help="array of rewards")
    add("--episodes", type=int, help="only the first ones")
    add(
        "--fill_missing",
        action="store_true",
        help="chunks without a file hold the fill value (zarr leaves such chunks out, but so does "
        "a copy that was interrupted: an error without this flag)",
    )
    common.add_format_flag(parser, "png")
    common.add_naming_flags(parser, "action")
    return parser.parse_args(argv)


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    replay = open_buffer(flags.source, None, flags.fill_missing)
    vectors, cameras = zarr_convert.found_arrays(replay, (*flags.action.split(","), flags.reward))
    naming = common.naming_of(
        flags, {n: n.lower() for n in vectors}, {n: n.lower() for n in cameras}, flags.reward
    )
    sentences = common.sentences_of(flags)
    bounds = replay.bounds()[: flags.episodes]
    sentences.check([str(number) for number in range(len(bounds))])
    jobs = [
        zarr_convert.ZarrJob(
            number, start, stop, sentences.of(str(number)) if sentences.given else None
        )
        for number, (start, stop) in enumerate(bounds)
    ]
    found = zarr_convert.found_episodes(flags.source, replay, naming, jobs)
    measured = measure(naming, found)
    specs = specs_of(flags, measured, {}, rate_hz=flags.rate)
    coding = common.coding_of(flags)
    write_dataset(
        flags,
        specs,
        jobs,
        zarr_convert.reader(flags.source, flags.fill_missing, naming, measured.cameras, coding),
        description=f"{len(jobs)} recordings of the Diffusion-Policy replay {flags.source.name}.",
        digest=measured.digest,
        metadata=zarr_convert.METADATA,
        reward="as recorded" if flags.reward else None,
        language=sentences.given,
        image_format=coding.image_format,
    )


def main(argv: Sequence[str]) -> int:
    """Converts a replay; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
