"""Every fault of mycobot.md b.8, both lines, both drivers: the table of docs/faults.md, proved.

`pytest -m faults` runs all of it (a quarter of an hour); a few cases run always.
"""

import pytest

from robot_bridge.emulator import Faults
from tests.robot_bridge.fault_cases import CASES, COMBINATIONS, Case, table
from tests.robot_bridge.fault_stage import StallMeter, Violated, play

pytest.importorskip("pymycobot")
STALL_S = 0.1
ALWAYS_RUN = {
    ("silence", "serial", "wire"),
    ("connection reset", "tcp", "wire"),
}


def every_case():
    for case in CASES:
        for line, driver in COMBINATIONS:
            always = (case.name, line, driver) in ALWAYS_RUN
            marks = () if always else (pytest.mark.faults,)
            yield pytest.param(case, line, driver, id=f"{case.name}-{line}-{driver}", marks=marks)


@pytest.mark.parametrize(("case", "line", "driver"), every_case())
def test_ends_as_documented(case: Case, line: str, driver: str, tmp_path):
    for attempt in range(3):
        with StallMeter() as meter:
            try:
                play(case, line, driver, tmp_path / f"logs{attempt}")
                return
            except Violated:
                raise
            except AssertionError:
                # A machine that gives nobody time for so long looks like another fault.
                if meter.longest_s < STALL_S or attempt == 2:
                    raise


def test_the_documented_table_is_this_one(repository):
    assert (repository / "docs/faults.md").read_text() == table()


def test_every_fault_of_the_emulator_has_a_case():
    healthy = Faults()
    used = {
        name
        for case in CASES
        for name, value in vars(case.faults).items()
        if value != getattr(healthy, name)
    }
    durations = {"spike_s", "late_s", "fragment_s"}
    assert used == set(vars(healthy)) - durations
