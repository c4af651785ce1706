"""Temporal ensembling equals the published one, and a table of all predictions."""

import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.control.ensembling import ensembled_action, start_ensemble
from tests.golden_files import GoldenCheck, golden_path, load_golden


def run(chunks, temperature, **options):
    """The actions [T, A] of T chunks [T, H, A], one a step."""
    ensemble, actions = start_ensemble(chunks[0]), []
    for chunk in chunks:
        action, ensemble = ensembled_action(ensemble, chunk, temperature, **options)
        actions.append(np.asarray(action))
    return np.stack(actions)


def by_table(chunks, temperature):
    """The definition: keep every chunk, average the predictions for each time, oldest first."""
    actions = []
    for t in range(len(chunks)):
        made = [chunks[s, t - s] for s in range(max(0, t - chunks.shape[1] + 1), t + 1)]
        weights = np.exp(-temperature * np.arange(len(made)))
        actions.append(weights @ np.stack(made) / weights.sum())
    return np.stack(actions)


@pytest.mark.golden
@pytest.mark.parametrize("xp", [np, jnp])
def test_golden(xp, capsys):
    golden = load_golden(golden_path("temporal", "act"))
    check = GoldenCheck("temporal", tolerance=1e-5)
    check.compare("out/actions", run(xp.asarray(golden["in/chunks"]), 0.01), golden["out/actions"])
    dropped = run(xp.asarray(golden["in/chunks_zero"]), 0.01, drop_zeros=True)
    check.compare("out/actions_zero", dropped, golden["out/actions_zero"])
    check.finish(capsys)
    kept = run(xp.asarray(golden["in/chunks_zero"]), 0.01)
    assert np.abs(kept - golden["out/actions_zero"]).max() > 1e-3  # the option matters here


@pytest.mark.parametrize("temperature", [0.0, 0.3, -0.2, 3.0])
def test_running_means_equal_the_table_of_all_predictions(temperature):
    chunks = np.random.default_rng(0).normal(size=(25, 6, 3))
    np.testing.assert_allclose(run(chunks, temperature), by_table(chunks, temperature), atol=1e-12)


def test_high_temperature_keeps_the_oldest_prediction():
    chunks = np.random.default_rng(1).normal(size=(9, 4, 2))
    actions = run(chunks, 50.0)
    np.testing.assert_allclose(actions[5], chunks[2, 3], atol=1e-9)


def test_when_everything_is_dropped_the_newest_prediction_is_taken():
    chunks = np.ones((3, 2, 2))
    chunks[:, :, 0] = 0
    chunks[:, :, 1] = np.arange(3)[:, None]
    np.testing.assert_array_equal(run(chunks, 0.01, drop_zeros=True), [[0, 0], [0, 1], [0, 2]])


def test_leading_axes_are_independent_robots():
    chunks = np.random.default_rng(2).normal(size=(7, 5, 4, 3))  # [T, B, H, A]
    together = run(chunks, 0.1)
    apart = np.stack([run(chunks[:, b], 0.1) for b in range(5)], axis=1)
    np.testing.assert_allclose(together, apart, atol=1e-12)
