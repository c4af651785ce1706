"""The run directory: what was run, with what, and how to run it again.

Flows in: the resolved config and the command. Flows out: RUN/{config.json, run.json, README.txt}.
A directory that holds a run is never written over by accident: it is resumed, or refused. The
checkpoints, metrics and data inside are other modules' files.
"""

import dataclasses
import datetime
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from arp_jax.policies.aloha_robots import ROBOTS
from arp_jax.training.data_config import BUILT_IN, DataConfig

CONFIG_FILE = "config.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco")
# What --overwrite removes: everything that belongs to a run, nothing else in the directory.
RUN_FILES = (
    *(CONFIG_FILE, "run.json", "README.txt", "metrics.jsonl", "checkpoints", "tensorboard"),
    *("pack", "stream", *BUILT_IN, "eval", "artifact", "summary.json", "report", "finish.json"),
)
# Policies of robots that no environment of arp_jax.evaluate has.
NOT_SIMULATED = ("arp_aloha", "arp_rlbench", "arp_digits")
# Keys that may differ between a run and its continuation; all others decide what is learned.
RESUMABLE = (
    *("train.steps", "train.log_every", "train.save_every", "train.eval_every"),
    *("train.eval_batches", "train.keep", "train.keep_every", "data.source", "data.pack_dir"),
    *("data.prefetch", "data.memory_budget_mb", "data.stream_reader", "data.stream_buffer_mb"),
    *("metrics.", "eval.", "mesh.", "report"),
)

_README = """\
This directory is one training run of arp_jax.

command      {command}
in           {cwd}
revision     {revision}
started      {started}

Reproduce it: check out that revision, install the versions in run.json, and run the command with
another --workdir. config.json holds every value of the config as it was resolved.

Continue it:  {resume}
Use it:       {uses}

config.json     resolved config            run.json     command, revision, versions, devices
metrics.jsonl   one JSON object a line     checkpoints/ one folder a step (Orbax)
"""


def choose_folder(workdir: str | None, config_file: str) -> Path:
    """The run directory, absolute: `workdir`, or runs/NAME for configs/NAME.py when it is None.

    Raises:
        ValueError: `workdir` is empty (an unset variable of a shell script, say).
    """
    if workdir is None:
        workdir = f"runs/{Path(config_file.partition(':')[0]).stem}"
    if not workdir:
        raise ValueError("--workdir= is empty; name a directory or leave the flag out")
    return Path(workdir).resolve()


def check_start(run_dir: Path, resume: bool, overwrite: bool) -> None:
    """Refuses to mix two runs.

    Raises:
        ValueError: a fresh start in a directory that is not empty, or nothing to resume.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other; choose one")
    if resume and not (run_dir / CONFIG_FILE).is_file():
        raise ValueError(f"--resume: no run in {run_dir} ({CONFIG_FILE} is missing); drop --resume")
    if not run_dir.exists() or resume or overwrite:
        return
    if not run_dir.is_dir():
        raise ValueError(f"--workdir {run_dir} is a file; choose a directory")
    if any(not _reusable(path) for path in run_dir.iterdir()):
        raise ValueError(
            f"--workdir {run_dir} is not empty; continue it with --resume, "
            "start anew with --overwrite, or choose another"
        )


def _reusable(path: Path) -> bool:
    """What a start that failed before its first step leaves behind: data, empty folders."""
    return path.name in ("pack", "stream", *BUILT_IN) or (path.is_dir() and not any(path.iterdir()))


def read_config(run_dir: Path) -> dict[str, Any]:
    """The resolved config with which the run was started."""
    return json.loads((run_dir / CONFIG_FILE).read_text())


def clear(run_dir: Path) -> None:
    """Removes a run's own files (`RUN_FILES` and saved batches)."""
    for path in [run_dir / name for name in RUN_FILES] + list(run_dir.glob("non_finite_*.npz")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_run_files(run_dir: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Writes config.json, run.json (a list: one entry a start) and README.txt, atomically.

    README.txt says how the run began, so that a resumed run keeps the one that it has.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    record = describe_start()
    path = run_dir / "run.json"
    starts = json.loads(path.read_text())["starts"] if resume and path.exists() else []
    write_text(run_dir / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_text(path, json.dumps({"starts": [*starts, record]}, indent=2) + "\n")
    readme = run_dir / "README.txt"
    if resume and readme.exists():
        return
    first = (starts or [record])[0]
    resume_command = first["command"].replace(" --overwrite", "") + " --resume"
    text = _README.format(resume=resume_command, uses=uses(run_dir, config), **first)
    write_text(readme, text)


def uses(run_dir: Path, config: Mapping[str, Any]) -> str:
    """Commands for README.txt that make sense for the run's policy, one a line."""
    lines = [f"python -m arp_jax.export_policy {run_dir}"]
    real = config.get("eval", {}).get("env") in ROBOTS
    if config["policy"]["name"] not in NOT_SIMULATED and not real:
        lines.insert(0, f"python -m arp_jax.evaluate {run_dir}")
    if config.get("report"):
        lines.insert(0, f"look at {run_dir / 'report'}, written when training is done")
    return ("\n" + " " * 14).join(lines)


def describe_start() -> dict[str, Any]:
    """Command, revision, versions and devices of this process."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"-m {module.name}" if module else shlex.quote(sys.argv[0])
    return {
        "command": f"python {program} {shlex.join(sys.argv[1:])}",
        "cwd": os.getcwd(),
        "revision": git_revision(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "host": platform.node(),
    }


def git_revision() -> str:
    """Commit of the checkout, with "+changes" when files differ from it; "unknown" without git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if commit.returncode != 0:
        return "unknown"
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def check_same_config(stored: Mapping[str, Any], config: Mapping[str, Any], run_dir: Path) -> None:
    """Raises ValueError naming the first key that decides what is learned and has changed.

    A key that the run does not know yet, because it is newer than the run, may be there when it is
    off (0, "", empty): then it changes nothing.
    """
    # A key that one of them does not know yet has its default.
    old, new = (_data_defaults() | flatten(json.loads(json.dumps(c))) for c in (stored, config))
    for key in sorted(old.keys() | new.keys()):
        is_off = key not in old and not new[key]
        if old.get(key) != new.get(key) and not is_off and not key.startswith(RESUMABLE):
            raise ValueError(
                f"--resume: config.{key} is {new.get(key)!r}, {run_dir} was started with "
                f"{old.get(key)!r}; use that value or a new --workdir"
            )


def _data_defaults() -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(DataConfig)}
    return {f"data.{k}": v for k, v in defaults.items() if v is not dataclasses.MISSING}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a crash leaves the old or the new content, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
