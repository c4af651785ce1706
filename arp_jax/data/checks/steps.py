"""Checks of an episode's steps: their number, the flags at its ends, time stamps, instructions.

In: an `EpisodeView`. Out: findings. What needs the other episodes is in `checks/compare.py`.
"""

import numpy as np

from arp_jax.data.checks.findings import EpisodeView, Finding

# A gap is a step that took so many times the usual one.
GAP = 2.5
# The specs' rate and the measured one may differ by this factor.
RATE_FACTOR = 1.2
# Time stamps come in seconds, milliseconds, microseconds or nanoseconds.
_TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def check_length(view: EpisodeView) -> list[Finding]:
    """An episode needs at least two steps."""
    if view.length > 1:
        return []
    return [view.finding("one_step", f"the episode has {view.length} step(s)", step=0)]


def check_flags(view: EpisodeView) -> list[Finding]:
    """is_first at the first step only, is_last at the last only, is_terminal nowhere else."""
    found = []
    last = view.length - 1
    for name, place in (("is_first", 0), ("is_last", last), ("is_terminal", last)):
        if name not in view.flags or not view.length:
            continue
        steps = np.flatnonzero(view.flags[name])
        wrong = steps[steps != place]
        if len(wrong):
            message = f"{name} is set at step {wrong[0]}, the episode's is step {place}"
            found.append(
                view.finding(
                    "flag_misplaced", message, step=int(wrong[0]), field=name, steps=len(wrong)
                )
            )
        elif not len(steps) and name != "is_terminal":
            message = f"{name} is set nowhere, it belongs to step {place}"
            found.append(view.finding("flag_missing", message, step=place, field=name))
    return found


def check_time(view: EpisodeView) -> list[Finding]:
    """Time stamps rise, without gaps, at the rate that the specs declare."""
    found = []
    for name, stamps in view.times.items():
        if len(stamps) > 2 and np.isfinite(stamps).all():
            found += _check_stamps(view, name, stamps)
    return found


def _check_stamps(view: EpisodeView, name: str, stamps: np.ndarray) -> list[Finding]:
    delta = np.diff(stamps)
    back = np.flatnonzero(delta <= 0)
    if len(back):
        step = int(back[0]) + 1
        message = f"{name} goes from {stamps[step - 1]:.6g} to {stamps[step]:.6g}"
        return [view.finding("time_backwards", message, step=step, field=name, steps=len(back))]
    found = []
    usual = float(np.median(delta))
    gaps = np.flatnonzero(delta > GAP * usual)
    if len(gaps):
        step = int(gaps[0]) + 1
        message = f"{name} advances by {delta[gaps[0]]:.6g}, usually by {usual:.6g}"
        found.append(view.finding("time_gap", message, step=step, field=name, steps=len(gaps)))
    # Numbers of steps are no time: they only must not skip.
    if usual != 1.0 or (delta != np.round(delta)).any():
        found += _check_rate(view, name, usual)
    return found


def _check_rate(view: EpisodeView, name: str, usual: float) -> list[Finding]:
    declared = view.specs.action.rate_hz
    rates = {unit: scale / usual for unit, scale in _TIME_UNITS.items()}
    unit = min(rates, key=lambda u: abs(np.log(rates[u] / declared)))
    factor = rates[unit] / declared
    if 1 / RATE_FACTOR <= factor <= RATE_FACTOR:
        return []
    message = f"{name} (in {unit}) runs at {rates[unit]:.4g} Hz, the specs say {declared:g} Hz"
    return [view.finding("time_rate", message, step=0, field=name)]


def check_language(view: EpisodeView) -> list[Finding]:
    """The instruction stays the same through the episode, and there is one."""
    found = []
    if view.language == ():
        message = "the episode has no instruction"
        found.append(view.finding("language_missing", message, step=0, field="language"))
    for name, texts in view.texts.items():
        words = [str(text).strip() for text in texts]
        changed = [t for t in range(1, len(words)) if words[t] != words[t - 1]]
        if changed:
            step = changed[0]
            message = f"{name} changes from {words[step - 1]!r} to {words[step]!r}"
            found.append(
                view.finding("language_changes", message, step=step, field=name, steps=len(changed))
            )
    return found
