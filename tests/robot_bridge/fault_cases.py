"""What the bridge does about each fault of the arm and its wire: the documented table.

`CASES` is the expectation that `test_fault_campaign.py` proves for both lines and both drivers.
`python -m tests.robot_bridge.fault_cases` prints it as docs/faults.md (a test compares).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from robot_bridge.emulator import ALWAYS, AuditLimits, EmulatorConfig, Faults, Rule
from robot_bridge.wire.frames import Command

State = Literal["running", "hold", "fault", "refused"]
# What a person does once the fault is gone, to go on.
Recovery = Literal[
    "by itself",
    "resume",
    "power, resume",
    "reset, start",
    "power, reset, start",
    "connect again",
    "power, connect again",
]
Event = Literal["", "power off", "reboot", "disconnect", "drop connection", "forget mode"]
LINES, DRIVERS = ("serial", "tcp"), ("wire", "pymycobot")
COMBINATIONS = tuple((line, driver) for line in LINES for driver in DRIVERS)
ONE_LOST = Rule(times=1, commands={Command.GET_ANGLES})
SOME = Rule(share=0.1)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where it ends.

    Attributes:
        state: mode of the bridge while the fault lasts ("running" may wait for single ticks);
            several where it depends on how the fault meets the bridge's limits of time.
        recovery: how it goes on.
    """

    state: tuple[State, ...]
    recovery: Recovery


GOES_ON = Outcome(("running",), "by itself")
HOLDS = Outcome(("hold",), "resume")
# A gap of about a second: the limit above which the bridge holds.
EITHER = Outcome(("running", "hold"), "resume")
FAULTS = Outcome(("fault",), "reset, start")


@dataclasses.dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: for people, unique.
        text: what happens.
        outcome: of it.
        faults: switched on while the arm moves.
        event: that happens then.
        differs: (line, driver) with another outcome.
        config: of the arm, where the fault is there from the start.
        reason: part of what the bridge says why it is in that state ("" for running).
        seconds: how long the fault lasts; a hold or fault must come within.
        flag: that steps logged while the fault lasts have, "" for none.
        audit: limits, where they must be wider.
        note: for the table.
    """

    name: str
    text: str
    outcome: Outcome = GOES_ON
    faults: Faults = dataclasses.field(default_factory=Faults)
    event: Event = ""
    differs: Mapping[tuple[str, str], Outcome] = dataclasses.field(default_factory=dict)
    config: EmulatorConfig | None = None
    reason: str = ""
    seconds: float = 2.0
    flag: str = ""
    audit: AuditLimits = dataclasses.field(default_factory=AuditLimits)
    note: str = ""

    def expected(self, line: str, driver: str) -> Outcome:
        """The outcome on this line with this driver."""
        return self.differs.get((line, driver), self.outcome)


CASES = (
    Case("latency", "every exchange takes 30 ms longer", faults=Faults(latency_s=0.03)),
    Case("jitter", "every exchange takes up to 60 ms longer", faults=Faults(jitter_s=0.06)),
    Case(
        "spike",
        "the controller does nothing for .7 s, once",
        EITHER,
        faults=Faults(spike=Rule(times=1)),
    ),
    Case("lost reply", "one reading gets no reply", faults=Faults(drop_reply=ONE_LOST)),
    Case(
        "no replies",
        "nothing is answered any more, commands are still executed",
        HOLDS,
        faults=Faults(drop_reply=ALWAYS),
        reason="old",
    ),
    Case(
        "no acknowledgement", "setters are executed and not answered", faults=Faults(no_ack=ALWAYS)
    ),
    Case(
        "late reply",
        "one reply comes .6 s late, behind the client's time-out",
        EITHER,
        faults=Faults(late=Rule(times=1)),
    ),
    Case(
        "fragments",
        "replies come in two pieces, 10 ms apart",
        faults=Faults(fragment=ALWAYS),
        differs={("tcp", "pymycobot"): HOLDS},
        note="pymycobot takes the first piece for the whole",
    ),
    Case(
        "echo",
        "the line repeats every command before the reply",
        faults=Faults(echo=ALWAYS),
        differs={("serial", "pymycobot"): HOLDS},
        note="pymycobot takes its own question for the answer",
    ),
    Case("noise", "a tenth of the replies comes behind random bytes", faults=Faults(noise=SOME)),
    Case("truncated", "a reply is only its header, once", faults=Faults(truncate=ONE_LOST)),
    Case(
        "oversize",
        "a reply of 38 data bytes, once",
        faults=Faults(oversize=ONE_LOST),
    ),
    Case(
        "silence",
        "the arm hears and says nothing (cable, hanging controller)",
        HOLDS,
        faults=Faults(silent=True),
        reason="old",
    ),
    Case(
        "gripper unreadable",
        "the gripper's value reads 255",
        faults=Faults(gripper_unreadable=True),
        flag="gripper_not_measured",
        note="steps are flagged gripper_not_measured; the last command counts",
    ),
    Case(
        "gripper stale",
        "the gripper's value does not change any more",
        faults=Faults(gripper_stale=True),
        flag="gripper_not_measured",
        seconds=5.0,
        note="after 1 s as above",
    ),
    Case(
        "gripper deaf",
        "gripper commands within 50 ms of an arm command are lost",
        faults=Faults(gripper_deaf_s=0.05),
        note="none comes so soon: the gripper follows",
    ),
    Case("lag", "the joints' time constant is .5 s longer", faults=Faults(lag_s=0.5)),
    Case(
        "blocked joint",
        "servo 2 reports an error bit and stands",
        FAULTS,
        faults=Faults(servo_status=(0, 32, 0, 0, 0, 0)),
        seconds=12.0,
        reason="joint2",
        note="the bits are not read: that the joint does not follow is what counts",
    ),
    Case(
        "queue mode at the start",
        "the arm starts in fresh mode 0, which queues targets",
        config=EmulatorConfig(newest_only=False),
        note="set and verified when connecting",
    ),
    Case(
        "mode forgotten",
        "the arm falls back to fresh mode 0",
        event="forget mode",
        audit=AuditLimits(queued=20),
        note="noticed within about a second, stopped and set again",
    ),
    Case(
        "mode stuck",
        "fresh mode 1 cannot be set",
        Outcome(("refused",), "connect again"),
        config=EmulatorConfig(newest_only=False),
        faults=Faults(fresh_mode_stuck=True),
        reason="fresh mode",
    ),
    Case(
        "error code",
        "the controller's register 07 says joint 2 is beyond its limit",
        FAULTS,
        faults=Faults(error=2),
        reason="joint2",
    ),
    Case(
        "power off",
        "somebody presses the e-stop: angles are told, commands acknowledged, nothing moves",
        Outcome(("fault",), "power, reset, start"),
        event="power off",
        reason="power",
    ),
    Case(
        "no power at the start",
        "the servos have no power and do not get it",
        Outcome(("refused",), "power, connect again"),
        config=EmulatorConfig(powered=False),
        faults=Faults(power_stuck=True),
        reason="power",
    ),
    Case(
        "disconnected",
        "the device or server is gone for 2 s",
        HOLDS,
        event="disconnect",
        reason="old",
    ),
    Case(
        "connection reset",
        "the connection breaks and can be opened again at once",
        event="drop connection",
        differs={("serial", "pymycobot"): EITHER},
    ),
    Case(
        "reboot",
        "the M5 restarts: silent for 3 s, then no power, queue mode",
        Outcome(("hold",), "power, resume"),
        event="reboot",
        seconds=4.0,
        reason="old",
    ),
)

HEAD = """# What the bridge does when the arm or its wire fails

