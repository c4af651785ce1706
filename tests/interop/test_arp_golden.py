"""Our ARP equals the published one: every golden file of the folder, to 1e-4.

Small models are told by their ``cfg_json``; ``units`` holds single parts. ``pusht_real`` and
``data_utils`` are checked in tests/policies/test_arp_golden.py. An unknown file fails.
"""

from pathlib import Path

import pytest

from tests.golden_files import GoldenCheck, golden_paths, load_golden
from tests.interop.arp_case import ArpCase
from tests.interop.arp_keyframes import check_keyframes
from tests.interop.arp_units import check_units

CHECKED_WITH_THE_POLICY = ("pusht_real", "data_utils")
PATHS = [p for p in golden_paths() if p.stem not in CHECKED_WITH_THE_POLICY]

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_golden_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_golden(path)
    check = GoldenCheck(path.stem)
    if path.stem == "units":
        check_units(data, check)
    elif any(key.endswith("/gripper_open") for key in data):
        check_keyframes(data, check)
    elif "cfg_json" in data:
        ArpCase(data, check).run()
    else:
        pytest.fail(f"{path.name}: unknown golden file; no test of this project checks it")
    check.finish(capsys)
