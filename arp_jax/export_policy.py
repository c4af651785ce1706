"""A trained policy leaves the training stack: RUN -> artifact, checked against the live policy.

A run directory flows in; DIR/{manifest.json, policy.stablehlo, params.safetensors, stats.json} flow
out, loadable with numpy, jax and safetensors alone (`arp_jax.export.runtime`).

Examples:
    python -m arp_jax.export_policy runs/quickstart
    python -m arp_jax.export_policy runs/quickstart --out artifacts/push_t --platforms cpu,cuda
    python -m arp_jax.export_policy runs/quickstart --weights int8
    python -m arp_jax.export_policy --inspect runs/quickstart/artifact
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from arp_jax import compile_cache
from arp_jax.export.artifact import PLATFORMS, ExportSource, write_artifact
from arp_jax.export.description import describe
from arp_jax.export.runtime import load_artifact
from arp_jax.export.weights import KINDS
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import load_run
from arp_jax.training.command_line import add_run_flags, exit_status, run_parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = run_parser("arp_jax.export_policy", __doc__)
    add = parser.add_argument
    add("run", nargs="?", type=Path, metavar="RUN", help="run directory of arp_jax.train")
    add("--out", type=Path, metavar="DIR", help="artifact folder; default RUN/artifact")
    add("--platforms", default=",".join(PLATFORMS), help="some of cpu,cuda,tpu; default all")
    add("--weights", choices=KINDS, default="float32", help="how parameters are kept on the disk")
    add("--inspect", type=Path, metavar="DIR", help="check and describe an existing artifact")
    add_run_flags(parser)
    arguments = parser.parse_args(argv)
    if (arguments.run is None) == (arguments.inspect is None):
        parser.error("give either RUN or --inspect DIR")
    return arguments


def export(flags: argparse.Namespace) -> dict[str, Any]:
    """Exports the run's policy; returns the manifest."""
    start = run_dir.describe_start()
    loaded = load_run(flags.run, step=flags.step, use_ema=not flags.no_ema)
    source = ExportSource(
        policy=loaded.policy,
        params=loaded.params,
        normalizer=loaded.normalizer,
        stats=loaded.stats,
        name=loaded.config["policy"]["name"],
        provenance={
            "run": flags.run.resolve().name,
            "step": loaded.step,
            "parameters": "last" if flags.no_ema else "ema",
            "trained_at_revision": training_revision(flags.run),
            "exported_at_revision": start["revision"],
            "exported": start["started"],
        },
    )
    out = flags.out if flags.out is not None else flags.run / "artifact"
    platforms = [name.strip() for name in flags.platforms.split(",") if name.strip()]
    manifest = write_artifact(source, out, platforms, flags.weights)
    print(describe(out, manifest))
    return manifest


def training_revision(run: Path) -> str:
    """Git revision of the run's last start, "unknown" when the run has no record of it."""
    path = run / "run.json"
    if not path.is_file():
        return "unknown"
    return json.loads(path.read_text())["starts"][-1].get("revision", "unknown")


def run_command(flags: argparse.Namespace) -> None:
    """Describes an artifact, or writes one."""
    if flags.inspect is not None:
        print(describe(flags.inspect, load_artifact(flags.inspect).manifest))
    else:
        export(flags)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    logging.set_verbosity(logging.ERROR)  # Orbax narrates each read
    compile_cache.enable()
    return exit_status(lambda: run_command(flags), flags.traceback)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
