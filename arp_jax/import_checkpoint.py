"""A checkpoint that PyTorch trained becomes a run directory, without PyTorch.

A file (.ckpt, .pth, .pt, .safetensors, .npz) and the config of its policy flow in; a table of what
became of every tensor, and a run that evaluate and export_policy take, flow out. Nothing in the
file is executed. docs/importing.md says which config belongs to which published file.

Examples:
    python -m arp_jax.import_checkpoint latest.ckpt --config=configs/push_t_image.py \\
        --workdir=runs/imported
    python -m arp_jax.import_checkpoint latest.ckpt --config=configs/push_t_image.py \\
        --workdir=runs/imported --key=state_dicts.model --report=report.txt
    python -m arp_jax.import_checkpoint policy_best.ckpt --config=configs/act_aloha.py:published \\
        --workdir=runs/act
    python -m arp_jax.evaluate runs/imported

ACT's statistics are read from `dataset_stats.pkl` beside the file, or where --stats says. The way
back is `python -m arp_jax.export_torch`. Exit status: 0 done; 2 wrong usage, an unreadable file, or
tensors that do not fit the config: then no run is written.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.interop import report_table
from arp_jax.interop.published import Conversion, FilesBeside, conversion
from arp_jax.interop.torch_file import read_state, state_keys
from arp_jax.interop.torch_state import Report
from arp_jax.policies.base import Params, Policy
from arp_jax.policies.preprocessed import network_of
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import CheckpointStore, RunBundle
from arp_jax.training.command_line import exit_status, parse_flags
from arp_jax.training.optim import make_optimizer
from arp_jax.training.run_config import RunConfig
from arp_jax.training.state import TrainState

# Trainers that keep both the last parameters and their moving average write them so (Diffusion
# Policy, ARP; Mobile ALOHA's diffusion policy); a run has a place for both as well.
LAST_AND_AVERAGE = (("state_dicts.model", "state_dicts.ema_model"), ("nets", "ema"))
_ROWS = 20  # of tensors that do not fit, on the screen

_README = """\
This directory is a policy that was trained in PyTorch and imported into arp_jax.

from         {file}
sha256       {digest}
read         {parts}
command      {command}
revision     {revision}
imported     {started}

Use it:       {uses}
Train on:     docs/importing.md says how
Back again:   python -m arp_jax.export_torch {run} weights.safetensors

