"""Every mode with every event, and what the table as a whole must never allow."""

import itertools
import re

import pytest

from robot_bridge.safety.modes import MOVING, PERSONS, TABLE, Event, Mode, next_mode, refusal

# Written out by hand: rows are modes, columns events in the order of `Event`; "-" is refused.
EVENTS = ["start", "arrived", "hold", "resume", "finish", "fault", "estop", "reset"]
EXPECTED = {
    "idle": "approach - idle - - fault estop -",
    "approach": "- running idle - idle fault estop -",
    "running": "- - hold - idle fault estop -",
    "hold": "- - hold running idle fault estop -",
    "fault": "- - fault - - fault estop idle",
    "estop": "- - estop - - - estop idle",
}
PAIRS = list(itertools.product(Mode, Event))


def test_the_expectation_names_all_modes_and_events():
    assert list(EXPECTED) == list(Mode)
    assert list(Event) == EVENTS


@pytest.mark.parametrize(("mode", "event"), PAIRS, ids="-".join)
def test_every_mode_with_every_event(mode, event):
    expected = EXPECTED[mode].split()[EVENTS.index(event)]
    if expected == "-":
        assert next_mode(mode, event) is mode
        words = refusal(mode, event) or ""
        assert words.startswith(f"{event} is not possible in mode {mode}; possible: ")
    else:
        assert next_mode(mode, event) == expected
        assert refusal(mode, event) is None


@pytest.mark.parametrize(("mode", "event"), PAIRS, ids="-".join)
def test_a_refusal_offers_exactly_what_a_person_can_do(mode, event):
    offered = refusal(mode, event)
    if offered is not None:
        names = offered.split("possible: ")[1].split(", ")
        assert set(names) == {e for e in PERSONS if (mode, e) in TABLE}


def test_only_reset_leaves_the_emergency_stop_and_only_to_idle():
    for event in Event:
        expected = Mode.IDLE if event is Event.RESET else Mode.ESTOP
        assert next_mode(Mode.ESTOP, event) is expected


def test_emergency_stop_and_fault_are_taken_in_every_mode():
    for mode in Mode:
        assert next_mode(mode, Event.ESTOP) is Mode.ESTOP
        assert next_mode(mode, Event.FAULT) in (Mode.FAULT, Mode.ESTOP)


def test_motion_begins_only_by_a_person():
    begins = {e for (m, e), to in TABLE.items() if to in MOVING and m not in MOVING}
    assert begins == {Event.START, Event.RESUME}


def test_running_is_reached_only_over_a_verified_approach_or_back_from_hold():
    ways = {(m, e) for (m, e), to in TABLE.items() if to is Mode.RUNNING}
    assert ways == {(Mode.APPROACH, Event.ARRIVED), (Mode.HOLD, Event.RESUME)}
    into_hold = {m for (m, _), to in TABLE.items() if to is Mode.HOLD} - {Mode.HOLD}
    assert into_hold == {Mode.RUNNING}


def test_no_single_event_takes_a_stopped_arm_back_into_motion():
    for mode in (Mode.FAULT, Mode.ESTOP):
        assert all(next_mode(mode, event) not in MOVING for event in Event)


def test_hold_stops_every_motion_and_never_starts_one():
    assert all(next_mode(mode, Event.HOLD) not in MOVING for mode in Mode)


def test_every_mode_can_be_reached_and_left():
    reached = {Mode.IDLE}
    for _ in Mode:
        reached |= {next_mode(mode, event) for mode in reached for event in Event}
    assert reached == set(Mode)
    for mode in Mode:
        assert any(next_mode(mode, event) is not mode for event in Event)


def test_the_drawing_in_the_docs_is_the_table(repository):
    text = (repository / "docs/safety.md").read_text()
    drawing = text.split("stateDiagram-v2")[1].split("```")[0]
    drawn = set()
    for source, target, events in re.findall(r"^ +(\w+) --> (\w+): (.+)$", drawing, re.M):
        drawn |= {(source, event.strip(), target) for event in events.split(",")}
    # Events that change nothing are not drawn; the page says so.
    table = {(m.value, e.value, to.value) for (m, e), to in TABLE.items() if to is not m}
    assert drawn == table
    assert "[*] --> idle" in drawing
