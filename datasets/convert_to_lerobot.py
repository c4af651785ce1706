"""Writes an RLDS dataset as a LeRobot v3.0 dataset, which lerobot loads as it is.

Examples:
    python datasets/convert_to_lerobot.py ~/rlds/push_t/1.0.0 --out ~/lerobot/push_t \\
        --rename agent_pos=observation.state --task "push the T to its place"
    python datasets/convert_to_lerobot.py ~/rlds/bridge/1.0.0 --out ~/lerobot/bridge --codec av1

Pictures become mp4 (yuv420p), or stay as they are with --pictures image. Several wordings of an
instruction are listed as tasks of the episode, the first one is the task of its steps; is_terminal
becomes next.success. Units, frames and limits, for which LeRobot has no place, are kept in
meta/specs.json. Written in parallel into OUT.incomplete, which is renamed when everything is there;
a run that was interrupted continues when started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data.formats.lerobot_plan import IMAGE, VIDEO, make_plan
from arp_jax.data.formats.lerobot_read import open_lerobot
from arp_jax.data.formats.lerobot_write import write_lerobot
from arp_jax.data.formats.video import CODECS
from arp_jax.data.source import open_source
from arp_jax.training.command_line import exit_status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", type=Path, help="dataset folder with features.json")
    add("--out", type=Path, required=True, help="folder to make")
    add("--card", help="name or file of the card of a foreign dataset; default: by its name")
    add("--split", default="train", help="default %(default)s")
    add("--episodes", type=int, help="the first so many only")
    add("--leave_out", action="append", default=[], metavar="NAME", help="an observation")
    add("--rename", action="append", default=[], metavar="NAME=KEY", help="LeRobot's key of it")
    add("--pictures", choices=(VIDEO, IMAGE), default=VIDEO, help="default %(default)s")
    add("--codec", choices=CODECS, default="h264", help="of videos; default %(default)s")
    add("--quality", type=int, help="of videos (crf): lower is better and larger")
    add("--task", default="", help="of episodes without an instruction")
    add("--robot", default="unknown", help="robot_type in info.json")
    add("--data_mb", type=float, default=100.0, help="of a parquet file; default %(default)s")
    add("--video_mb", type=float, default=200.0, help="of an mp4 file; default %(default)s")
    add("--workers", type=int, default=0, help="processes; default: one a core")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")
    return parser.parse_args(argv)


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    renamed = dict(text.split("=", 1) for text in flags.rename if "=" in text)
    if len(renamed) < len(flags.rename):
        raise ValueError(f"--rename {' '.join(flags.rename)}: write each as NAME=KEY, once")
    plan = make_plan(
        open_source(flags.source, flags.card),
        flags.split,
        card=flags.card,
        leave_out=flags.leave_out,
        rename=renamed,
        pictures=flags.pictures,
        codec=flags.codec,
        quality=flags.quality,
        episodes=flags.episodes,
        task=flags.task,
        robot=flags.robot,
        data_mb=flags.data_mb,
        video_mb=flags.video_mb,
    )
    folder = write_lerobot(flags.out, plan, workers=flags.workers)
    dataset = open_lerobot(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(
        f"dataset   {folder} ({size:.1f} MB, LeRobot {dataset.info.version})\n"
        f"episodes  {len(dataset.episodes)}\n"
        f"steps     {sum(episode.length for episode in dataset.episodes)}\n"
        f"contents  {', '.join(dataset.info.features)}"
    )


def main(argv: Sequence[str]) -> int:
    """Writes a LeRobot dataset; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
