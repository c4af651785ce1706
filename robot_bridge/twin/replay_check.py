"""Did the arm go where it was sent? Recorded commands against achieved poses, joint by joint (R5).

In: an episode log, or the same pairs as they come in live. Out: a `ReplayReport`: the arm's lag,
and what is left of the error once it is taken out, with a verdict against tolerances. A policy is
only allowed on an arm on which the same values give the same motion. Nothing moves here.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_bridge.arm import GRIPPER
from robot_bridge.log.episode_log import EpisodeLog, Step, read_log

# Flag of a step whose gripper was not measured (its reading is the last command).
NOT_MEASURED = "gripper_not_measured"
# Sources whose commands the arm was to follow; in "teach" the arm leads and a hand follows.
COMMANDED = ("policy", "replay", "script", "takeover")
_COARSE_S, _FINE_S = 0.02, 0.002
_LEAST_SAMPLES = 10
# Without a command for so long the arm was held: where, the commands do not say.
_HOLD_NS = 500_000_000
_LEAST_MOTION_RAD = math.radians(5.0)


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """What counts as following.

    Attributes:
        rms_rad, max_rad: of each joint's error without the lag.
        lag_s: longest lag; a longer one is also not looked for.
        gripper_rms: of the opening, 0 ... 1, where it was measured.
    """

    rms_rad: float = math.radians(2.0)
    max_rad: float = math.radians(8.0)
    lag_s: float = 0.6
    gripper_rms: float = 0.2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"replay check {field.name} must be above 0 and finite")


@dataclasses.dataclass(frozen=True)
class Track:
    """One stretch without interruption: what was commanded and what was achieved.

    Attributes:
        command_times_ns, commands: int64 [C] rising, float [C, A].
        reading_times_ns, readings: int64 [R] rising, float [R, A]; NaN where it was not measured.
    """

    command_times_ns: np.ndarray
    commands: np.ndarray
    reading_times_ns: np.ndarray
    readings: np.ndarray


@dataclasses.dataclass(frozen=True)
class ReplayReport:
    """How well the arm followed.

    Attributes:
        names: of the dimensions [A].
        lag_s: of the whole arm, by which the error is smallest; NaN where nothing moved.
        rms, largest: [A] errors without the lag, rad and opening; NaN: never measured.
        rms_with_lag: [A] the same with the lag in it.
        motion: [A] range of the commands.
        samples: readings compared.
        reasons: why a policy may not move this arm; () when it may.
    """

    names: tuple[str, ...]
    lag_s: float
    rms: np.ndarray
    largest: np.ndarray
    rms_with_lag: np.ndarray
    motion: np.ndarray
    samples: int
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "ok" or "refuse"."""
        return "refuse" if self.reasons else "ok"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; degrees for people, None for what is not known."""
        joints = {}
        for index, name in enumerate(self.names):
            unit, scale = ("", 1.0) if name == GRIPPER else ("_deg", math.degrees(1.0))
            joints[name] = {
                f"{field}{unit}": _plain(scale * getattr(self, field)[index])
                for field in ("rms", "largest", "rms_with_lag", "motion")
            }
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "lag_s": _plain(self.lag_s),
            "samples": self.samples,
            "joints": joints,
        }


def check_log(log: EpisodeLog | str | Path, tolerances: Tolerances | None = None) -> ReplayReport:
    """Compares a recorded episode; hand-guided steps are left out.

    Raises:
        ValueError: the file is no log.
    """
    if not isinstance(log, EpisodeLog):
        log = read_log(log)
    names = log.header.action.dims
    return check_tracks(_tracks(log.steps, names), names, tolerances or Tolerances())


class LiveCheck:
    """Collects commands and readings while the arm moves.

    Args:
        names: of the dimensions of both.
        longest: pairs kept; older ones are forgotten.
    """

    def __init__(self, names: Sequence[str], longest: int = 100_000) -> None:
        self._names, self._longest = tuple(names), longest
        self._commands: list[tuple[int, np.ndarray]] = []
        self._readings: list[tuple[int, np.ndarray]] = []

    def commanded(self, time_ns: int, command: np.ndarray) -> None:
        """A target [A] was sent."""
        self._add(self._commands, time_ns, command)

    def achieved(self, time_ns: int, state: np.ndarray, gripper_measured: bool = True) -> None:
        """A reading [A] came in; one that is no newer than the last is not counted again."""
        row = np.array(state, np.float64)
        if not gripper_measured and GRIPPER in self._names:
            row[self._names.index(GRIPPER)] = np.nan
        self._add(self._readings, time_ns, row)

    def report(self, tolerances: Tolerances | None = None) -> ReplayReport:
        """Of everything so far."""
        tracks = [] if not (self._commands and self._readings) else [self._track()]
        return check_tracks(tracks, self._names, tolerances or Tolerances())

    def _track(self) -> Track:
        return Track(*_columns(self._commands), *_columns(self._readings))

    def _add(self, rows: list[tuple[int, np.ndarray]], time_ns: int, row: np.ndarray) -> None:
        if np.shape(row) != (len(self._names),):
            raise ValueError(f"replay check: {np.shape(row)} numbers for {self._names}")
        if not rows or time_ns > rows[-1][0]:
            rows.append((time_ns, np.array(row, np.float64)))
            del rows[: -self._longest]


def check_tracks(
    tracks: Sequence[Track], names: Sequence[str], tolerances: Tolerances
) -> ReplayReport:
    """Finds the arm's lag over all tracks, takes it out and judges what is left.

    A track is cut where no command was sent for half a second.
    """
    tracks = [part for track in tracks for part in _without_holds(track)]
    angles = np.array([name != GRIPPER for name in names])
    moved = max((float(np.ptp(t.commands[:, angles], axis=0).max()) for t in tracks), default=0.0)
    lag = _best_lag(tracks, angles, tolerances.lag_s) if moved >= _LEAST_MOTION_RAD else math.nan
    errors = _errors(tracks, 0.0 if math.isnan(lag) else lag, len(names))
    rms, largest = _rms(errors), _largest(errors)
    commands = np.concatenate([np.zeros((0, len(names))), *(t.commands for t in tracks)])
    report = ReplayReport(
        names=tuple(names),
        lag_s=lag,
        rms=rms,
        largest=largest,
        rms_with_lag=_rms(_errors(tracks, 0.0, len(names))),
        motion=np.ptp(commands, axis=0) if len(commands) else np.zeros(len(names)),
        samples=len(errors),
        reasons=(),
    )
    return dataclasses.replace(report, reasons=tuple(_reasons(report, moved, tolerances)))


def _reasons(report: ReplayReport, moved: float, allowed: Tolerances) -> list[str]:
    if report.samples < _LEAST_SAMPLES:
        return [f"only {report.samples} readings to compare; {_LEAST_SAMPLES} are needed"]
    if moved < _LEAST_MOTION_RAD:
        least = math.degrees(_LEAST_MOTION_RAD)
        return [f"no joint was moved by {least:.0f} degrees: nothing was shown"]
    reasons = []
    if report.lag_s >= allowed.lag_s - _FINE_S:
        reasons.append(f"the arm lags by {allowed.lag_s:.2f} s or more; it does not follow")
    for name, rms, largest in zip(report.names, report.rms, report.largest, strict=True):
        if name == GRIPPER:
            if rms > allowed.gripper_rms:
                reasons.append(f"{name}: {rms:.2f} rms from its commands of 0 ... 1")
            continue
        if math.isnan(rms):
            reasons.append(f"{name}: was never measured")
        for value, most, what in (
            (rms, allowed.rms_rad, "rms"),
            (largest, allowed.max_rad, "at most"),
        ):
            if value > most:
                reasons.append(
                    f"{name}: {math.degrees(value):.1f} degrees {what} from its commands; "
                    f"{math.degrees(most):.1f} are allowed"
                )
    return reasons


def _tracks(steps: Sequence[Step], names: Sequence[str]) -> list[Track]:
    """Stretches of commanded steps; a hand-guided step ends one."""
    tracks: list[Track] = []
    commands: list[tuple[int, np.ndarray]] = []
    readings: list[tuple[int, np.ndarray]] = []
    for step in (*steps, None):
        if step is None or step.source not in COMMANDED:
            if commands and readings:
                tracks.append(Track(*_columns(commands), *_columns(readings)))
            commands, readings = [], []
            continue
        # Held steps were not sent; the command that was sent last stands.
        if step.command_time_ns > (commands[-1][0] if commands else 0):
            commands.append((step.command_time_ns, np.array(step.command, np.float64)))
        reading = _reading(step, names)
        if reading is not None and (not readings or reading[0] > readings[-1][0]):
            readings.append(reading)
    return tracks


def _reading(step: Step, names: Sequence[str]) -> tuple[int, np.ndarray] | None:
    if step.achieved is None or len(step.achieved) != len(names):
        return None
    row = np.array(step.achieved, np.float64)
    if NOT_MEASURED in step.flags and GRIPPER in names:
        row[list(names).index(GRIPPER)] = np.nan
    return step.achieved_time_ns, row


def _columns(rows: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([time for time, _ in rows], np.int64), np.stack([row for _, row in rows])


def _without_holds(track: Track) -> list[Track]:
    """The parts between holds; what was read half a second after a part's end is left out."""
    cuts = np.flatnonzero(np.diff(track.command_times_ns) > _HOLD_NS) + 1
    parts = []
    for times, commands in zip(
        np.split(track.command_times_ns, cuts), np.split(track.commands, cuts), strict=True
    ):
        read = track.reading_times_ns
        inside = (read >= times[0]) & (read <= times[-1] + _HOLD_NS)
        parts.append(Track(times, commands, read[inside], track.readings[inside]))
    return parts


