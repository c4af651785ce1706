"""Golden vectors: where they are, and how far we are from them.

Files come from ``${ARP_JAX_GOLDEN}/<part>`` alone if that variable is set, else from
``tests/golden/<part>`` (what a user's clone has) and ``../shared/golden/<part>`` together. Every
``.npz`` found there must be tested by someone: a test module recognises files by what is in them
and fails on one nobody knows.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parent
TOLERANCE = 1e-4
# Options of jax.jit: golden models are tiny and run once, so compiling them is all the cost.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def golden_directories(part: str = "arp") -> list[Path]:
    """Folders that hold golden files of one part; empty when this checkout has none."""
    if "ARP_JAX_GOLDEN" in os.environ:
        return [Path(os.environ["ARP_JAX_GOLDEN"]) / part]
    candidates = (TESTS / "golden" / part, TESTS.parents[1] / "shared" / "golden" / part)
    return [candidate for candidate in candidates if candidate.is_dir()]


def golden_paths(part: str = "arp") -> list[Path]:
    """Every golden file of one part, sorted by name; a name in two folders counts once."""
    found: dict[str, Path] = {}
    for folder in golden_directories(part):
        for path in folder.glob("*.npz"):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def load_golden(path: Path) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def golden_path(name: str, part: str = "arp") -> Path:
    """The file ``name``.npz; skips the test when no folder in use has it."""
    for path in golden_paths(part):
        if path.stem == name:
            return path
    pytest.skip(f"no golden file {name}.npz in {golden_directories(part)}")


@dataclass
class GoldenCheck:
    """Collects |found - expected| / max(1, |expected|) over one file; ``finish`` judges them."""

    name: str
    tolerance: float = TOLERANCE
    errors: dict[str, float] = field(default_factory=dict)

    def compare(self, key: str, found: np.ndarray, expected: np.ndarray) -> None:
        """Record the worst relative error of one array; shapes must be equal."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert found.shape == expected.shape, (
            f"{self.name}: {key} has shape {found.shape}, expected {expected.shape}"
        )
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            error = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
        error = np.where(same, 0.0, error)
        worst = float(np.nan_to_num(error, nan=np.inf).max()) if error.size else 0.0
        self.errors[key] = max(worst, self.errors.get(key, 0.0))

    def finish(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Print the worst error of the file; fail if it exceeds the tolerance or none was taken."""
        assert self.errors, f"{self.name}: nothing was compared"
        key = max(self.errors, key=self.errors.__getitem__)
        count = len(self.errors)
        line = f"golden {self.name}: worst error {self.errors[key]:.1e} at {key} ({count} arrays)"
        with capsys.disabled():
            print(f"\n{line}", end=" ")
        bad = {k: e for k, e in self.errors.items() if e > self.tolerance}
        assert not bad, f"{self.name}: {len(bad)} arrays exceed {self.tolerance}: {bad}"
