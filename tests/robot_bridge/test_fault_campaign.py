"""Every fault of mycobot.md b.8, both lines, both drivers: the table of docs/faults.md, proved.

`pytest -m faults` runs all of it (a quarter of an hour); a few cases run always.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from robot_bridge.emulator import Faults
from tests.robot_bridge.fault_cases import CASES, COMBINATIONS, Case, table
from tests.robot_bridge.fault_stage import StallMeter, Violated, play
from tests.robot_bridge.fault_storm import STOPPABLE, stop_despite, storm

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


def unless_stalled(run: Callable[[Path], None], folder: Path) -> None:
    """Runs it; again when it failed while the machine gave nobody time."""
    for attempt in range(3):
        with StallMeter() as meter:
            try:
                run(folder / f"logs{attempt}")
                return
            except Violated:
                raise
            except AssertionError:
                if meter.longest_s < STALL_S or attempt == 2:
                    raise


@pytest.mark.parametrize(("case", "line", "driver"), every_case())
def test_ends_as_documented(case: Case, line: str, driver: str, tmp_path):
    unless_stalled(lambda log: play(case, line, driver, log), tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(("line", "driver"), COMBINATIONS)
@pytest.mark.parametrize("case", STOPPABLE, ids=lambda case: case.name)
def test_an_emergency_stop_arrives(case: Case, line: str, driver: str, tmp_path):
    unless_stalled(lambda log: stop_despite(case, line, driver, log), tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(("line", "driver"), COMBINATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_faults_is_survived(seed: int, line: str, driver: str, tmp_path):
    unless_stalled(lambda log: storm(seed, line, driver, log), tmp_path)


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
