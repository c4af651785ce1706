"""Bookkeeping of replies that may still come."""

from robot_bridge.wire.frames import Command
from robot_bridge.wire.reply_ledger import FENCES, ReplyLedger

ANGLES, POWER = Command.GET_ANGLES, Command.IS_POWER_ON
SECOND = 10**9


def test_a_missed_reply_is_owed_until_another_command_is_answered():
    ledger = ReplyLedger()
    ledger.missed(ANGLES, 0)
    assert ledger.owes(ANGLES, SECOND)
    ledger.answered(ANGLES, SECOND)  # may be the old one
    assert ledger.owes(ANGLES, SECOND)
    ledger.answered(POWER, SECOND)  # first in, first out: the old one is through or lost
    assert not ledger.owes(ANGLES, SECOND)


def test_it_is_forgotten_after_a_while():
    ledger = ReplyLedger(forget_ns=2 * SECOND)
    ledger.missed(ANGLES, 0)
    assert not ledger.owes(ANGLES, 2 * SECOND)


def test_a_fence_is_a_question_that_is_not_owed_itself():
    ledger = ReplyLedger()
    for fence in FENCES:
        assert ledger.fence(0) == fence
        ledger.missed(fence, 0)
    assert ledger.fence(0) is None
    assert ledger.fence(3 * SECOND) == FENCES[0]
