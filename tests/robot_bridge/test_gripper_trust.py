"""When the gripper's own value is believed (mycobot.md R1)."""

import pytest

from robot_bridge.wire.gripper_trust import GripperTrust, TrustRule

SECOND = 10**9


def follow(trust: GripperTrust, steps) -> list[tuple[float, bool]]:
    """Steps of (seconds, command or None, reading or "none") -> what is reported after each."""
    reported = []
    for seconds, command, reading in steps:
        now = int(seconds * SECOND)
        if command is not None:
            trust.command(command, now)
        trust.read(None if reading == "none" else reading, now)
        reported.append((trust.opening, trust.measured))
    return reported


def test_before_anything_it_is_open_and_not_measured():
    trust = GripperTrust()
    assert (trust.opening, trust.measured) == (1.0, False)


def test_a_gripper_that_follows_is_believed():
    steps = [(0.25 * k, 1 - 0.1 * k, 1 - 0.1 * max(0, k - 1)) for k in range(10)]
    assert follow(GripperTrust(), steps) == [(reading, True) for _, _, reading in steps]


def test_an_unreadable_gripper_reports_the_command():
    steps = [(0.25 * k, 0.3, "none") for k in range(40)]
    assert follow(GripperTrust(), steps) == [(0.3, False)] * 40


def test_a_gripper_that_flickers_about_an_old_value_is_not_believed():
    # As measured: 93 ... 97 while the command falls to 0 (mycobot.md a.4).
    flicker = [0.95, 0.93, 0.97, 0.94]
    steps = [(0.25 * k, max(0.0, 0.95 - 0.1 * k), flicker[k % 4]) for k in range(12)]
    reported = follow(GripperTrust(), steps)
    assert reported[2][1]  # it may be slow to begin
    assert reported[-1] == (0.0, False)


def test_trust_comes_back_when_it_moves():
    steps = [(0.0, 0.9, 0.9), (0.1, 0.0, 0.9), (1.5, None, 0.9), (1.75, None, 0.7)]
    assert follow(GripperTrust(), steps) == [(0.9, True), (0.9, True), (0.0, False), (0.7, True)]


def test_a_gap_in_the_readings_does_not_restore_trust():
    steps = [(0, 0.9, 0.9), (0.1, 0.0, 0.9), (1.5, None, 0.9), (2, None, "none"), (2.2, None, 0.9)]
    assert follow(GripperTrust(), steps)[-1] == (0.0, False)


def test_a_command_that_comes_back_asks_nothing_of_the_gripper():
    steps = [(0, 0.9, 0.9), (0.1, 0.5, 0.9), (0.3, 0.9, 0.9), (5, None, 0.9)]
    assert follow(GripperTrust(), steps)[-1] == (0.9, True)


@pytest.mark.parametrize("within_s", [0.5, 3.0])
def test_the_rule_can_be_set(within_s):
    trust = GripperTrust(TrustRule(within_s=within_s))
    assert follow(trust, [(0, 0.9, 0.9), (0.1, 0.0, 0.9), (1.5, None, 0.9)])[-1][1] is (
        within_s > 1
    )
