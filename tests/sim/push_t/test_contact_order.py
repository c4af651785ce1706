"""Resets that put the agent into both boxes at once: the order of the two contacts decides."""

import dataclasses

import jax
import numpy as np
import pytest

from arp_jax.sim.push_t import dynamics
from arp_jax.sim.push_t.reset_laws import current_initial_conditions

# Seeds of gym-pusht whose reset overlaps agent, bar and stem; in the last three the bar is first.
SEEDS = [20281, 20573, 20749, 20951, 21143, 23043]


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """Block poses [N, 3] of pymunk one substep after the reset."""
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("gym_pusht", reason="needs gym-pusht: pip install arp_jax[dev]")
    env = gymnasium.make("gym_pusht/PushT-v0").unwrapped
    poses = []
    for seed in SEEDS:
        env.reset(seed=seed)
        env.space.step(0.01)
        poses.append([*env.block.position, env.block.angle])
    env.close()
    return np.array(poses)


def poses_after_a_substep(physics: dynamics.Physics) -> np.ndarray:
    return np.asarray(dynamics.pose(jax.jit(dynamics.substep)(physics))[1])


def test_the_order_is_that_of_chipmunk(reference):
    physics = jax.jit(dynamics.reset)(current_initial_conditions(SEEDS))
    assert physics.bar_first.tolist() == [False] * 3 + [True] * 3
    np.testing.assert_allclose(poses_after_a_substep(physics), reference, atol=1e-3)


def test_the_other_order_is_not(reference):
    """Otherwise the test above would show nothing."""
    initial = current_initial_conditions(SEEDS)
    wrong = jax.numpy.asarray([True] * 3 + [False] * 3)
    original = dynamics.bar_before_stem
    try:
        dynamics.bar_before_stem = lambda block: wrong
        # A new function: jit would reuse the program with the right order.
        physics = jax.jit(lambda initial: dynamics.reset(initial))(initial)
    finally:
        dynamics.bar_before_stem = original
    physics = dataclasses.replace(physics, bar_first=wrong)
    error = np.abs(poses_after_a_substep(physics) - reference).max(1)
    assert (error > 0.1).all()
