"""What a config's policy reads and predicts, token by token, without data or training.

A config file flows in; the sequence, its chunks and its attention mask flow out as text, and as a
picture with --svg.

Examples:
    python -m arp_jax.describe --config=configs/push_t_state.py
    python -m arp_jax.describe --config=configs/push_t_image.py --svg push_t.svg
    python -m arp_jax.describe --config=configs/push_t_state.py --config.policy.plan_chunk=4
"""

from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule, describe
from arp_jax.models.schedule_svg import schedule_svg
from arp_jax.policies.base import Policy
from arp_jax.policies.preprocessed import network_of
from arp_jax.training.command_line import check_only_flags, exit_status, parse_flags


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


def show(policy: Policy, svg: Path | None) -> None:
    """Prints every schedule and draws them."""
    layouts = schedules_of(policy)
    for name, (schedule, config) in layouts.items():
        if len(layouts) > 1:
            print(f"== {name}")
        print(describe(schedule, config))
        if svg is not None:
            path = svg if len(layouts) == 1 else svg.with_stem(f"{svg.stem}_{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(schedule_svg(schedule, config))
            print(f"drawn: {path}")


def run_command(argv: list[str]) -> None:
    """Checks the flags and shows what they name."""
    check_only_flags(argv)
    given = flags.FLAGS
    if not given.config:
        raise ValueError("give --config=configs/NAME.py")
    policy = network_of(policy_of_config(given.config.to_dict()))
    show(policy, Path(given.svg) if given.svg else None)


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    logging.set_verbosity(logging.WARNING)
    return exit_status(lambda: run_command(argv), flags.FLAGS.traceback)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