config.json     resolved config            run.json     command, revision, versions, devices
checkpoints/    one folder a step (Orbax); step 0 is the import
"""


def define_flags() -> None:
    """The command line; not at import, because other commands call their flags the same."""
    config_flags.DEFINE_config_file("config", None, "Config of the policy.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Run directory to write.")
    flags.DEFINE_string("key", None, "State dict inside the file, e.g. state_dicts.model.")
    flags.DEFINE_string("stats", None, "ACT: dataset_stats.pkl, where it is not beside FILE.")
    flags.DEFINE_string("latent_model", None, "ACT++ with codes: the checkpoint of their prior.")
    flags.DEFINE_string("report", None, "Also write the fate of every tensor to this file.")
    flags.DEFINE_bool("overwrite", False, "Remove the run in --workdir first.")
    flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")


@dataclass(frozen=True)
class Imported:
    """One state dict of the file, converted.

    Attributes:
        title: file and key, for tables.
        state: what was read.
        params, report: what it became.
    """

    title: str
    state: Mapping[str, np.ndarray]
    params: Params
    report: Report


def import_checkpoint(
    file: Path,
    config: RunConfig,
    folder: Path,
    key: str | None = None,
    report: Path | None = None,
    overwrite: bool = False,
    beside: FilesBeside | None = None,
) -> None:
    """Reads, converts, reports, and writes the run.

    Args:
        file: any that `read_state` takes.
        config: of the policy; the spec comes from its `eval.env` or from its policy's robot.
        folder: the run directory; must be new or empty unless `overwrite`.
        key: state dict inside the file; None takes the moving average for evaluation and, when the
            file has them as well, the last parameters beside it.
        report: file for the table of all tensors.
        overwrite: remove the run in `folder`, once everything fits.
        beside: further files of the checkpoint; None names none.

    Raises:
        ValueError: anything does not fit; no run is written then.
    """
    run_dir.check_start(folder, resume=False, overwrite=overwrite)
    policy = policy_of_config(config.plain)
    rules = conversion(config.policy["name"])
    network = network_of(policy)
    more = rules.beside(file, network, beside or FilesBeside())
    parts = read_parts(file, key, rules, network, more)
    show(list(parts.values()))
    if report is not None:
        sections = [(part.title, part.report, part.state) for part in parts.values()]
        report_table.write_report(report, sections)
    for part in parts.values():
        if not report_table.is_complete(part.report):
            raise ValueError(
                f"{part.title} does not fit the config: {report_table.in_a_line(part.report)}"
            )

    last, average = parts.get("params", parts["ema"]), parts["ema"]
    methods = config.plain["data"]["normalization"]
    normalizer = rules.normalizer(average.state, network, methods)
    # No file says all about the data it was trained on, so there are no statistics.
    bundle = RunBundle(config.plain, policy.spec, {}, normalizer)
    state = train_state(config, last.params, average.params)
    if overwrite:
        run_dir.clear(folder)
    store = CheckpointStore(folder)
    try:
        store.save(0, state, {"batches": 0, "pack": ""}, bundle)
    finally:
        store.close()
    write_files(folder, config, file, parts)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"run: {folder}, {count:,} parameters\nnext: see {folder / 'README.txt'}")


def read_parts(
    file: Path, key: str | None, rules: Conversion, policy: Policy, more: Mapping[str, np.ndarray]
) -> dict[str, Imported]:
    """ "ema", what evaluation uses, and "params" when the file keeps the last parameters too.

    `more` comes from further files and belongs to every part.
    """
    found = state_keys(file)
    wanted = {"ema": key}
    for last, average in LAST_AND_AVERAGE:
        if key is None and {last, average} <= set(found):
            wanted = {"ema": average, "params": last}
    parts = {}
    for place, chosen in wanted.items():
        state = {**read_state(file, chosen), **more}  # refuses to guess among several
        title = f"{file.name} {found[0] if chosen is None else chosen}".strip()
        parts[place] = Imported(title, state, *rules.to_ours(state, policy))
    return parts


def show(parts: list[Imported]) -> None:
    """Prints a summary of every part, and the tensors that do not fit."""
    console = Console(soft_wrap=True)
    for part in parts:
        console.print(report_table.summary_table(part.report, part.state, part.title))
        if not report_table.is_complete(part.report):
            kinds = report_table.FATAL
            console.print(report_table.tensor_table(part.report, part.state, kinds, _ROWS))


def train_state(config: RunConfig, params: Params, ema: Params) -> TrainState:
    """The state of a training that would start from these parameters."""
    params, ema = jax.tree.map(jnp.asarray, (params, ema))
    tx = make_optimizer(config.optim, config.train.steps)
    rng = jax.random.PRNGKey(config.seed)
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), ema, rng)


def write_files(folder: Path, config: RunConfig, file: Path, parts: Mapping[str, Imported]) -> None:
    """config.json, run.json, and a README.txt that says where the weights come from."""
    run_dir.write_run_files(folder, config.plain, resume=False)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    names = {"ema": "moving average", "params": "parameters"}
    read = ", ".join(f"{part.title} ({names[place]})" for place, part in parts.items())
    about: dict[str, Any] = run_dir.describe_start()
    use = run_dir.uses(folder, config.plain)
    text = _README.format(file=file, digest=digest, parts=read, run=folder, uses=use, **about)
    run_dir.write_text(folder / "README.txt", text)


def run_command(argv: list[str]) -> None:
    """Checks the command line and imports."""
    if len(argv) != 2:
        raise ValueError("give one FILE to import; see --help")
    given = flags.FLAGS
    if not given.config or not given.workdir:
        raise ValueError("give --config=configs/NAME.py and --workdir=RUN")
    config = RunConfig.resolve(given.config.to_dict())
    report = Path(given.report) if given.report else None
    folder = Path(given.workdir).resolve()
    named = {name: getattr(given, name) for name in ("stats", "latent_model")}
    beside = FilesBeside(**{name: Path(value) for name, value in named.items() if value})
    import_checkpoint(Path(argv[1]), config, folder, given.key, report, given.overwrite, beside)


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    logging.set_verbosity(logging.ERROR)  # Orbax narrates each write
    return exit_status(lambda: run_command(argv), flags.FLAGS.traceback)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
