"""Base commands ahead of the arms': which row of which chunk is executed when."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.control.base_delay import base_ahead
from arp_jax.control.execution import Execution, available_actions, executed_now, start_execution
from arp_jax.specs import ActionSpec
from tests.test_specs import POLICY

H, DELAY = 10, 3
DIMS = ("waist", "base_linear", "gripper", "base_turning")
ACTION = ActionSpec(DIMS, "rad", "joint", (True,) * 4, (-9.0,) * 4, (9.0,) * 4, 50.0)
SPEC = dataclasses.replace(POLICY, action=ACTION, window=1, horizon=H, action_offset=0)


def chunk_at(t, xp=np):
    """Row j, every column: 100 * (made at t) + (for t + j)."""
    return xp.asarray((100.0 * t + t + np.arange(H))[:, None] * np.ones(4))


def execute(execution, steps, xp=np):
    execution.check(SPEC)
    memory, actions = start_execution(execution, xp.zeros(4), execution.rows(SPEC)), []
    for t in range(0, steps, execution.period):
        chunk = available_actions(chunk_at(t, xp), SPEC, execution.base_delay)
        assert chunk.shape == (execution.rows(SPEC), 4)
        chosen, memory = executed_now(execution, memory, chunk)
        actions += list(np.asarray(chosen))
    return np.stack(actions)[:steps]


@pytest.mark.parametrize("xp", [np, jnp])
def test_published_playback(xp):
    """Arms from rows 0 .. H-D-1, base from rows D .. H-1, a query every H - D steps."""
    actions = execute(Execution(H - DELAY, base_delay=DELAY), 20, xp)
    for t, action in enumerate(actions):
        made = t - t % (H - DELAY)
        expected = 100.0 * made + t + np.array([0, DELAY, 0, DELAY])
        np.testing.assert_array_equal(action, expected)


def test_with_ensembling_the_base_gets_the_mean_for_later():
    actions = execute(Execution(8, ensemble=0.0, base_delay=DELAY), 20)
    for t, action in enumerate(actions):
        made = np.arange(max(0, t - (H - DELAY) + 1), t + 1)
        expected = 100 * made.mean() + t + np.array([0, DELAY, 0, DELAY])
        np.testing.assert_allclose(action, expected)


def test_no_delay_changes_nothing_and_a_chunk_gets_shorter_by_the_delay():
    chunk = np.random.default_rng(0).normal(size=(2, H, 4))
    assert base_ahead(chunk, ACTION, 0) is chunk
    assert base_ahead(chunk, ACTION, DELAY).shape == (2, H - DELAY, 4)
    Execution(H - DELAY, base_delay=DELAY).check(SPEC)
    with pytest.raises(ValueError, match=r"choose 1\.\.7"):
        Execution(H - DELAY + 1, base_delay=DELAY).check(SPEC)
    with pytest.raises(ValueError, match="latency of at most 2"):
        Execution(5, latency=3, base_delay=DELAY).check(SPEC)
