"""Builds the RLDS dataset `push_t_planned`: demonstrations planned in our own simulator.

Example:
    python datasets/push_t_planned/build.py --episodes 200 --seed 0 --out ~/rlds

Writes OUT/push_t_planned/1.0.0; needs no download. The result depends on the arguments alone. A
finished dataset of the same arguments is left as it is.
"""

import argparse
import os
import sys
from pathlib import Path

# Minutes of small programs: not worth holding a GPU for. Set JAX_PLATFORMS to choose otherwise.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from push_t_planned_dataset_builder import PushTPlanned

from arp_jax.data import push_t_rlds, rlds_build


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=200, help="successful demonstrations")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--images", action="store_true", help="add the 96x96 image to every step")
    parser.add_argument("--out", type=Path, required=True, help="data folder (TFDS data_dir)")
    args = parser.parse_args(argv)

    def make_builder() -> PushTPlanned:
        return PushTPlanned(
            episodes=args.episodes, seed=args.seed, images=args.images, data_dir=str(args.out)
        )

    return rlds_build.run_build(make_builder, push_t_rlds.summary)


if __name__ == "__main__":
    sys.exit(main())
