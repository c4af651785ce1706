"""Checks of the numbers in an episode: finite, within limits, in the declared unit.

In: raw vectors or an `EpisodeView`. Out: findings, and `Extent`s: what the comparison of episodes
(`checks/compare.py`) needs to know of a vector. Units are judged by size alone: what is declared in
radians and mostly exceeds a turn is in degrees.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.checks.dims import Dim
from arp_jax.data.checks.findings import ACTION, EpisodeView, Finding

# Beyond the limits by less than this share of their range: rounding of a command, and what a sensor
# may overshoot (Bridge commands 0.9 % more, keypoints of Push-T lie 1.4 % outside of the picture).
ACTION_TOLERANCE, OBSERVATION_TOLERANCE = 0.02, 0.05
GRIPPER_TOLERANCE = 0.05
# Share of an episode's values that decides on its unit: 9 of 10 may not be moments of noise.
UNIT_QUANTILE = 0.9
# Radians beyond a turn and a bit, of a target; of a change in one step; meters of a robot's reach.
MOST_RADIANS, MOST_RADIANS_A_STEP, MOST_METERS = 7.0, 1.6, 20.0
# Limits that reach as far are meant to hold degrees.
DEGREE_LIMITS = 60.0
_SINGLE_PRECISION = 1e-6


@dataclasses.dataclass(frozen=True)
class Extent:
    """Size and movement of the dimensions of one vector in one episode, each [D].

    Attributes:
        low, high: least and greatest value, and the steps where they are.
        jump: greatest change from a step to the next, and the step it leads to.
        usual_jump: quantile 0.99 of those changes.
        constant: whether the value never changes.
    """

    low: np.ndarray
    low_step: np.ndarray
    high: np.ndarray
    high_step: np.ndarray
    jump: np.ndarray
    jump_step: np.ndarray
    usual_jump: np.ndarray
    constant: np.ndarray


def check_finite(
    number: int, field: str, values: np.ndarray, names: Sequence[str]
) -> list[Finding]:
    """One finding for the NaN and infinite values of a vector [T, D]."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return []
    steps = np.flatnonzero(bad.any(axis=1))
    step = int(steps[0])
    dim = int(np.flatnonzero(bad[step])[0])
    message = f"{values[step, dim]} in {len(steps)} step(s)"
    where: dict[str, Any] = {"steps": len(steps), "last": int(steps[-1])}
    return [Finding("not_finite", message, number, step, field, names[dim], **where)]


