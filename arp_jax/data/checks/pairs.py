"""Checks of the action against what the robot measured of itself.

In: an `EpisodeView` and the pairs of dimensions that have one name in action and state. Out:
findings that one episode proves by itself, and `Following`: how the state follows the action, from
which `checks/compare.py` sees the episode that does it otherwise.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from arp_jax.data.checks.dims import Dim, Pair
from arp_jax.data.checks.findings import ACTION, EpisodeView, Finding

# Shifts of the state against the action that are tried, in steps. Right is a positive one.
LAGS = tuple(range(-3, 9))
# Fewer steps say nothing about a shift.
LEAST_STEPS = 20
# A sensor that holds exactly one value for so many steps while its action moves is stuck.
STUCK_STEPS = 10
STUCK_SHARE = 0.1
# One of two explanations must be so many times better to be believed.
CLEARLY = 10.0
# Factors between units: degrees and radians, millimeters or centimeters and meters.
FACTORS = (180 / np.pi, np.pi / 180, 1000.0, 0.001, 100.0, 0.01)
_LEAST_CORRELATION = 0.98
_FACTOR_TOLERANCE = 0.05
_GRIPPER_LAG = 15
_GRIPPER_CORRELATION = 0.6


@dataclasses.dataclass(frozen=True)
class Following:
    """How the measured dimensions follow the commanded ones in one episode.

    Attributes:
        misfit: per lag of `LAGS`, mean distance of the action from the state so many steps later,
            in units of the state's range; None where too little moves or actions are changes.
        start: per pair, |action - state| at step 0; usual: quantile 0.99 of it over the episode.
        gripper: per pair, correlation of the measured gripper with its command; 0 for others.
    """

    misfit: np.ndarray | None
    start: np.ndarray
    usual: np.ndarray
    gripper: np.ndarray


def check_pairs(view: EpisodeView, pairs: Sequence[Pair]) -> list[Finding]:
    """What one episode shows: stuck sensors, no motion, changes taken for targets, wrong units."""
    if view.length < 2:
        return []
    moving = [p for p in pairs if not p.action.gripper and _moves(view, p)]
    found = _no_motion(view)
    for pair in pairs:
        found += _stuck(view, pair)
    found += _sense(view, [p for p in moving if not p.state.rate])
    found += _scale(view, moving)
    return found + _past_change(view, [p for p in moving if not p.action.absolute])


def following_of(view: EpisodeView, pairs: Sequence[Pair]) -> Following:
    """What `Following` says, for all pairs."""
    targets = [p for p in pairs if p.action.absolute and not p.action.gripper and _moves(view, p)]
    gaps = np.zeros((max(view.length, 1), len(pairs)))
    for i, pair in enumerate(pairs):
        if pair.action.absolute and not pair.action.gripper and view.length:
            gap = np.abs(_action(view, pair) - _state(view, pair))
            turn = pair.state.turn
            gaps[:, i] = gap if turn is None else np.minimum(gap, np.abs(turn - gap))
    return Following(
        misfit=_misfit(view, targets),
        start=gaps[0],
        usual=np.quantile(gaps, 0.99, axis=0) if len(pairs) else np.zeros(0),
        gripper=np.array([_gripper_correlation(view, p) for p in pairs]),
    )


def _action(view: EpisodeView, pair: Pair) -> np.ndarray:
    return view.vectors[ACTION][:, pair.action.index]


def _state(view: EpisodeView, pair: Pair) -> np.ndarray:
    return view.vectors[pair.state.field][:, pair.state.index]


def _moves(view: EpisodeView, pair: Pair) -> bool:
    """Whether both sides move visibly, so that comparing them says something."""
    if view.length < LEAST_STEPS or pair.state.field not in view.vectors:
        return False
    state, action = np.ptp(_state(view, pair)), np.ptp(_action(view, pair))
    return bool(state > 0.02 * pair.state.extent and state > 1e-6 and action > 1e-9)


def _no_motion(view: EpisodeView) -> list[Finding]:
    action = view.vectors[ACTION]
    if view.length < 5 or np.ptp(action, axis=0).any():
        return []
    message = f"the action is the same in all {view.length} steps"
    return [view.finding("no_motion", message, step=0, field=ACTION, steps=view.length)]


def _stuck(view: EpisodeView, pair: Pair) -> list[Finding]:
    """The longest run of one exact measured value, if the action moves meanwhile."""
    if pair.state.field not in view.vectors:
        return []
    state, action = _state(view, pair), _action(view, pair)
    begin, end = _longest_run(state)
    if end - begin < STUCK_STEPS:
        return []
    dim = pair.state
    if pair.action.gripper:
        whole = begin == 0 and end == len(state)
        switched = np.abs(action - action[0]) > 0.5 * pair.action.extent
        if not whole or switched.sum() < STUCK_STEPS:
            return []
        kind = "gripper_stuck"
    else:
        if not _moved(action[begin:end], pair.action):
            return []
        kind = "stuck_sensor"
    message = f"stays at {state[begin]:.4g} for {end - begin} steps while its action moves"
    return [
        view.finding(
            kind,
            message,
            step=int(begin),
            field=dim.field,
            dim=dim.name,
            steps=int(end - begin),
            last=int(end - 1),
        )
    ]


def _moved(action: np.ndarray, dim: Dim) -> bool:
    """Whether the commands of a stretch ask for a real movement."""
    if dim.absolute:
        return bool(np.ptp(action) > STUCK_SHARE * dim.extent)
    # Half of the greatest change a step, in every step: far more than a hand's tremble.
    return bool(abs(action.sum()) > 0.25 * len(action) * max(abs(dim.low or 0), abs(dim.high or 0)))


def _longest_run(values: np.ndarray) -> tuple[int, int]:
    """[begin, end) of the longest stretch of one value."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values) != 0) + 1, [len(values)]])
    longest = int(np.argmax(np.diff(edges)))
    return int(edges[longest]), int(edges[longest + 1])


