"""How long after its start does a process with an artifact choose its first action?

A fresh virtual environment with numpy, jax and safetensors alone (made here, or given) imports the
runtime, loads the artifact and acts once: cold (nothing compiled before) and warm (the compiled
program is in the cache, as after `python -m arp_jax.export.runtime ARTIFACT`). Each start is a new
process; times are wall clock from the first line of Python. Example:

    python benchmarks/first_action.py runs/push_t_state/artifact --json first_action.json
"""

import argparse
import importlib.metadata as metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from hardware import hardware, write_report

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jax", "numpy", "safetensors")
TARGET_S = 3.0  # warm, Push-T
PROGRAM = """
import time
begin = time.perf_counter()
import sys
import numpy as np
import jax
from arp_jax import compile_cache
from arp_jax.export.runtime import load_artifact
compile_cache.enable()
imported = time.perf_counter()
artifact = load_artifact(sys.argv[1])
loaded = time.perf_counter()
artifact.warm_up()
acted = time.perf_counter()
assert not {"flax", "optax", "tensorflow", "ml_collections"} & set(sys.modules)
print(imported - begin, loaded - imported, acted - loaded)
"""


class Row(NamedTuple):
    """Seconds of one start; `process_s` also counts the interpreter's own start and end."""

    cache: str
    import_s: float
    load_s: float
    first_action_s: float
    total_s: float
    process_s: float


def make_environment(folder: Path) -> Path:
    """A virtual environment with `PACKAGES` of this machine's versions; returns its python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    pinned = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned], check=True)
    return python


def start(python: Path, artifact: Path, cache: Path, label: str) -> Row:
    """One process from start to end."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PLATFORMS": "cpu",
    }
    begin = time.perf_counter()
    done = subprocess.run(
        [python, "-c", PROGRAM, artifact], env=environment, capture_output=True, text=True
    )
    whole = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    parts = [float(word) for word in done.stdout.split()]
    return Row(label, *parts, sum(parts), whole)


def main() -> None:
    """Measures, prints a line per start, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("artifact", type=Path, help="folder of arp_jax.export_policy")
    add("--python", type=Path, help="an environment with numpy, jax, safetensors; default: made")
    add("--warm", type=int, default=7, help="warm starts")
    add("--json", type=Path, help="file for the results")
    flags = parser.parse_args()
    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    with tempfile.TemporaryDirectory() as folder:
        python = flags.python or make_environment(Path(folder) / "environment")
        cache = Path(folder) / "cache"
        rows = [start(python, flags.artifact.resolve(), cache, "cold")]
        rows += [start(python, flags.artifact.resolve(), cache, "warm") for _ in range(flags.warm)]
    print("cache  import_s  load_s  first_action_s  total_s  process_s")
    for row in rows:
        print(
            f"{row.cache:5s} {row.import_s:9.2f} {row.load_s:7.2f} {row.first_action_s:15.2f} "
            f"{row.total_s:8.2f} {row.process_s:10.2f}"
        )
    warm = [row.process_s for row in rows if row.cache == "warm"]
    print(f"warm: median {statistics.median(warm):.2f} s, worst {max(warm):.2f} s "
          f"(target {TARGET_S:g} s)")  # fmt: skip
    if flags.json is not None:
        write_report(flags.json, machine, rows)


if __name__ == "__main__":
    main()
