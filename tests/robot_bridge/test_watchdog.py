"""Ages and what follows from them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.safety.watchdog import AgeLimits, Ages, Level, WatchdogLimits, age_s, judge

LIMITS = WatchdogLimits(
    observation=AgeLimits(0.3, 1.0), policy=AgeLimits(2.0, 4.0), wire=AgeLimits(0.3, 1.0, 3.0)
)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("observation", "policy", "wire", "level"),
    [
        (0.0, 0.0, 0.0, Level.OK),
        (0.3, 2.0, 0.3, Level.OK),
        (0.31, 0.0, 0.0, Level.WAIT),
        (0.0, 2.1, 0.0, Level.WAIT),
        (0.0, 0.0, 0.9, Level.WAIT),
        (1.01, 0.0, 0.0, Level.HOLD),
        (0.0, 5.0, 0.0, Level.HOLD),
        (0.0, 0.0, 2.9, Level.HOLD),
        (0.0, 0.0, 3.1, Level.FAULT),
        (0.31, 5.0, 3.1, Level.FAULT),
        (math.inf, 0.0, 0.0, Level.HOLD),
        (0.0, 0.0, math.inf, Level.FAULT),
        (0.0, math.nan, 0.0, Level.HOLD),
        (None, None, 0.1, Level.OK),
        (None, None, None, Level.OK),
    ],
)
def test_levels(observation, policy, wire, level):
    judgement = judge(Ages(observation, policy, wire), LIMITS)
    assert judgement.level is level
    assert bool(judgement.reasons) == (level is not Level.OK)


def test_every_part_that_is_too_old_is_named():
    reasons = judge(Ages(0.5, math.inf, 4.0), LIMITS).reasons
    assert [reason.split()[0] for reason in reasons] == ["observation", "policy", "wire"]
    assert "0.50 s" in reasons[0]
    assert "missing" in reasons[1]


AGES = st.one_of(st.none(), st.floats(0, 10), st.just(math.inf))


@given(AGES, AGES, AGES, st.sampled_from(["observation_s", "policy_s", "wire_s"]), st.floats(0, 10))
def test_older_is_never_better(observation, policy, wire, part, more):
    ages = {"observation_s": observation, "policy_s": policy, "wire_s": wire}
    before = judge(Ages(**ages), LIMITS).level
    if ages[part] is not None:
        ages[part] += more
    assert judge(Ages(**ages), LIMITS).level >= before


@pytest.mark.parametrize(
    ("time", "now", "since", "age"),
    [
        (5 * SECOND, 6 * SECOND, None, 1.0),
        (5 * SECOND, 5 * SECOND - 10_000_000, None, 0.0),  # read while the tick began
        (5 * SECOND, 4 * SECOND, None, math.inf),  # a stamp from the future
        (None, 6 * SECOND, None, math.inf),
        (None, 6 * SECOND, 4 * SECOND, 2.0),
        (5 * SECOND, 6 * SECOND, 1 * SECOND, 1.0),
    ],
)
def test_age(time, now, since, age):
    assert age_s(time, now, since) == pytest.approx(age)


@pytest.mark.parametrize(
    "limits",
    [(0.0, 1.0), (2.0, 1.0), (1.0, 2.0, 1.5), (1.0, math.inf), (math.nan, 1.0), (1.0, math.nan)],
)
def test_a_watchdog_cannot_be_set_to_never(limits):
    with pytest.raises(ValueError, match="watchdog"):
        AgeLimits(*limits)
