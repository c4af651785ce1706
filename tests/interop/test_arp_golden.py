"""Our ARP equals the published one: every golden file of the folder, to 1e-4.

A file is told by its contents (``arp_golden_kinds``), so files of any name work, in any number;
one that nobody knows fails. Whole ALOHA and RLBench policies have test modules of their own.
"""

from pathlib import Path

import pytest

from tests.golden_files import GoldenCheck, golden_paths, load_golden
from tests.interop import arp_golden_kinds as kinds
from tests.interop.arp_case import ArpCase
from tests.interop.arp_data_utils import check_data_utils
from tests.interop.arp_generation_call import check_generation_call
from tests.interop.arp_keyframes import check_keyframes
from tests.interop.arp_push_t_policy import check_push_t
from tests.interop.arp_training_call import check_training_call
from tests.interop.arp_units import check_units

ELSEWHERE = (kinds.ALOHA, kinds.RLBENCH)
PATHS = [p for p in golden_paths() if kinds.kind_of(p) not in ELSEWHERE]

pytestmark = pytest.mark.golden


@pytest.mark.skipif(not PATHS, reason="no golden files of ARP in this checkout")
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_golden_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, kind = load_golden(path), kinds.kind_of(path)
    check = GoldenCheck(path.stem)
    if kind == kinds.SMALL_MODEL:
        case = ArpCase(data, check)
        training, generations = case.calls()
        for call in training:
            check_training_call(case, call)
        for call in generations:
            check_generation_call(case, call)
    elif kind == kinds.PUSH_T:
        check_push_t(data, check)
    elif kind == kinds.UNITS:
        check_units(data, check)
    elif kind == kinds.DATA_UTILS:
        check_data_utils(data, check)
    elif kind == kinds.KEYFRAMES:
        check_keyframes(data, check)
    else:
        pytest.fail(f"{path.name}: unknown golden file; no test of this project checks it")
    check.finish(capsys)
