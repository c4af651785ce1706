"""Looks at one episode: a single HTML page with frames, plots and words.

    python -m arp_jax.data.view data/push_t/1.0.0:train:3
    python -m arp_jax.data.view data/bridge_dataset/1.0.0:val:0 --out clip.html --width 480
    python -m arp_jax.data.view runs/debug/pack:12
    python -m arp_jax.data.view recordings/episode_7.hdf5 --rerun episode_7.rrd

EPISODE is DIR:SPLIT:NUMBER of an RLDS dataset, PACK:NUMBER of a pack, an HDF5 file of ACT, or
FILE.hdf5:DEMO of robomimic. Out: the page, on request a recording of the rerun viewer. The page
needs nothing else; a slider, keys and fingers move through the steps of frames and plots alike.
Exit status: 0, or 2 with one line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arp_jax.data.rerun_export import import_rerun, write_rerun
from arp_jax.data.view_page import write_episode_page
from arp_jax.data.viewed_episode import FORMS, read_viewed


def view(
    address: str,
    out: Path | None = None,
    *,
    width: int = 320,
    stride: int = 0,
    card: str | None = None,
    rerun: Path | None = None,
) -> Path:
    """Writes the page of an episode; returns where.

    Args:
        address: of the episode, see the module.
        out: the page; None makes a name of the address, in the current directory.
        width: of the thumbnails in pixels.
        stride: steps between two frames; 0 chooses (`view_page.MAX_FRAMES`).
        card: of a foreign dataset; None looks for one by the dataset's name.
        rerun: also write a recording there.

    Raises:
        ValueError: no such episode, or it cannot be read.
        ImportError: `rerun` without the package.
    """
    if rerun is not None:
        import_rerun()  # before the work
    episode = read_viewed(address, card)
    out = out if out is not None else Path(_file_name(address))
    _write(out, write_episode_page(episode, width, stride))
    if rerun is not None:
        write_rerun(rerun, episode)
    return out


def _file_name(address: str) -> str:
    """ "data/push_t/1.0.0:train:3" -> "push_t_1.0.0_train_3.html"."""
    path, _, rest = address.partition(":")
    parts = [part for part in Path(path).parts[-2:] if part not in ("/", ".", "..")]
    return "_".join([*parts, *rest.split(":")]).strip("_").replace(".hdf5", "") + ".html"


def _write(path: Path, text: str) -> None:
    """Writes a file so that a page that is there is whole."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.view",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("episode", metavar="EPISODE", help=FORMS)
    add("--out", type=Path, metavar="FILE.html", help="default: a name made of EPISODE")
    add("--width", type=int, default=320, help="of the frames in pixels; default: %(default)s")
    add("--stride", type=int, default=0, metavar="N", help="a frame every N steps; default: chosen")
    add("--card", help="of a foreign dataset: a name or a file; default: found by the name")
    add("--rerun", type=Path, metavar="FILE.rrd", help="also write a recording for rerun")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        out = view(
            args.episode,
            args.out,
            width=args.width,
            stride=args.stride,
            card=args.card,
            rerun=args.rerun,
        )
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    if args.rerun is not None:
        print(f"{args.rerun} ({args.rerun.stat().st_size / 1e6:.1f} MB): rerun {args.rerun}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
