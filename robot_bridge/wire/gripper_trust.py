"""Whether the gripper's own value is believed (mycobot.md R1). Pure.

In: what was commanded, what was read (None: nothing usable), when. Out: the opening to report and
whether it was measured. The one-arm project saw grippers that answer 255 for whole runs, and others
that say 93 ... 97 while they are told to close: both are reported as the last command, flagged.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrustRule:
    """A reading is stale when it stays put although it should move.

    Attributes:
        moved: change of the command that a gripper must follow, as opening.
        still: change of the reading that is noise, as opening.
        within_s: how long the gripper may take to begin.
    """

    moved: float = 0.1
    still: float = 0.05
    within_s: float = 1.0


class GripperTrust:
    """Follows the commands and readings of one gripper."""

    def __init__(self, rule: TrustRule | None = None) -> None:
        self._rule = rule or TrustRule()
        self._command: float | None = None
        self._reading: float | None = None  # the newest; None: not usable
        # Reading and command at the time when the reading last moved.
        self._still_at: float | None = None
        self._told_at: float | None = None
        self._away_ns: int | None = None  # since when the command is away from `_told_at`
        self._stale = False

    def command(self, opening: float, now_ns: int) -> None:
        """A command went out."""
        self._command = opening
        if self._told_at is None:
            # Before the first command the gripper stands where it says.
            self._told_at = opening if self._still_at is None else self._still_at
        if abs(opening - self._told_at) <= self._rule.moved:
            self._away_ns = None
        elif self._away_ns is None:
            self._away_ns = now_ns

    def read(self, opening: float | None, now_ns: int) -> None:
        """A reading came: 0 ... 1, or None for one that is not usable."""
        self._reading = opening
        if opening is None:
            return
        if self._still_at is None or abs(opening - self._still_at) > self._rule.still:
            self._still_at, self._told_at = opening, self._command
            self._away_ns, self._stale = None, False
        elif self._away_ns is not None and now_ns - self._away_ns > self._rule.within_s * 1e9:
            self._stale = True

    @property
    def measured(self) -> bool:
        """Whether `opening` is the gripper's own word."""
        return self._reading is not None and not self._stale

    @property
    def opening(self) -> float:
        """What to report: the reading if it is believed, else the last command, else open."""
        if self._reading is not None and not self._stale:
            return self._reading
        return 1.0 if self._command is None else self._command
