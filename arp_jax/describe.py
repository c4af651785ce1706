"""What a config's policy reads and predicts, token by token, without data or training.

A config file flows in; the sequence, its chunks and its attention mask flow out as text, and as a
picture with --svg.

Examples:
    python -m arp_jax.describe --config=configs/push_t_state.py
    python -m arp_jax.describe --config=configs/push_t_image.py --svg push_t.svg
    python -m arp_jax.describe --config=configs/push_t_state.py --config.policy.plan_chunk=4
"""

import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule, describe
from arp_jax.models.schedule_svg import schedule_svg
from arp_jax.policies.base import Policy
from arp_jax.training.command_line import parse_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
SVG = flags.DEFINE_string("svg", None, "Also draw: file name; several schedules add their name.")
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")


def schedules_of(policy: Policy) -> dict[str, tuple[ChunkSchedule, ArpConfig]]:
    """The layouts of a policy by name: its `schedule`, and every other `..._schedule` it has.

    Raises:
        ValueError: the policy has no schedule (it is no chunking autoregressive policy).
    """
    found: dict[str, tuple[ChunkSchedule, ArpConfig]] = {}
    transformer: Any = getattr(policy, "transformer", None)
    for name, value in vars(policy).items():
        if isinstance(value, ChunkSchedule) and not name.startswith("_"):
            found[name] = (value, transformer.config)
    if not found:
        raise ValueError(f"{type(policy).__name__} has no chunk schedule to describe")
    return found


def run_command(policy: Policy, svg: Path | None) -> list[Path]:
    """Prints every schedule and draws them; returns the files written."""
    written = []
    layouts = schedules_of(policy)
    for name, (schedule, config) in layouts.items():
        if len(layouts) > 1:
            print(f"== {name}")
        print(describe(schedule, config))
        if svg is not None:
            path = svg if len(layouts) == 1 else svg.with_stem(f"{svg.stem}_{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(schedule_svg(schedule, config))
            written.append(path)
            print(f"drawn: {path}")
    return written


def main(argv: list[str]) -> None:
    """Checks the command line and runs."""
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; flags start with --")
        if not CONFIG.value:
            raise ValueError("give --config=configs/NAME.py")
        policy = policy_of_config(CONFIG.value.to_dict())
        run_command(policy, Path(SVG.value) if SVG.value else None)
    except ValueError as error:
        if TRACEBACK.value:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
