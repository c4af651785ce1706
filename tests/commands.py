"""Runs a command as a user does: `python -m MODULE ...` in a process of its own."""

import subprocess
import sys
from pathlib import Path


def run_module(*arguments: object, cwd: Path, status: int = 0) -> str:
    """What the command prints, or its errors when another exit status than 0 is expected."""
    finished = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == status, finished.stderr[-3000:]
    return finished.stdout if status == 0 else finished.stderr
