"""The window of the last W observations that a policy sees.

Flows in: single observations {name: [...]}. Flows out: histories {name: [W, ...]}, oldest first. At
the start of an episode the first observation fills the window, as in training (edge repetition).
Works on numpy and jax arrays through the array API.
"""

from collections.abc import Mapping
from typing import Any

Observation = dict[str, Any]


def start_history(observation: Mapping[str, Any], window: int) -> Observation:
    """Fills the window with one observation: {name: [...]} -> {name: [W, ...]}."""
    return {
        name: value.__array_namespace__().stack([value] * window)  # [W, ...]
        for name, value in observation.items()
    }


def push_observation(history: Mapping[str, Any], observation: Mapping[str, Any]) -> Observation:
    """Drops the oldest entry and appends the newest: {name: [W, ...]} -> {name: [W, ...]}."""
    return {
        name: past.__array_namespace__().concat([past[1:], observation[name][None]])  # [W, ...]
        for name, past in history.items()
    }