def _best_lag(tracks: Sequence[Track], angles: np.ndarray, longest_s: float) -> float:
    """The lag with the smallest mean square error of the joints, to `_FINE_S`."""

    def cost(lag: float) -> float:
        errors = _errors(tracks, lag, len(angles))[:, angles]
        return float(np.nanmean(errors**2)) if np.isfinite(errors).any() else math.inf

    coarse = min(np.arange(0.0, longest_s + _COARSE_S / 2, _COARSE_S), key=cost)
    fine = np.arange(max(0.0, coarse - _COARSE_S), coarse + _COARSE_S, _FINE_S)
    return float(min(fine, key=cost))


def _errors(tracks: Sequence[Track], lag_s: float, size: int) -> np.ndarray:
    """float64 [R, A]: readings minus the commands of `lag_s` earlier, linear in between.

    Readings from before the first command can have followed is nothing known about: left out.
    """
    rows = [np.zeros((0, size))]
    for track in tracks:
        first = track.command_times_ns[0]
        wanted = (track.reading_times_ns - first) / 1e9 - lag_s
        known = (track.command_times_ns - first) / 1e9
        inside = wanted >= 0
        targets = [np.interp(wanted[inside], known, column) for column in track.commands.T]
        rows.append(track.readings[inside] - np.stack(targets, axis=-1))
    return np.concatenate(rows)


def _rms(errors: np.ndarray) -> np.ndarray:
    """float64 [A]; NaN for a dimension without a measurement."""
    count = np.isfinite(errors).sum(axis=0)
    total = np.nansum(errors**2, axis=0)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)


def _largest(errors: np.ndarray) -> np.ndarray:
    measured = np.isfinite(errors).any(axis=0)
    return np.where(measured, np.nan_to_num(np.abs(errors)).max(axis=0, initial=0.0), np.nan)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
