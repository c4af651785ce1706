"""Checks that need the other episodes: what is usual in this dataset, and who departs from it.

In: the `EpisodeReport`s of a split. Out: findings. Every measure is a median or a quantile over
episodes, so that the faulty ones do not set the standard; a difference counts when it exceeds both
a multiple of what is usual and a share of the range in which the values move.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.checks.dims import Dim, Pair
from arp_jax.data.checks.episode import EpisodeReport
from arp_jax.data.checks.findings import ACTION, Finding, without_consequences
from arp_jax.data.checks.pairs import LAGS
from arp_jax.data.checks.repeats import strange_repeats

# With fewer episodes nothing is usual.
LEAST_EPISODES = 5
# Lengths: so many robust deviations of the logarithm, and at least this factor.
LENGTH_DEVIATIONS, LENGTH_FACTOR = 8.0, 3.0
# Jumps: times the usual one (human Push-T: 4, contacts of ALOHA: 7), and share of the usual range.
JUMP_FACTOR, JUMP_SHARE = 9.0, 0.3
# First action: times the usual distance from the state, and share of the limits.
START_FACTOR, START_SHARE = 4.0, 0.15
# What moves less than this, in its unit or beside the dimension that moves most, is at rest.
STILL, STILL_SHARE = 1e-4, 1e-5
# Jumps and outliers in more than this share of the episodes are their nature.
HABIT = 0.25
# Outliers of values: times the width in which the episodes' extremes lie.
OUTLIER_FACTOR = 6.0
_MAD_TO_SIGMA = 1.4826


def compare(
    reports: Sequence[EpisodeReport],
    table: Mapping[str, Sequence[Dim]],
    pairs: Sequence[Pair],
) -> list[Finding]:
    """All findings of a split, in the order of episodes and steps, consequences left out.

    Args:
        reports: of every episode, in any order.
        table: of `dims_of`.
        pairs: of `pairs_of`.
    """
    reports = sorted(reports, key=lambda r: r.number)
    read = [r for r in reports if r.length]
    found = [f for r in reports for f in r.findings]
    found = _usual_sizes(_usual_flags(found, read), read)
    found += [*_lengths(read), *_duplicates(read), *strange_repeats(read)]
    for field, dims in table.items():
        having = [r for r in read if field in r.extents and r.length > 1]
        if having:
            found += [*_constant(having, field, dims, pairs), *_values(having, field, dims)]
    following = [r for r in read if r.following is not None and r.length > 1]
    if following and pairs:
        found += [*_starts(following, pairs), *_shifts(following), *_senses(following, pairs)]
    files = {r.number: r.file for r in reports}
    found = [dataclasses.replace(f, file=f.file or files.get(f.episode or 0, "")) for f in found]
    return sorted(without_consequences(found), key=_order)


def _order(finding: Finding) -> tuple:
    return (
        -1 if finding.episode is None else finding.episode,
        -1 if finding.step is None else finding.step,
        finding.kind,
        finding.signal,
    )


def _usual_flags(found: list[Finding], reports: Sequence[EpisodeReport]) -> list[Finding]:
    """A flag that most episodes lack is a habit of the dataset: one warning, no errors."""
    lacking = collections.Counter(f.field for f in found if f.kind == "flag_missing")
    for name, count in lacking.items():
        if count * 2 > len(reports):
            first = next(f for f in found if f.kind == "flag_missing" and f.field == name)
            message = f"{name} is set in none of {count} episodes"
            where: dict[str, Any] = {"step": first.step, "field": name, "file": first.file}
            found = [*found, Finding("flags_unset", message, None, **where)]
    return found


def _usual_sizes(found: list[Finding], reports: Sequence[EpisodeReport]) -> list[Finding]:
    """A camera whose pictures all have one other size: one warning about the specs."""
    others = collections.Counter((f.field, f.message) for f in found if f.kind == "image_size")
    for (field, message), count in others.items():
        if count == len(reports) >= LEAST_EPISODES:
            found = [f for f in found if (f.kind, f.field) != ("image_size", field)]
            where: dict[str, Any] = {"step": 0, "field": field, "file": reports[0].file}
            found.append(Finding("camera_size", f"everywhere {message}", None, **where))
    return found


def _lengths(reports: Sequence[EpisodeReport]) -> list[Finding]:
    if len(reports) < LEAST_EPISODES:
        return []
    logs = np.log([r.length for r in reports])
    middle = float(np.median(logs))
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(logs - middle)))
    limit = max(LENGTH_DEVIATIONS * spread, np.log(LENGTH_FACTOR))
    return [
        Finding(
            "length_outlier",
            f"{r.length} steps, the median episode has {np.exp(middle):.0f}",
            r.number,
            step=r.length - 1,
        )
        for r, value in zip(reports, logs, strict=True)
        if abs(value - middle) > limit
    ]


def _duplicates(reports: Sequence[EpisodeReport]) -> list[Finding]:
    found: list[Finding] = []
    first: dict[str, int] = {}
    for report in reports:
        if not report.fingerprint:
            continue
        other = first.setdefault(report.fingerprint, report.number)
        if other != report.number:
            message = f"the same numbers as episode {other}"
            found.append(Finding("duplicate_episode", message, report.number, step=0))
    return found


def _constant(
    reports: Sequence[EpisodeReport], field: str, dims: Sequence[Dim], pairs: Sequence[Pair]
) -> list[Finding]:
    """Dimensions of one value in the whole split; a thing at rest is only noted."""
    if len(reports) < LEAST_EPISODES:
        return []
    low = np.min([r.extents[field].low for r in reports], axis=0)
    high = np.max([r.extents[field].high for r in reports], axis=0)
    robot = {(pair.state.field, pair.state.name) for pair in pairs}
    found = []
    for dim in dims:
        if low[dim.index] == high[dim.index]:
            kind = "constant_dim" if field == ACTION or (field, dim.name) in robot else "at_rest"
            message = f"is {low[dim.index]:.4g} in every step of {len(reports)} episodes"
            where: dict[str, Any] = {"dim": dim.name, "file": reports[0].file}
            found.append(Finding(kind, message, None, 0, field, **where))
    return found


def _values(reports: Sequence[EpisodeReport], field: str, dims: Sequence[Dim]) -> list[Finding]:
    """Jumps and outliers of one field."""
    if len(reports) < LEAST_EPISODES:
        return []
    extents = [r.extents[field] for r in reports]
    low, high = np.stack([e.low for e in extents]), np.stack([e.high for e in extents])  # [N, D]
    jump = np.stack([e.jump for e in extents])
    usual_jump = np.quantile([e.usual_jump for e in extents], 0.75, axis=0, method="lower")
    span = np.quantile(high - low, 0.75, axis=0, method="lower")
    jumps = jump > np.maximum(JUMP_FACTOR * usual_jump, JUMP_SHARE * span)
    width, middle_low, middle_high = _width(low, high)
    below = middle_low - low > OUTLIER_FACTOR * width
    above = high - middle_high > OUTLIER_FACTOR * width
    most = max(HABIT * len(reports), 1)
    found = []
    for dim in dims:
        d = dim.index
        # Rounding errors of a simulated thing at rest are no movement.
        if dim.gripper or span[d] <= max(STILL, STILL_SHARE * span.max()):
            continue
        # What is touched is stopped at once: that is no defect.
        smooth = not dim.rate and usual_jump[d] > 0 and span[d] > 0.01 * dim.extent
        jumping = np.flatnonzero(jumps[:, d]).tolist() if smooth else []
        if len(jumping) <= most:
            for i in jumping:
                message = f"changes by {jump[i, d]:.4g} in one step, usually {usual_jump[d]:.4g}"
                found.append(_in(reports[i], "jump", message, extents[i].jump_step[d], dim))
        usual = f"most episodes stay in {middle_low[d]:.4g} .. {middle_high[d]:.4g}"
        for outside, values, steps in ((below, low, "low_step"), (above, high, "high_step")):
            outliers = np.flatnonzero(outside[:, d]).tolist()
            for i in outliers if len(outliers) <= most else ():
                step = getattr(extents[i], steps)[d]
                message = f"{values[i, d]:.4g}; {usual}"
                found.append(_in(reports[i], "value_outlier", message, step, dim))
    return found


def _in(report: EpisodeReport, kind: str, message: str, step: Any, dim: Dim) -> Finding:
    """A finding in one dimension of one episode."""
    return Finding(kind, message, report.number, int(step), dim.field, dim.name)


def _width(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Width [D] in which the episodes' extremes lie, and the medians of these extremes."""
    middle_low, middle_high = np.median(low, axis=0), np.median(high, axis=0)
    scatter = np.maximum(
        np.median(np.abs(low - middle_low), axis=0), np.median(np.abs(high - middle_high), axis=0)
    )
    width = middle_high - middle_low + _MAD_TO_SIGMA * scatter
    return np.where(width > 0, width, np.inf), middle_low, middle_high


