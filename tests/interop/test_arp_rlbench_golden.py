"""The published RLBench policies' numbers, for every golden file that holds some, to 1e-4.

Files are recognised by their contents. ``rlbench_real.npz`` of this repository was made by running
the reference implementation (mlzxy/arp @ 73cb339, torch 2.13, float32, dropout off) on given views;
its renderer, which needs CUDA, is not part of it.
"""

from pathlib import Path

import pytest

from tests.golden_files import GoldenCheck, golden_paths, load_golden
from tests.interop import arp_golden_kinds as kinds
from tests.interop.arp_rlbench_policy import check_rlbench

PATHS = [p for p in golden_paths() if kinds.kind_of(p) == kinds.RLBENCH]

pytestmark = [pytest.mark.golden, pytest.mark.slow]


@pytest.mark.skipif(not PATHS, reason="no golden file of the RLBench policy in this checkout")
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_golden_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = GoldenCheck(path.stem)
    check_rlbench(load_golden(path), check)
    check.finish(capsys)
