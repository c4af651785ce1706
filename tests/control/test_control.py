"""Receding horizon and observation window, on numpy and jax arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.control.chunking import executed_actions
from arp_jax.control.history import push_observation, start_history
from tests.test_specs import POLICY


def test_executed_actions_begin_at_the_newest_observation():
    chunk = np.arange(16.0)[:, None] * np.ones(2)  # [H, A], value = index
    # W = 2: index 0 belongs to the older observation, so execution starts at index 1.
    assert executed_actions(chunk, POLICY, 8)[:, 0].tolist() == list(range(1, 9))
    with pytest.raises(ValueError, match=r"choose 1\.\.15"):
        executed_actions(chunk, POLICY, 16)


@pytest.mark.parametrize("xp", [np, jnp])
def test_history_starts_full_and_shifts(xp):
    history = start_history({"x": xp.asarray([1.0])}, 3)
    assert history["x"].tolist() == [[1.0], [1.0], [1.0]]
    history = push_observation(history, {"x": xp.asarray([2.0])})
    assert history["x"].tolist() == [[1.0], [1.0], [2.0]]