This table is generated (`python -m tests.robot_bridge.fault_cases > docs/faults.md`) from the
expectations that `pytest -m faults` proves: each fault is switched on in the emulated arm while a
scripted course moves it, on a serial line and on TCP, through the bridge's own wire protocol and
through pymycobot. After each run the emulator's journal is audited: targets inside the limits,
speeds and steps bounded, no target far from the arm, 50 ms between arm and gripper commands, no
motion while the bridge was in hold or fault. Every target that was commanded is in the episode log.
Two more tests do the same with an e-stop in the middle of each fault (the arm truly stands soon
after) and with faults at random while somebody keeps pressing whatever leads on.

*State* is the bridge's mode while the fault lasts. "running" may skip single ticks; "running or
hold" depends on whether the gap stays below the 1 s after which the bridge holds. *Goes on* is
what a person does when the fault is gone ("power" switches the servos on). A connection that broke
is always opened again by itself.

| fault | what happens | state | goes on | remarks |
|---|---|---|---|---|
"""


def table() -> str:
    """docs/faults.md."""
    rows = []
    for case in CASES:
        state, goes_on = _words(case.outcome)
        remarks = [case.note] if case.note else []
        for (line, driver), outcome in case.differs.items():
            other, then = _words(outcome)
            remarks.append(f"{driver} on {line}: {other}; {then}")
        cells = (case.name, case.text, state, goes_on, "; ".join(remarks))
        rows.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(rows) + "\n"


def _words(outcome: Outcome) -> tuple[str, str]:
    then = "resume, where it holds" if outcome == EITHER else outcome.recovery
    return " or ".join(outcome.state), then


if __name__ == "__main__":
    print(table(), end="")
