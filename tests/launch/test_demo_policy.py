"""The demonstration's policy: a figure that the arm can follow, from wherever it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.normalize import Affine
from arp_jax.policies.base import make_physical_act
from launch.demo_policy import HORIZON, PERIOD_S, PHASE_JOINTS, FigurePolicy
from robot_bridge.arm import COMMAND_LIMITS, CONTROL_HZ, HOME

EXECUTED = 8


@pytest.fixture(scope="module")
def act():
    policy = FigurePolicy()
    params = policy.init(jax.random.key(0), {})
    physical = make_physical_act(policy, {"action": Affine(np.zeros(7), np.ones(7))})
    key = jax.random.key(0)
    chunk = jax.jit(lambda state: physical(params, {"state": state[None, None]}, key)[0])
    return lambda state: np.asarray(chunk(jnp.asarray(state, jnp.float32)))


def follow(act, state, seconds):
    """Where an arm goes that follows perfectly, [T, 7]."""
    path = [np.asarray(state)]
    while len(path) < seconds * CONTROL_HZ:
        path.extend(act(path[-1])[:EXECUTED])
    return np.stack(path)


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.3])
def test_the_figure_is_slow_and_inside_the_limits(act, offset):
    path = follow(act, [*(np.asarray(HOME) + offset), 1.0], 3 * PERIOD_S)
    assert np.all(np.abs(path[:, :6]) < COMMAND_LIMITS)
    assert np.all((path[:, 6] >= 0) & (path[:, 6] <= 1))
    speeds = np.degrees(np.abs(np.diff(path[:, :6], axis=0))) * CONTROL_HZ
    assert speeds.max() < 60  # what safety slows down to
    assert speeds[len(speeds) // 2 :].max() < 40


def test_one_round_takes_a_period(act):
    path = follow(act, [*HOME, 0.6], 6 * PERIOD_S)
    away = path[:, :6] - HOME
    first, second = PHASE_JOINTS
    phases = np.unwrap(np.arctan2(away[:, second] / 8.0, away[:, first] / 14.0))
    half = len(phases) // 2
    rounds = (phases[-1] - phases[half]) / (2 * np.pi)
    assert rounds == pytest.approx((len(phases) - 1 - half) / CONTROL_HZ / PERIOD_S, rel=0.02)


def test_a_chunk_has_the_declared_shape(act):
    assert act(np.array([*HOME, 1.0])).shape == (HORIZON, 7)
