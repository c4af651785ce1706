"""The two reset laws against their definitions."""

import jax
import numpy as np
import pytest

from arp_jax.sim.push_t import reset_laws


def test_legacy_law_first_benchmark_seeds():
    """Values of Diffusion Policy's `PushTEnv.reset` for the first published test seeds."""
    found = reset_laws.legacy_initial_conditions([100000, 0])
    expected = [[235, 124, 335, 128, -0.90492743], [222, 97, 217, 292, 3.0079994]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rng = np.random.RandomState(100000)
    agent, block = rng.randint(50, 450, 2), rng.randint(100, 400, 2)
    np.testing.assert_allclose(found[0], [*agent, *block, rng.randn() * 2 * np.pi - np.pi])
    assert found.dtype == np.float32


def test_current_law_equals_gym_pusht():
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("gym_pusht")
    env = gymnasium.make("gym_pusht/PushT-v0").unwrapped
    drawn = []
    env._set_state = lambda state: drawn.append(np.asarray(state))
    for seed in range(20):
        env.reset(seed=seed)
    np.testing.assert_array_equal(
        reset_laws.current_initial_conditions(range(20)), np.float32(drawn)
    )


@pytest.mark.parametrize("law", reset_laws.RESET_LAWS)
def test_jax_law_has_the_distribution_of_the_host_law(law):
    keys = jax.random.split(jax.random.key(0), 4000)
    ours = np.asarray(jax.vmap(lambda k: reset_laws.sample_initial_condition(k, law))(keys))
    host = {
        "legacy": reset_laws.legacy_initial_conditions,
        "current": reset_laws.current_initial_conditions,
    }[law](range(4000))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours[:, :4], np.round(ours[:, :4]))
    np.testing.assert_allclose(ours.min(0)[:4], [50, 50, 100, 100], atol=1)
    np.testing.assert_allclose(ours.max(0)[:4], [449, 449, 399, 399], atol=1)
    np.testing.assert_allclose(ours.mean(0), host.mean(0), atol=8)
    np.testing.assert_allclose(ours.std(0), host.std(0), rtol=0.06)


def test_no_seeds_gives_no_rows():
    assert reset_laws.legacy_initial_conditions([]).shape == (0, 5)


def test_unknown_law_is_named():
    with pytest.raises(ValueError, match="'old' is unknown"):
        reset_laws.sample_initial_condition(jax.random.key(0), "old")