def bridged(values: np.ndarray) -> np.ndarray:
    """A copy [T, D] where NaN and infinities hold the last finite value before (or the first)."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    filled = values.copy()
    for dim in np.flatnonzero(bad.any(axis=0)):
        good = np.flatnonzero(~bad[:, dim])
        if not len(good):
            filled[:, dim] = 0.0
            continue
        latest = np.searchsorted(good, np.arange(len(values)), side="right") - 1
        filled[:, dim] = values[good[np.maximum(latest, 0)], dim]
    return filled


def check_range(view: EpisodeView, table: Mapping[str, Sequence[Dim]]) -> list[Finding]:
    """Values beyond the limits of the specs."""
    found = []
    for field, dims in table.items():
        if field not in view.vectors:
            continue
        tolerance = ACTION_TOLERANCE if field == ACTION else OBSERVATION_TOLERANCE
        kind = "action_range" if field == ACTION else "observation_range"
        for dim in dims:
            if dim.low is None or dim.high is None or not np.isfinite(dim.extent):
                continue
            values = view.vectors[field][:, dim.index]
            allowed = tolerance * dim.extent + _SINGLE_PRECISION
            steps = np.flatnonzero((values < dim.low - allowed) | (values > dim.high + allowed))
            if len(steps):
                worst = values[steps[np.argmax(np.abs(values[steps] - (dim.low + dim.high) / 2))]]
                message = (
                    f"{worst:.4g} in {len(steps)} step(s), the limits are "
                    f"{dim.low:.4g} .. {dim.high:.4g}"
                )
                found.append(_at(view, kind, message, dim, steps))
    return found


def check_gripper_range(view: EpisodeView, dims: Sequence[Dim]) -> list[Finding]:
    """A commanded gripper whose specs say 0 .. 1 but whose values go elsewhere."""
    found = []
    for dim in dims:
        if not dim.gripper or (dim.low, dim.high) != (0.0, 1.0):
            continue
        values = view.vectors[ACTION][:, dim.index]
        steps = np.flatnonzero((values < -GRIPPER_TOLERANCE) | (values > 1 + GRIPPER_TOLERANCE))
        if len(steps):
            message = f"the gripper goes from {values.min():.4g} to {values.max():.4g}"
            found.append(_at(view, "gripper_range", message, dim, steps))
    return found


def check_units(view: EpisodeView, table: Mapping[str, Sequence[Dim]]) -> list[Finding]:
    """Degrees declared as radians, radians as degrees, millimeters as meters: by size."""
    found = []
    for field, dims in table.items():
        if field not in view.vectors or view.length < 2:
            continue
        size = np.quantile(np.abs(view.vectors[field]), UNIT_QUANTILE, axis=0)  # [D]
        for dim in dims:
            finding = _too_large(view, dim, float(size[dim.index]))
            if finding is not None:
                found.append(finding)
                break  # one of a vector speaks for the others
        else:
            found += _radians_as_degrees(view, field, dims)
    return found


def _too_large(view: EpisodeView, dim: Dim, size: float) -> Finding | None:
    if dim.rate:
        return None
    most = {
        "rad": MOST_RADIANS if dim.absolute else MOST_RADIANS_A_STEP,
        "m": MOST_METERS,
    }.get(dim.unit)
    declared = max(abs(dim.low or 0.0), abs(dim.high or 0.0))
    if most is None or size <= most or (declared > most and np.isfinite(declared)):
        return None
    values = np.abs(view.vectors[dim.field][:, dim.index])
    kind, other = ("degrees", "degrees") if dim.unit == "rad" else ("scale", "millimeters")
    message = f"declared in {dim.unit}, but one value in ten exceeds {size:.4g}: {other}?"
    return _at(view, kind, message, dim, np.flatnonzero(values > most))


def _radians_as_degrees(view: EpisodeView, field: str, dims: Sequence[Dim]) -> list[Finding]:
    """Two or more angles whose limits are wide enough for degrees but that stay within a turn."""
    angles = [d for d in dims if d.unit == "deg" and d.extent >= DEGREE_LIMITS and not d.rate]
    if len(angles) < 2 or not all(d.absolute for d in angles):
        return []
    values = view.vectors[field][:, [d.index for d in angles]]
    if np.abs(values).max() > 2 * np.pi or np.ptp(values, axis=0).max() < 0.1:
        return []
    message = f"declared in deg, but no angle exceeds {np.abs(values).max():.3g}: radians?"
    return [view.finding("degrees", message, step=0, field=field, dim=angles[0].name)]


def _at(view: EpisodeView, kind: str, message: str, dim: Dim, steps: np.ndarray) -> Finding:
    """A finding on some steps of one dimension."""
    return view.finding(
        kind,
        message,
        step=int(steps[0]) if len(steps) else 0,
        field=dim.field,
        dim=dim.name,
        steps=max(len(steps), 1),
        last=int(steps[-1]) if len(steps) else None,
    )


def changes(values: np.ndarray, dims: Sequence[Dim]) -> np.ndarray:
    """Size of the change from each step to the next, [T - 1, D]; a full turn is no change."""
    delta = np.abs(np.diff(values, axis=0))
    for dim in dims:
        if dim.turn is not None:
            delta[:, dim.index] = np.minimum(
                delta[:, dim.index], np.abs(dim.turn - delta[:, dim.index])
            )
        if dim.quaternion:
            flipped = np.abs(values[1:, dim.index] + values[:-1, dim.index])
            delta[:, dim.index] = np.minimum(delta[:, dim.index], flipped)
    return delta


def extent_of(values: np.ndarray, dims: Sequence[Dim]) -> Extent:
    """What `Extent` says of a finite vector [T >= 1, D]."""
    delta = changes(values, dims) if len(values) > 1 else np.zeros((1, values.shape[1]))
    return Extent(
        low=values.min(axis=0),
        low_step=values.argmin(axis=0),
        high=values.max(axis=0),
        high_step=values.argmax(axis=0),
        jump=delta.max(axis=0),
        jump_step=delta.argmax(axis=0) + 1,
        usual_jump=np.quantile(delta, 0.99, axis=0),
        constant=values.min(axis=0) == values.max(axis=0),
    )