def _sense(view: EpisodeView, pairs: Sequence[Pair]) -> list[Finding]:
    """Actions that are changes although targets are declared, or the reverse."""
    votes = []
    for pair in pairs:
        action, state = _action(view, pair), _state(view, pair)
        as_change = _median_distance(action[:-1], np.diff(state))
        as_target = min(
            _median_distance(action[:-lag], state[lag:]) for lag in range(1, 6) if lag < len(state)
        )
        wrong, right = (as_change, as_target) if pair.action.absolute else (as_target, as_change)
        votes.append(wrong * CLEARLY < right)
    if not votes or np.mean(votes) <= 0.5:
        return []
    first = pairs[votes.index(True)].action
    kind = "delta_as_absolute" if first.absolute else "absolute_as_delta"
    message = f"in {sum(votes)} of {len(votes)} moving dimensions the values fit the other meaning"
    return [view.finding(kind, message, step=0, field=ACTION, dim=first.name, steps=view.length)]


def _median_distance(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.median(np.abs(left - right)))


def _scale(view: EpisodeView, pairs: Sequence[Pair]) -> list[Finding]:
    """Action and state that move alike, but by a factor that lies between two units."""
    for pair in pairs:
        action, state = _action(view, pair), _state(view, pair)
        if pair.state.turn is not None and np.abs(np.diff(state)).max() > 0.5 * pair.state.turn:
            continue  # it passes the end of the circle
        if not pair.action.absolute:
            action, state = np.cumsum(action)[:-1], state[1:] - state[0]
        factor = _common_factor(action, state)
        near = [f for f in FACTORS if factor and abs(factor / f - 1) < _FACTOR_TOLERANCE]
        if near:
            kind = "degrees" if pair.action.angle and near[0] in FACTORS[:2] else "scale"
            message = f"the action moves {factor:.4g} times as far as the measured value"
            return [view.finding(kind, message, step=0, field=ACTION, dim=pair.action.name)]
    return []


def _common_factor(action: np.ndarray, state: np.ndarray) -> float:
    """How many times as far the action moves as the state it leads by some steps; 0 if unlike."""
    for lag in range(0, LAGS[-1]):
        left, right = action[: len(action) - lag], state[lag:]
        if np.std(left) == 0 or np.std(right) == 0:
            return 0.0
        if np.corrcoef(left, right)[0, 1] >= _LEAST_CORRELATION:
            return float(np.std(left) / np.std(right))
    return 0.0


def _past_change(view: EpisodeView, pairs: Sequence[Pair]) -> list[Finding]:
    """Changes that are those of the step before: the action lies one step late."""
    for pair in pairs:
        action, change = _action(view, pair), np.diff(_state(view, pair))
        size = float(np.mean(np.abs(action)))
        now = float(np.mean(np.abs(action[1:-1] - change[1:]))) / size
        before = float(np.mean(np.abs(action[1:-1] - change[:-1]))) / size
        if before < 0.5 and before * CLEARLY < now:
            message = "the action is the change of the step before"
            where = {"field": ACTION, "dim": pair.action.name}
            return [view.finding("misaligned", message, step=0, **where)]
    return []


def _misfit(view: EpisodeView, pairs: Sequence[Pair]) -> np.ndarray | None:
    begin, end = -LAGS[0], view.length - LAGS[-1]
    if not pairs or end - begin < LEAST_STEPS:
        return None
    result = np.zeros(len(LAGS))
    for pair in pairs:
        action, state = _action(view, pair), _state(view, pair)
        size = float(np.ptp(state))
        for i, lag in enumerate(LAGS):
            distance = np.abs(action[begin:end] - state[begin + lag : end + lag])
            if pair.state.turn is not None:
                distance = np.minimum(distance, np.abs(pair.state.turn - distance))
            result[i] += float(distance.mean()) / size
    return result / len(pairs)


def _gripper_correlation(view: EpisodeView, pair: Pair) -> float:
    """Of the command with the measured opening some steps later; 0 where it says nothing."""
    if not pair.action.gripper or pair.state.field not in view.vectors:
        return 0.0
    action, state = _action(view, pair), _state(view, pair)
    if view.length < LEAST_STEPS or np.ptp(action) < 0.5 * pair.action.extent:
        return 0.0
    if np.ptp(state) <= max(0.1 * pair.state.extent, 1e-9):
        return 0.0
    best = 0.0
    for lag in range(min(_GRIPPER_LAG, view.length // 2)):
        left, right = action[: view.length - lag], state[lag:]
        if np.std(left) > 0 and np.std(right) > 0:
            value = float(np.corrcoef(left, right)[0, 1])
            best = value if abs(value) > abs(best) else best
    return best if abs(best) >= _GRIPPER_CORRELATION else 0.0