def _starts(reports: Sequence[EpisodeReport], pairs: Sequence[Pair]) -> list[Finding]:
    """First actions far from where the robot stands."""
    if len(reports) < LEAST_EPISODES:
        return []
    following = [r.following for r in reports if r.following is not None]
    start = np.stack([f.start for f in following])  # [N, P]
    usual = np.stack([f.usual for f in following])
    limit = START_FACTOR * np.maximum(np.median(start, axis=0), np.median(usual, axis=0))
    found = []
    for i, report in enumerate(reports):
        for p, pair in enumerate(pairs):
            if start[i, p] > max(limit[p], START_SHARE * pair.action.extent, 1e-6):
                message = (
                    f"the first action is {start[i, p]:.4g} away from the measured value, "
                    f"usually up to {np.median(usual[:, p]):.4g}"
                )
                where: dict[str, Any] = {"step": 0, "field": ACTION, "dim": pair.action.name}
                found.append(Finding("first_action_jump", message, report.number, **where))
    return found


def _shifts(reports: Sequence[EpisodeReport]) -> list[Finding]:
    """Episodes whose action equals the state of the same or of an earlier step."""
    fits = {r.number: r.following.misfit for r in reports if r.following is not None}
    having = [(number, fit) for number, fit in fits.items() if fit is not None]
    if not having:
        return []
    misfit = np.stack([fit for _, fit in having])  # [N, L]
    best = np.argmin(misfit, axis=1)
    usual = int(np.median(best))
    right = LAGS.index(1)
    found = []
    for (number, lags), lag in zip(having, best, strict=True):
        # Either it lags behind the state, or it differs clearly from the other episodes.
        behind = lag < right and lags[lag] < 0.5 * lags[right]
        differs = abs(lag - usual) >= 2 and lags[lag] < 0.5 * lags[usual]
        if behind or (differs and len(having) >= LEAST_EPISODES):
            message = f"the action fits best the state {_later(LAGS[lag])}"
            if len(having) >= LEAST_EPISODES:
                message += f", usually that {_later(LAGS[usual])}"
            found.append(Finding("misaligned", message, number, step=0, field=ACTION))
    return found


def _later(lag: int) -> str:
    if lag == 0:
        return "of the same step"
    return f"{abs(lag)} step{'s' * (abs(lag) > 1)} {'later' if lag > 0 else 'earlier'}"


def _senses(reports: Sequence[EpisodeReport], pairs: Sequence[Pair]) -> list[Finding]:
    """Grippers that are measured against the sense of their command."""
    found = []
    for p, pair in enumerate(pairs):
        signs = {r.number: np.sign(r.following.gripper[p]) for r in reports if r.following}
        votes = {n: s for n, s in signs.items() if s}
        against = [n for n, s in votes.items() if s < 0]
        where: dict[str, Any] = {"step": 0, "field": ACTION, "dim": pair.action.name}
        if len(against) * 2 > len(votes):
            message = f"measured and commanded gripper are opposed in {len(against)} episodes"
            where |= {"field": pair.state.field, "file": reports[0].file}
            found.append(Finding("gripper_sense", message, None, **where))
        else:
            message = "the command opens what the measurement closes, unlike in other episodes"
            found += [Finding("gripper_inverted", message, n, **where) for n in against]
    return found
