"""Is what the loop acts on still fresh? Ages of observation, policy and wire, judged.

In: ages in seconds. Out: one of four levels with its reasons: go on, wait (the target stays for
this tick), hold (the episode is interrupted), fault. Pure; times come from the caller's clock.
"""

import dataclasses
import enum
import math

# A stamp so far ahead of now is wrong, and what it belongs to may be old.
_FUTURE_S = 0.05


class Level(enum.IntEnum):
    """What follows; the worst of several ages counts."""

    OK = 0
    WAIT = 1
    HOLD = 2
    FAULT = 3


@dataclasses.dataclass(frozen=True)
class AgeLimits:
    """Ages, s, above which the loop waits, holds, and reports a fault."""

    wait_s: float
    hold_s: float
    fault_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.wait_s <= self.hold_s <= self.fault_s or not self.hold_s <= 60:
            raise ValueError(
                f"watchdog: need 0 < wait <= hold <= fault and hold <= 60 s, "
                f"found {self.wait_s}, {self.hold_s}, {self.fault_s}"
            )


@dataclasses.dataclass(frozen=True)
class WatchdogLimits:
    """Limits of the three ages.

    Attributes:
        observation: of the oldest part of what the policy sees.
        policy: of the observation that the current action was computed from. A chunk that is
            executed as a whole ages by its horizon: set it above that.
        wire: of the arm's newest reading; single reads take up to 0.7 s on a bad day.
    """

    observation: AgeLimits = AgeLimits(wait_s=0.3, hold_s=1.0)
    policy: AgeLimits = AgeLimits(wait_s=2.0, hold_s=4.0)
    wire: AgeLimits = AgeLimits(wait_s=0.3, hold_s=1.0, fault_s=3.0)


@dataclasses.dataclass(frozen=True)
class Ages:
    """Ages, s; infinite for what never came, None for what this mode does not need."""

    observation_s: float | None
    policy_s: float | None
    wire_s: float | None


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The worst level, and what is too old, in words."""

    level: Level
    reasons: tuple[str, ...] = ()


def age_s(time_ns: int | None, now_ns: int, since_ns: int | None = None) -> float:
    """Age of something at `now_ns`.

    Args:
        time_ns: when it was true; None: it never came.
        now_ns: of the same clock.
        since_ns: when it was first asked for: the age of what never came counts from there.

    Returns:
        Seconds >= 0; infinite for what never came, and for a time in the future.
    """
    start_ns = since_ns if time_ns is None else time_ns
    if start_ns is None:
        return math.inf
    age = (now_ns - start_ns) / 1e9
    return math.inf if age < -_FUTURE_S else max(age, 0.0)


def judge(ages: Ages, limits: WatchdogLimits) -> Judgement:
    """What follows from these ages; an age that is not a number counts as infinite."""
    level, reasons = Level.OK, []
    for field in dataclasses.fields(limits):
        age, limit = getattr(ages, f"{field.name}_s"), getattr(limits, field.name)
        if age is None:
            continue
        age = math.inf if math.isnan(age) else age
        found = _level(age, limit)
        if found is not Level.OK:
            old = f"{age:.2f} s old" if math.isfinite(age) else "missing"
            reasons.append(f"{field.name} {old} (limit {limit.wait_s:g} s)")
        level = max(level, found)
    return Judgement(level, tuple(reasons))


def _level(age: float, limit: AgeLimits) -> Level:
    if age <= limit.wait_s:
        return Level.OK
    if age <= limit.hold_s:
        return Level.WAIT
    # Infinity is not above an infinite limit: what never came is then held for, not a fault.
    return Level.FAULT if age > limit.fault_s else Level.HOLD
