"""What a policy costs before anything is trained: parameters, MACs and memory, module by module.

A config file flows in; tables flow out, and with --json a file. Multiply-accumulates are counted in
the program that jax traces and set beside XLA's own cost analysis of it; memory is XLA's analysis
of the compiled `act` and of a compiled training step. Nothing is run.

Examples:
    python -m arp_jax.profile --config=configs/push_t_image.py
    python -m arp_jax.profile --config=configs/push_t_image.py --batch 32 --json profile.json
    python -m arp_jax.profile --config=configs/arp_push_t_ablations.py:one_step --no_compile
    python -m arp_jax.profile --all        # a line for every configuration of the ARP paper
"""

import dataclasses
import json
import math
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from arp_jax import compile_cache
from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.policies.base import Batch, Policy
from arp_jax.policies.preprocessed import network_of
from arp_jax.training.command_line import check_only_flags, exit_status, parse_flags
from arp_jax.training.profiling import ModuleRow, Profile, profile_policy
from arp_jax.training.state import example_batch

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Pixels of RLBench's four cameras: the size of a point cloud.
CLOUD_POINTS = 4 * 128 * 128


@dataclasses.dataclass(frozen=True)
class PaperModel:
    """A configuration of the paper and what is known of it elsewhere.

    Attributes:
        name: how the table calls it.
        config: file in configs/, with ":variant" where it takes one.
        parameters: unique trained parameters of the reference implementation.
        macs: millions of multiply-accumulates of its inference at batch 1, matrix products and
            convolutions, as measured by running it (0: not measured).
        figure: parameters and MACs as the reference's README prints them. Its tool counts the
            image trunk of Push-T more than once and leaves attention products out everywhere.
    """

    name: str
    config: str
    parameters: int = 0
    macs: float = 0.0
    figure: str = ""


_PUSH_T = 14_333_861
_ABLATIONS = "arp_push_t_ablations.py"
PAPER = (
    PaperModel("Push-T", "push_t_image.py", _PUSH_T, 877.5, "23.5M, 3.7G"),
    PaperModel("Push-T one step", f"{_ABLATIONS}:one_step", 14_334_117),
    *(PaperModel(f"Push-T plan {n} a pass", f"{_ABLATIONS}:plan_{n}", _PUSH_T) for n in (1, 2, 3)),
    *(
        PaperModel(f"Push-T action {n} a pass", f"{_ABLATIONS}:action_{n}", _PUSH_T)
        for n in (1, 2, 4, 8)
    ),
    PaperModel("Push-T flat", f"{_ABLATIONS}:flat", 12_325_752),
    PaperModel("Push-T flat, discrete", f"{_ABLATIONS}:flat_discrete", 12_328_872),
    PaperModel("ALOHA", "arp_aloha.py", 59_159_886, 19_580.0, "47.6M, 17.8G"),
    PaperModel("RLBench ARP", "arp_rlbench.py", 72_115_622, 0.0, "71.9M, 56.2G"),
    PaperModel("RLBench ARP+", "arp_rlbench.py:plus", 74_014_374, 0.0, "73.8M, 57.4G"),
)


def load_config(name: str) -> dict[str, Any]:
    """Plain values of a file in configs/, "file.py" or "file.py:variant"."""
    file, _, variant = name.partition(":")
    if not (CONFIGS / file).is_file():
        raise ValueError(f"{CONFIGS / file} does not exist; --all needs a checkout of the project")
    sys.path.insert(0, str(CONFIGS.parent))  # config files import each other as configs.NAME
    try:
        get_config = runpy.run_path(str(CONFIGS / file))["get_config"]
    finally:
        sys.path.remove(str(CONFIGS.parent))
    return get_config(*([variant] if variant else [])).to_dict()


def batch_of(policy: Policy, size: int) -> Batch:
    """Zeros of everything that the policy's loss reads, also what no spec describes."""
    batch = example_batch(policy.spec, size)
    policy = network_of(policy)
    kind = type(policy).__name__
    if kind == "RlbenchArpPolicy":
        views: Any = policy.views.config  # type: ignore[attr-defined]
        shapes = {
            "point_cloud": (CLOUD_POINTS, 3),
            "colours": (CLOUD_POINTS, 3),
            "proprio": (views.proprio_dim,),
            "language": (views.language_tokens, views.language_dim),
        }
        batch["observation"] = {n: np.zeros((size, *s), np.float32) for n, s in shapes.items()}
    elif kind == "AlohaArpPolicy" and policy.config.guide_points:  # type: ignore[attr-defined]
        track = np.zeros((size, policy.spec.horizon, 2), np.float32)
        batch["task"] = dict.fromkeys(policy.config.guide_tracks, track)  # type: ignore[attr-defined]
    return batch


def profile_config(config: Mapping[str, Any], size: int, compile_programs: bool) -> Profile:
    """The profile of a config's policy; raises ValueError as `policy_of_config` does."""
    policy = policy_of_config(config)
    batch = batch_of(policy, size)
    return profile_policy(policy, size, batch=batch, compile_programs=compile_programs)


