"""The bridge's state machine: six modes, eight events, one table.

In: a mode and an event. Out: the next mode; nothing else happens here, and there is no other way
from one mode to another. Targets may be sent in `MOVING` only; in every other mode the arm holds.
docs/safety.md draws the table, and a test compares the drawing.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType


class Mode(enum.StrEnum):
    """What the bridge is doing."""

    IDLE = "idle"  # holds; no episode
    APPROACH = "approach"  # moves slowly to the start pose
    RUNNING = "running"  # a source of actions moves the arm
    HOLD = "hold"  # holds; the episode is interrupted and may go on
    FAULT = "fault"  # holds; something is wrong and must be acknowledged
    ESTOP = "estop"  # holds; a person stopped it, and only a person's reset ends that


class Event(enum.StrEnum):
    """What can happen to it."""

    START = "start"  # a person begins an episode
    ARRIVED = "arrived"  # the approach was verified by the measured angles
    HOLD = "hold"  # a person, a watchdog or a failing part interrupts
    RESUME = "resume"  # a person lets an interrupted episode go on
    FINISH = "finish"  # the episode ends: its source is done, or a person says so
    FAULT = "fault"  # safety, arm or program found something wrong
    ESTOP = "estop"  # a person stops everything
    RESET = "reset"  # a person acknowledges a fault or the emergency stop


MOVING = frozenset({Mode.APPROACH, Mode.RUNNING})
PERSONS = frozenset(set(Event) - {Event.ARRIVED, Event.FAULT})  # what a person may ask for

# An approach that is interrupted has to begin again: hold would let it go on as an episode whose
# start pose was never reached.
TABLE: Mapping[tuple[Mode, Event], Mode] = MappingProxyType(
    {
        (Mode.IDLE, Event.START): Mode.APPROACH,
        (Mode.APPROACH, Event.ARRIVED): Mode.RUNNING,
        (Mode.APPROACH, Event.HOLD): Mode.IDLE,
        (Mode.APPROACH, Event.FINISH): Mode.IDLE,
        (Mode.RUNNING, Event.HOLD): Mode.HOLD,
        (Mode.RUNNING, Event.FINISH): Mode.IDLE,
        (Mode.HOLD, Event.RESUME): Mode.RUNNING,
        (Mode.HOLD, Event.FINISH): Mode.IDLE,
        (Mode.FAULT, Event.RESET): Mode.IDLE,
        (Mode.ESTOP, Event.RESET): Mode.IDLE,
        # Asking a standing arm to hold is no mistake.
        **{(mode, Event.HOLD): mode for mode in Mode if mode not in MOVING},
        **{(mode, Event.FAULT): Mode.FAULT for mode in Mode if mode is not Mode.ESTOP},
        **{(mode, Event.ESTOP): Mode.ESTOP for mode in Mode},
    }
)


def next_mode(mode: Mode, event: Event) -> Mode:
    """The mode after an event; an event that the table does not know changes nothing."""
    return TABLE.get((mode, event), mode)


def refusal(mode: Mode, event: Event) -> str | None:
    """Why a person's command does nothing now, with what would; None when it is possible."""
    if (mode, event) in TABLE:
        return None
    usable = sorted(e for m, e in TABLE if m is mode and e in PERSONS)
    return f"{event} is not possible in mode {mode}; possible: {', '.join(usable)}"
