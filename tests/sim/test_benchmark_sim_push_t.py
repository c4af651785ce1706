"""The throughput benchmark counts what it says, with a policy in the loop too."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.push_t.env import PushT
from arp_jax.sim.push_t.reset_laws import legacy_initial_conditions


@pytest.fixture
def benchmark(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    path = repository / "benchmarks" / "sim_push_t.py"
    spec = importlib.util.spec_from_file_location("sim_push_t_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_closed_loop_executes_the_policys_actions(benchmark):
    target = jnp.array([300.0, 120.0])
    seen = []

    def act(history, key):
        seen.append(history["agent_pos"].shape)
        return jnp.broadcast_to(target, (2, 4, 2))

    env = PushT(observations=("agent_pos",))
    initial = jnp.asarray(legacy_initial_conditions([100_000, 100_001]))
    chooser = benchmark.Chooser(act, window=2, execute=4)
    states = jax.vmap(env.reset_to)(initial)
    keys = jax.random.split(jax.random.key(0), 5)
    final = jax.jit(lambda s, k: benchmark.closed_loop(env, chooser, s, k))(states, keys)
    assert seen[0] == (2, 2, 2)  # [E, W, 2]
    # 20 steps of 0.1 s take the agent to its target to a thousandth of a pixel.
    np.testing.assert_allclose(final.observation["agent_pos"], [target, target], atol=1e-2)


def test_gym_rate_is_positive(benchmark):
    pytest.importorskip("gym_pusht")
    row = benchmark.measure_gym("state", processes=1, seconds=0.2)
    assert row.envs == 1
    assert row.steps_per_second > 50.0
