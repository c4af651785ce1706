"""Which repairs follow from the findings of a validation.

In: findings and the episodes' lengths. Out: a `Repair` for every episode: kept whole, trimmed at
its ends, or dropped, and why. Only what cannot do harm is repaired: units, senses, shifts and
everything that is merely suspicious stay for people. Writing the copy is `checks/copy.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from arp_jax.data.checks.findings import KINDS, Finding

# Kinds for which the whole episode goes.
DROPPED = ("unreadable", "missing_field", "wrong_shape", "one_step", "duplicate_episode")
# Kinds that spoil some steps: cut off near the ends, otherwise the episode goes.
SPOILED = ("not_finite", "undecodable", "blank_frame")
# How much of an episode may be cut off at each end, as a share of its steps.
EDGE = 0.2
# Flags are set from the bounds of every episode that is written.
FLAGS = ("flag_missing", "flag_misplaced", "flags_unset")
CLIPPED = "action_range"


@dataclasses.dataclass(frozen=True)
class Repair:
    """Steps [begin, end) of an episode are kept; none where both are 0."""

    episode: int
    begin: int
    end: int
    reasons: tuple[str, ...] = ()

    @property
    def dropped(self) -> bool:
        """Whether nothing of the episode is kept."""
        return self.begin >= self.end

    def describe(self, length: int) -> str:
        """One line, e.g. "episode 3: steps 0..36 of 40 kept (not_finite)"."""
        why = ", ".join(self.reasons)
        if self.dropped:
            return f"episode {self.episode}: dropped ({why})"
        return (
            f"episode {self.episode}: steps {self.begin}..{self.end - 1} of {length} kept ({why})"
        )


def plan_repairs(findings: Sequence[Finding], lengths: Mapping[int, int]) -> list[Repair]:
    """What becomes of each episode, in order.

    Args:
        findings: of the validation.
        lengths: of the episodes that were read, by number; others are dropped.
    """
    concerning: dict[int, list[Finding]] = {number: [] for number in lengths}
    for finding in findings:
        if finding.episode is not None:
            concerning.setdefault(finding.episode, []).append(finding)
    return [
        _repair(number, found, lengths.get(number, 0))
        for number, found in sorted(concerning.items())
    ]


def left_alone(findings: Sequence[Finding], clip: bool) -> list[Finding]:
    """Errors and warnings that no repair takes away."""
    taken = {*DROPPED, *SPOILED, *FLAGS, *([CLIPPED] if clip else [])}
    return [f for f in findings if f.kind not in taken and KINDS[f.kind].severity != "note"]


def _repair(number: int, found: Sequence[Finding], length: int) -> Repair:
    fatal = tuple(dict.fromkeys(f.kind for f in found if f.kind in DROPPED))
    if fatal or not length:
        return Repair(number, 0, 0, fatal or ("unreadable",))
    begin, end, reasons = 0, length, []
    for finding in found:
        if finding.kind not in SPOILED:
            continue
        reasons.append(finding.kind)
        first = finding.step or 0
        last = finding.last if finding.last is not None else first + finding.steps - 1
        if last < EDGE * length:
            begin = max(begin, last + 1)
        elif first >= (1 - EDGE) * length:
            end = min(end, first)
        else:
            begin, end = 0, 0
            break
    if end - begin < 2:
        begin, end = 0, 0
    return Repair(number, begin, end, tuple(dict.fromkeys(reasons)))
