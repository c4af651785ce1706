"""Which prediction is executed when: chunks say (time of the observation, time that it is for)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.control.execution import Execution, available_actions, executed_now, start_execution
from arp_jax.control.latency import hold_action, hold_feature
from arp_jax.specs import FeatureSpec, ObservationSpec
from tests.test_specs import POLICY

H = 10
HOLD = -1.0


def chunk_at(t, xp=np):
    """Row j: (made at t, for t + j)."""
    return xp.asarray(np.stack([np.full(H, t), t + np.arange(H)], -1), dtype=xp.float32)


def execute(execution, steps, xp=np, jit=False):
    """The executed actions [steps, A] of one robot."""
    now = executed_now
    if jit:
        now = jax.jit(executed_now, static_argnums=0)
    memory = start_execution(execution, xp.asarray([HOLD, HOLD], dtype=xp.float32), H)
    actions = []
    for t in range(0, steps, execution.period):
        chosen, memory = now(execution, memory, chunk_at(t, xp))
        actions += list(np.asarray(chosen))
    return np.stack(actions)[:steps]


def made_by_definition(t, period, latency):
    """The newest query that has arrived at time t; None before the first."""
    arrived = [s for s in range(0, t + 1, period) if s + latency <= t]
    return arrived[-1] if arrived else None


@pytest.mark.parametrize("jax_arrays", [False, True])
@pytest.mark.parametrize(("period", "latency"), [(4, 0), (4, 1), (4, 4), (4, 6), (1, 3), (3, 7)])
def test_an_action_comes_from_the_newest_arrived_chunk_and_is_meant_for_now(
    period, latency, jax_arrays
):
    xp = jnp if jax_arrays else np
    actions = execute(Execution(period, None, latency), 25, xp, jit=jax_arrays)
    for t, action in enumerate(actions):
        made = made_by_definition(t, period, latency)
        expected = [HOLD, HOLD] if made is None else [made, t]
        np.testing.assert_array_equal(action, expected, err_msg=f"time {t}")


@pytest.mark.parametrize("jax_arrays", [False, True])
@pytest.mark.parametrize(
    ("period", "latency", "blend"), [(4, 0, 1), (4, 0, 4), (4, 2, 3), (3, 4, 2), (2, 5, 2)]
)
def test_a_chunk_fades_into_the_next(period, latency, blend, jax_arrays):
    xp = jnp if jax_arrays else np
    execution = Execution(period, None, latency, blend)
    actions = execute(execution, 25, xp, jit=jax_arrays)
    for t, action in enumerate(actions):
        made = made_by_definition(t, period, latency)
        if made is None:
            expected = [HOLD, HOLD]
        elif made == 0 or t - made - latency >= blend:  # no chunk before it, or no longer fading
            expected = [made, t]
        else:
            share = (t - made - latency + 1) / (blend + 1)
            expected = [made - period + share * period, t]
        np.testing.assert_allclose(action, expected, atol=1e-5, err_msg=f"time {t}")


def test_blended_actions_stay_between_the_two_chunks():
    rng = np.random.default_rng(0)
    execution, chunks = Execution(4, blend=3), rng.normal(size=(9, H, 2)) * 100
    memory = start_execution(execution, np.zeros(2), H)
    for number, chunk in enumerate(chunks):
        actions, memory = executed_now(execution, memory, chunk)
        running = chunks[number - 1, 4:8] if number else chunk[:4]
        low, high = np.minimum(running, chunk[:4]), np.maximum(running, chunk[:4])
        assert ((actions >= low - 1e-9) & (actions <= high + 1e-9)).all()
        np.testing.assert_array_equal(actions[3], chunk[3])
        if number:  # the step at the seam is smaller than without blending
            jump = np.abs(chunk[0] - running[0])
            np.testing.assert_allclose(np.abs(actions[0] - running[0]), jump / 4, atol=1e-9)


@pytest.mark.parametrize("jax_arrays", [False, True])
@pytest.mark.parametrize("latency", [0, 3])
def test_ensemble_averages_what_has_arrived_for_now(latency, jax_arrays):
    xp = jnp if jax_arrays else np
    execution = Execution(8, ensemble=0.1, latency=latency)
    assert execution.period == 1
    actions = execute(execution, 22, xp, jit=jax_arrays)
    for t, action in enumerate(actions):
        made = [s for s in range(t + 1) if s + latency <= t and t - s < H]
        if not made:
            np.testing.assert_array_equal(action, [HOLD, HOLD])
            continue
        weights = np.exp(-0.1 * np.arange(len(made)))
        np.testing.assert_allclose(action, [weights @ made / weights.sum(), t], rtol=1e-5)


def test_memory_does_not_grow():
    execution = Execution(1, ensemble=0.1, latency=2)
    memory = start_execution(execution, np.zeros(2, np.float32), H)
    shapes = jax.tree.map(np.shape, memory)
    for t in range(30):
        _, memory = executed_now(execution, memory, chunk_at(t))
    assert jax.tree.map(np.shape, memory) == shapes


def test_available_actions_begin_now():
    chunk = np.arange(16.0)[:, None] * np.ones(2)
    assert available_actions(chunk, POLICY)[:, 0].tolist() == list(range(1, 16))


def test_a_chunk_must_last_until_the_next_has_arrived():
    Execution(8, None, 7).check(POLICY)  # 15 actions from the newest observation on
    with pytest.raises(ValueError, match=r"latency=8 .* execute=8: .* latency of at most 7"):
        Execution(8, None, 8).check(POLICY)
    Execution(8, ensemble=0.01, latency=14).check(POLICY)
    with pytest.raises(ValueError, match="latency of at most 14"):
        Execution(8, ensemble=0.01, latency=15).check(POLICY)
    with pytest.raises(ValueError, match="latency must be at least 0"):
        Execution(8, None, -1).check(POLICY)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        (Execution(8, blend=8), "blend=8 .* execute=8 .* latency=0: .* blend of at most 7"),
        (Execution(4, latency=9, blend=3), "blend of at most 2"),
        (Execution(2, blend=3), "blend of at most 2"),
        (Execution(8, blend=-1), "at least 0"),
        (Execution(8, ensemble=0.1, blend=2), "every action is a mean"),
        (Execution(8, drop_zeros=True), "set ensemble too"),
        (Execution(8, base_delay=2), "called base_.* there are x, y"),
        (Execution(8, base_delay=15), r"choose 0\.\.14"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(execution, message):
    with pytest.raises(ValueError, match=message):
        execution.check(POLICY)  # 15 actions from the newest observation on


def test_holding_repeats_targets_and_sends_no_change():
    action = dataclasses.replace(POLICY.action, absolute=(True, False))
    np.testing.assert_array_equal(hold_action(np.float32([3.0, 4.0]), action), [3.0, 0.0])


def test_hold_feature_has_the_size_and_unit_of_the_action():
    action = POLICY.action
    wrong_unit = FeatureSpec("speed", action.dims, "m/s", "world")
    right = FeatureSpec("target", action.dims, action.unit, "world")
    assert hold_feature(ObservationSpec((wrong_unit, right)), action) == "target"
    with pytest.raises(ValueError, match="no feature says how to hold still"):
        hold_feature(ObservationSpec((wrong_unit,)), action)
    changes = dataclasses.replace(action, absolute=(False, False))
    assert hold_feature(ObservationSpec((wrong_unit,)), changes) is None
    arm = dataclasses.replace(action, unit="rad", gripper="open=1")
    state = FeatureSpec("state", arm.dims, "rad, gripper 0..1", "joint")
    speed = FeatureSpec("velocity", arm.dims, "rad/s, gripper 1/s", "joint")
    assert hold_feature(ObservationSpec((speed, state)), arm) == "state"
