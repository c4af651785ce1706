"""Where and with what a benchmark ran: printed first, and stored beside its figures."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax


def hardware(packages: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, load, devices and versions of `packages` (None: not installed)."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "devices": [str(device) for device in jax.devices()],
        "versions": versions,
    }


def write_report(path: Path, machine: dict[str, Any], rows: Sequence[Any]) -> None:
    """Machine and rows (named tuples) as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "rows": [row._asdict() for row in rows]}
    path.write_text(json.dumps(report, indent=2) + "\n")
