"""Which replies may still be under way: the 320's wire has no sequence numbers.

A reply names only its command, so the late answer to one request looks like the answer to the next
of the same kind. But arm and line work first in, first out: once the answer to a command that owes
nothing has come, everything asked before it is through or lost. Drivers therefore put such a
"fence" (a harmless question) before they ask again for something that is still owed. Pure.
"""

from collections.abc import Sequence

from robot_bridge.wire.frames import Command

# Questions without effect; several, since a fence may be missed as well.
FENCES = (
    Command.IS_POWER_ON,
    Command.IS_CONTROLLER_CONNECTED,
    Command.GET_FRESH_MODE,
    Command.IS_MOVING,
    Command.GET_ERROR,
    Command.ROBOT_VERSION,
    Command.ATOM_VERSION,
)


class ReplyLedger:
    """Bookkeeping of owed replies.

    Args:
        forget_ns: after this long a reply does not come any more.
        fences: commands to ask between.
    """

    def __init__(self, forget_ns: int = 1_200_000_000, fences: Sequence[Command] = FENCES) -> None:
        self._forget_ns = forget_ns
        self._fences = tuple(fences)
        self._owed: dict[int, int] = {}  # command -> when it was given up

    def owes(self, command: int, now_ns: int) -> bool:
        """Whether an earlier answer to this command may still come."""
        given_up = self._owed.get(command)
        return given_up is not None and now_ns - given_up < self._forget_ns

    def missed(self, command: int, now_ns: int) -> None:
        """The answer did not come in time."""
        self._owed[command] = now_ns

    def answered(self, command: int, now_ns: int) -> None:
        """An answer came; unless it may be an older one, nothing is owed any more."""
        if not self.owes(command, now_ns):
            self._owed.clear()

    def fence(self, now_ns: int) -> Command | None:
        """A question whose answer cannot be an old one; None: all are owed, wait."""
        return next((fence for fence in self._fences if not self.owes(fence, now_ns)), None)
