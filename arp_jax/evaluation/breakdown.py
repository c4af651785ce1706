"""Where episodes succeed and how far they get: rates by factor and by sub-goal.

Flows in: `EpisodeResults` that carry classes and names of sub-goals. Flows out: rates with Wilson
intervals. Many intervals side by side are for finding weak spots: some of them will be off by
chance, so a difference between two classes is a question for a new evaluation, not an answer.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.evaluation.intervals import Interval, wilson


@dataclasses.dataclass(frozen=True)
class SubGoalRate:
    """How often the reward reached a stage.

    Attributes:
        name: what the stage is, e.g. "lifted".
        reward: the stage: reached when the episode's largest reward is at least this.
        rate: over all episodes.
    """

    name: str
    reward: int
    rate: Interval


@dataclasses.dataclass(frozen=True)
class FactorRates:
    """Success by the classes of one factor.

    Attributes:
        factor: e.g. "quadrant".
        rates: (class, success rate) of each class that occurred, in the factor's order.
    """

    factor: str
    rates: tuple[tuple[str, Interval], ...]


def sub_goal_rates(results: EpisodeResults) -> tuple[SubGoalRate, ...]:
    """One rate for each named stage of the reward; empty for a task without stages."""
    return tuple(
        SubGoalRate(name, stage, wilson(results.max_reward >= stage))
        for stage, name in enumerate(results.sub_goals, start=1)
    )


def factor_rates(results: EpisodeResults) -> tuple[FactorRates, ...]:
    """One table for each factor of the task."""
    tables = []
    for factor, classes in results.classes.items():
        names = results.class_names[factor]
        rates = [
            (name, wilson(results.success[classes == place]))
            for place, name in enumerate(names)
            if (classes == place).any()
        ]
        tables.append(FactorRates(factor, tuple(rates)))
    return tuple(tables)


def sub_goals_to_json(rates: Sequence[SubGoalRate]) -> list[dict[str, Any]]:
    """Plain JSON values."""
    return [{"name": r.name, "reward": r.reward, **rate_to_json(r.rate)} for r in rates]


def factors_to_json(tables: Sequence[FactorRates]) -> dict[str, dict[str, Any]]:
    """{factor: {class: {n, rate, interval}}}."""
    return {t.factor: {name: rate_to_json(rate) for name, rate in t.rates} for t in tables}


def rate_to_json(rate: Interval) -> dict[str, Any]:
    """Plain JSON values of one rate."""
    return {"n": rate.n, "rate": rate.value, "interval": [rate.low, rate.high]}


def describe(sub_goals: Sequence[SubGoalRate], factors: Sequence[FactorRates]) -> str:
    """The rates as text, one line each; "" when there are none."""
    rows = [(f"reward >= {r.reward}", r.name, r.rate) for r in sub_goals]
    rows += [(t.factor, name, rate) for t in factors for name, rate in t.rates]
    if not rows:
        return ""
    left, middle = (max(len(row[c]) for row in rows) for c in (0, 1))  # type: ignore[arg-type]
    return "\n".join(
        f"  {group:<{left}}  {name:<{middle}}  n={rate.n:<6} {rate.describe(percent=True)}"
        for group, name, rate in rows
    )
