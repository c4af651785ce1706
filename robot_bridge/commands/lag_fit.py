"""How late the arm follows: a dead time and a first-order lag, fitted to commands and readings.

In: times and values of one joint's commands and readings. Out: the two numbers and what is left of
the error. The model: after the dead time, the joint goes to its target as x' = (u - x) / tau. Pure.
"""

import dataclasses

import numpy as np

_STEP_S = 0.002
_TAUS = np.concatenate([[0.002], np.arange(0.01, 1.001, 0.01)])
_DELAYS = np.arange(0.0, 0.401, 0.01)
_LEAST_READINGS = 10


@dataclasses.dataclass(frozen=True)
class Lag:
    """A joint's lag.

    Attributes:
        delay_s: dead time.
        tau_s: time constant.
        rms: error of the model, in the values' unit.
    """

    delay_s: float
    tau_s: float
    rms: float

    @property
    def total_s(self) -> float:
        """How late a steady motion is followed."""
        return self.delay_s + self.tau_s


def fit_lag(
    command_times_s: np.ndarray,
    commands: np.ndarray,
    reading_times_s: np.ndarray,
    readings: np.ndarray,
) -> Lag:
    """Fits by least squares on a grid of 10 ms.

    Args:
        command_times_s, commands: float [C], rising times; each holds until the next.
        reading_times_s, readings: float [R] of the same clock and unit.

    Raises:
        ValueError: too few readings, or commands that do not move.
    """
    inside = reading_times_s >= command_times_s[0]
    if inside.sum() < _LEAST_READINGS or np.ptp(commands) == 0:
        raise ValueError(f"{inside.sum()} readings of a motion; {_LEAST_READINGS} are needed")
    times = np.arange(command_times_s[0], reading_times_s[-1] + _STEP_S, _STEP_S)
    held = commands[np.searchsorted(command_times_s, times + 1e-9, side="right") - 1]
    start = float(np.interp(command_times_s[0], reading_times_s, readings))
    # All time constants at once; a delay only shifts what comes out.
    states = _responses(held, start, _TAUS)
    best = Lag(0.0, 0.0, np.inf)
    for delay in _DELAYS:
        where = reading_times_s[inside] - delay
        for tau, state in zip(_TAUS, states, strict=True):
            modelled = np.interp(where, times, state, left=start)
            rms = float(np.sqrt(np.mean((modelled - readings[inside]) ** 2)))
            if rms < best.rms:
                best = Lag(float(delay), float(tau), rms)
    return best


def _responses(held: np.ndarray, start: float, taus: np.ndarray) -> np.ndarray:
    """float64 [taus, times]: first-order responses to a command [times] that is held each step."""
    share = -np.expm1(-_STEP_S / taus)
    states = np.empty((len(taus), len(held)))
    now = np.full(len(taus), start)
    for index, target in enumerate(held):
        states[:, index] = now
        now = now + share * (target - now)
    return states
