"""The published ALOHA policy's numbers, for every golden file that holds some, to 1e-4.

Files are recognised by their contents. `aloha_real.npz` of this repository holds numbers only: we
ran the reference implementation (mlzxy/arp @ 73cb339, torch 2.13 on a CPU, float32, evaluation
mode) with formula weights on inputs of our own: two random mosaics as images, the second sample
padded from action 63 on. Its network saw (image_u8 / 255 - image_mean) / image_std, and of large
results every 64th channel or pixel is kept.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.golden_files import GoldenCheck, golden_paths, load_golden
from tests.interop.arp_aloha_policy import check_aloha, is_aloha

pytestmark = pytest.mark.golden


def _paths() -> list[Path]:
    found = []
    for path in golden_paths():
        with np.load(path, allow_pickle=False) as archive:
            if is_aloha(archive):
                found.append(path)
    return found


PATHS = _paths()


@pytest.mark.skipif(not PATHS, reason="no golden file of the ALOHA policy in this checkout")
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_golden_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = GoldenCheck(path.stem)
    unread = check_aloha(load_golden(path), check)
    check.finish(capsys)
    if unread:
        with capsys.disabled():
            print(f"(not looked at: {sorted(unread)})", end=" ")
