"""A run's parameters become a PyTorch state dict under the published names.

A run directory flows in; a file that the publisher's module loads with `load_state_dict(strict=
True)` flows out: .safetensors or .npz without PyTorch, .pth or .pt with it. The inverse of
`python -m arp_jax.import_checkpoint`, bit for bit. What ACT keeps in files of its own is written
beside it: weights_dataset_stats.pkl, and weights_latent_model.pth for a policy of codes.

Examples:
    python -m arp_jax.export_torch runs/imported weights.safetensors
    python -m arp_jax.export_torch runs/push_t_image weights.pth --no_ema
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from arp_jax.interop.dataset_stats import write_dataset_stats
from arp_jax.interop.published import conversion
from arp_jax.interop.torch_file import write_state
from arp_jax.policies.preprocessed import network_of
from arp_jax.training.checkpoint import load_run
from arp_jax.training.command_line import add_run_flags, exit_status, run_parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.export_torch", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run directory")
    add("out", type=Path, metavar="OUT", help="file to write: .safetensors, .npz, .pth or .pt")
    add_run_flags(parser)
    return parser.parse_args(argv)


def export(flags: argparse.Namespace) -> None:
    """Converts the run's parameters and writes them."""
    loaded = load_run(flags.run, step=flags.step, use_ema=not flags.no_ema)
    rules = conversion(loaded.config["policy"]["name"])
    trained = (loaded.params, network_of(loaded.policy), loaded.normalizer)
    state, beside = rules.to_torch(*trained), rules.beside_to_torch(*trained)
    write_state(flags.out, state)
    for ending, content in beside.items():
        path = flags.out.with_name(f"{flags.out.stem}_{ending}")
        if path.suffix == ".pkl":
            write_dataset_stats(path, content)
        else:
            path = path.with_name(path.name + flags.out.suffix)
            write_state(path, content)
        print(f"{path}: {len(content)} arrays")
    size = flags.out.stat().st_size / 1e6
    which = "last parameters" if flags.no_ema else "moving average"
    print(f"{flags.out}: {len(state)} tensors, {size:.1f} MB ({which} of step {loaded.step})")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    logging.set_verbosity(logging.ERROR)  # Orbax narrates each read
    return exit_status(lambda: export(flags), flags.traceback)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
