"""An open-loop expert plans once; when its plan is over it keeps the last action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.experts.expert import open_loop


def test_a_finished_plan_is_held():
    plan = jnp.arange(6.0).reshape(3, 2)
    expert = open_loop(lambda initial, rng, noise: plan + initial[0], 3)
    memory = expert.start(jnp.array([1.0]), jax.random.key(0), jnp.zeros(()))
    first, memory = expert.act(memory, {}, {})
    np.testing.assert_array_equal(first, plan + 1.0)
    for _ in range(2):
        later, memory = expert.act(memory, {}, {})
        np.testing.assert_array_equal(later, np.tile(plan[-1] + 1.0, (3, 1)))


def test_a_plan_of_another_length_is_refused():
    expert = open_loop(lambda initial, rng, noise: jnp.zeros((4, 2)), 3)
    with pytest.raises(ValueError, match="4 actions, 3 were announced"):
        expert.start(jnp.zeros(1), jax.random.key(0), jnp.zeros(()))