def module_table(profile: Profile) -> Table:
    """A line a part of the policy, below it one for each of its modules, and the sum."""
    table = Table(title=f"modules, batch {profile.batch_size} (M = 10^6)")
    table.add_column("module", overflow="fold")
    columns = ("parameters", "frozen", "MB", "act MMAC", "loss MMAC")
    for column in columns:
        table.add_column(column, justify="right")

    def cells(parameters: int, frozen: int, size: int, act: int, loss: int) -> list[str]:
        counts = [f"{parameters:,}", f"{frozen:,}" if frozen else "", f"{size / 1e6:.2f}"]
        return [*counts, *(f"{macs / 1e6:,.3f}" if macs else "" for macs in (act, loss))]

    names = ("parameters", "frozen", "size", "act_macs", "loss_macs")
    parts: dict[str, list[ModuleRow]] = {}
    for row in profile.rows:
        parts.setdefault(row.name.split("/")[0], []).append(row)
    for part, rows in parts.items():
        sums = [sum(getattr(row, name) for row in rows) for name in names]
        table.add_row(part, *cells(*sums), style="bold")
        for row in rows if len(rows) > 1 else ():
            own = row.name.partition("/")[2] or "(itself)"
            table.add_row(f"  {own}", *cells(*(getattr(row, name) for name in names)))
    table.add_section()
    table.add_row("sum", *cells(*(profile.total(name) for name in names)), style="bold")
    return table


def check_table(profile: Profile) -> Table:
    """Our count beside XLA's."""
    table = Table(
        title="multiply-accumulates counted in the jaxpr, beside XLA's cost analysis",
        caption="visible: loop bodies once and no products with padding, as XLA counts. What is "
        "left of XLA's flops is elementwise arithmetic.",
    )
    columns = ("MMAC", "visible", "2 x visible", "XLA MFLOP", "ratio", "with elementwise")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, check in profile.checks.items():
        numbers = (check.macs, check.visible_macs, 2 * check.visible_macs, check.flops)
        shown = [f"{number / 1e6:,.3f}" for number in numbers]
        table.add_row(name, *shown, f"{check.ratio:.4f}", f"{check.explained:.4f}")
    return table


def memory_table(profile: Profile) -> Table:
    """XLA's memory analysis of the compiled programs."""
    table = Table(title=f"memory of the compiled programs, MB ({jax.default_backend()})")
    table.add_column("")
    for column in ("arguments", "outputs", "of these in place", "temporary", "most at one time"):
        table.add_column(column, justify="right")
    for name, m in profile.memory.items():
        most = m.arguments + m.outputs - m.aliased + m.temporary
        numbers = (m.arguments, m.outputs, m.aliased, m.temporary, most)
        table.add_row(name, *(f"{number / 1e6:,.2f}" for number in numbers))
    return table


def paper_line(model: PaperModel) -> dict[str, Any]:
    """Our numbers of one configuration beside the published ones."""
    profile = profile_config(load_config(model.config), 1, compile_programs=False)
    return dataclasses.asdict(model) | {
        "our_parameters": profile.total("parameters"),
        "our_macs": profile.total("act_macs") / 1e6,
        "our_loss_macs": profile.total("loss_macs") / 1e6,
        "xla_ratio": profile.checks["act"].ratio,
    }


def paper_table(lines: list[dict[str, Any]]) -> Table:
    """One line a configuration."""
    table = Table(
        title="ARP configurations, batch 1 (MMAC of one act; matrix products and convolutions)",
        caption="Reference: unique parameters and MACs of its program. README: as printed there. "
        "act needs fewer MACs than the reference where earlier chunks come from a cache.",
    )
    heads = ("parameters", "reference", "act MMAC", "reference", "loss MMAC", "XLA ratio", "README")
    table.add_column("")
    for head in heads:
        table.add_column(head, justify="right")
    for line in lines:
        table.add_row(
            line["name"],
            f"{line['our_parameters']:,}",
            f"{line['parameters']:,}" if line["parameters"] else "",
            f"{line['our_macs']:,.1f}",
            f"{line['macs']:,.1f}" if line["macs"] else "",
            f"{line['our_loss_macs']:,.1f}",
            "" if math.isnan(line["xla_ratio"]) else f"{line['xla_ratio']:.4f}",
            line["figure"],
        )
    return table


def define_flags() -> None:
    """The command line; not at import, because other commands call their config flag the same."""
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    flags.DEFINE_integer("batch", 1, "Examples at once.", lower_bound=1)
    flags.DEFINE_string("json", None, "Also write the numbers to this file.")
    flags.DEFINE_bool("no_compile", False, "Skip the compiler, and with it the memory.")
    flags.DEFINE_bool("all", False, "One line for every configuration of the paper.")
    flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")


def run_command(given: Any) -> None:
    """Profiles what the flags name, prints the tables, writes --json."""
    compile_cache.enable()
    console = Console()
    document: Any
    if given.all:
        document = [paper_line(model) for model in PAPER]
        console.print(paper_table(document))
    else:
        if not given.config:
            raise ValueError("give --config=configs/NAME.py or --all")
        profile = profile_config(given.config.to_dict(), given.batch, not given.no_compile)
        console.print(module_table(profile))
        console.print(check_table(profile))
        if profile.memory:
            console.print(memory_table(profile))
        document = profile.to_json()
    if given.json:
        path = Path(given.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")
        console.print(f"written: {path}", soft_wrap=True, highlight=False)


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    logging.set_verbosity(logging.WARNING)

    def command() -> None:
        check_only_flags(argv)
        run_command(flags.FLAGS)

    return exit_status(command, flags.FLAGS.traceback)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
