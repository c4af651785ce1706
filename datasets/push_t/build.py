"""Builds the RLDS dataset `push_t` from the human demonstrations, without TensorFlow.

Example:
    python datasets/push_t/build.py --replay pusht_cchi_v7_replay.zarr --out ~/rlds

Writes OUT/push_t/1.0.0 (29 MB; 22 s on two cores). Without --replay the
recordings are downloaded from their official address into OUT/downloads/push_t.
"""

import argparse
import os
import sys
from pathlib import Path

# Building is numpy work; a GPU would only be held without being used.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from push_t_dataset_builder import PushT

from arp_jax.data import push_t_rlds, rlds_build
from arp_jax.data.formats.zarr_replay import OFFICIAL_URL, download_replay, open_replay


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--replay", type=Path, help=f"zarr folder; default: download {OFFICIAL_URL}"
    )
    parser.add_argument("--out", type=Path, required=True, help="data folder (TFDS data_dir)")
    args = parser.parse_args(argv)

    def make_builder() -> PushT:
        folder = args.replay or download_replay(args.out / "downloads" / "push_t")
        return PushT(replay=open_replay(folder), data_dir=str(args.out))

    return rlds_build.run_build(make_builder, push_t_rlds.summary)


if __name__ == "__main__":
    sys.exit(main())
