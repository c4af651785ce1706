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

from absl import app, flags, logging
from ml_collections import config_flags

from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule, describe
from arp_jax.models.schedule_svg import schedule_svg
from arp_jax.policies.base import Policy
from arp_jax.training.command_line import parse_flags


def define_flags() -> None:
    """The command line; not at import, because other commands call their config flag the same."""
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    flags.DEFINE_string("svg", None, "Also draw: file name; several schedules add their name.")
    flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")


def schedules_of(policy: Policy) -> dict[str, tuple[ChunkSchedule, ArpConfig]]:
    """The layouts of a policy by name: every public attribute that is a schedule, or a dict of it.

    Raises:
        ValueError: the policy has no schedule (it is no chunking autoregressive policy).
    """
    transformer: Any = getattr(policy, "transformer", None)
    found: dict[str, ChunkSchedule] = {}
    for name, value in vars(policy).items():
        several = value if isinstance(value, dict) else {"": value}
        for key, schedule in several.items():
            if isinstance(schedule, ChunkSchedule) and not name.startswith("_"):
                found[f"{name}_{key}" if key else name] = schedule
    if not found:
        raise ValueError(f"{type(policy).__name__} has no chunk schedule to describe")
    return {name: (schedule, transformer.config) for name, schedule in found.items()}


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
    logging.set_verbosity(logging.WARNING)
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; flags start with --")
        given = flags.FLAGS
        if not given.config:
            raise ValueError("give --config=configs/NAME.py")
        policy = policy_of_config(given.config.to_dict())
        run_command(policy, Path(given.svg) if given.svg else None)
    except ValueError as error:
        if flags.FLAGS.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
