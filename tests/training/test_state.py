"""The compiled step: accumulation, moving average, randomness, donation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.training.state import (
    UpdateConfig,
    ema_decay,
    example_batch,
    init_state,
    make_update_fn,
)
from tests.training.conftest import leaves_equal, make_batch
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_equals_the_whole_batch(
    policy: TinyPolicy, tx: optax.GradientTransformation, accumulate: int
) -> None:
    batch = make_batch(16)
    results = []
    for parts in (1, accumulate):
        state = init_state(policy, tx, jax.random.PRNGKey(0))
        update = make_update_fn(policy, tx, UpdateConfig(accumulate=parts))
        for _ in range(3):
            state, metrics = update(state, batch)
        results.append((state, metrics))
    (whole, whole_metrics), (parts_state, parts_metrics) = results
    for name in ("loss", "grad_norm", "error"):
        np.testing.assert_allclose(parts_metrics[name], whole_metrics[name], rtol=1e-5)
    for left, right in zip(
        jax.tree.leaves(whole.params), jax.tree.leaves(parts_state.params), strict=True
    ):
        # Adam divides by the gradient's own size, so float order shows in single elements.
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_accumulation_must_divide_the_batch(
    policy: TinyPolicy, tx: optax.GradientTransformation
) -> None:
    update = make_update_fn(policy, tx, UpdateConfig(accumulate=3))
    with pytest.raises(ValueError, match="accumulate = 3 does not divide the batch size 16"):
        update(init_state(policy, tx, jax.random.PRNGKey(0)), make_batch(16))


def test_ema_decay_table() -> None:
    # 1 - (1 + n)^-0.75, by hand: 1 + n = 2, 16, 10^4, 10^6; the cap is .9999.
    table = {0: 0.0, 1: 1 - 2**-0.75, 15: 0.875, 9_999: 0.999, 999_999: 0.9999}
    found = [ema_decay(n, UpdateConfig()) for n in table]
    np.testing.assert_allclose(found, list(table.values()), atol=2e-6)


def test_ema_follows_the_parameters(policy: TinyPolicy, tx: optax.GradientTransformation) -> None:
    update = make_update_fn(policy, tx, UpdateConfig())
    state, _ = update(init_state(policy, tx, jax.random.PRNGKey(0)), make_batch(8))
    # The first decay is 0: the average is the first trained parameters.
    first = jax.device_get(state.params)
    assert leaves_equal(first, state.ema)
    state, _ = update(state, make_batch(8, seed=1))
    decay = 1 - 2**-0.75
    expected = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, first, state.params)
    for left, right in zip(jax.tree.leaves(expected), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_metrics_and_clipping(policy: TinyPolicy) -> None:
    # With plain gradient descent a clipped update has exactly the clip's norm.
    tx = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))
    state = init_state(policy, tx, jax.random.PRNGKey(0))
    before = jax.device_get(state.params)
    update = make_update_fn(policy, tx, UpdateConfig(), schedule=lambda step: 0.1 * (step + 1))
    state, metrics = update(state, make_batch(8))
    step_norm = optax.global_norm(jax.tree.map(jnp.subtract, before, state.params))
    assert metrics["grad_norm"] > 0.01
    np.testing.assert_allclose(step_norm, 0.01, rtol=1e-3)
    np.testing.assert_allclose(metrics["learning_rate"], 0.1)
    assert int(state.step) == 1


def test_randomness_is_a_function_of_seed_and_step(tx: optax.GradientTransformation) -> None:
    policy = TinyPolicy(TinyConfig(dropout=0.5), tiny_spec())
    update = make_update_fn(policy, tx, UpdateConfig())

    def losses(seed: int) -> list[float]:
        state = init_state(policy, tx, jax.random.PRNGKey(seed))
        # A step that changes nothing but the step number isolates the dropout's randomness.
        params = jax.tree.map(jnp.copy, state.params)
        found = []
        for _ in range(2):
            state, metrics = update(state, make_batch(8))
            state = state.replace(params=jax.tree.map(jnp.copy, params))
            found.append(float(metrics["loss"]))
        return found

    first = losses(0)
    assert first == losses(0)
    assert first[0] != first[1]
    assert first != losses(1)


def test_augmentation_runs_inside_the_step(
    policy: TinyPolicy, tx: optax.GradientTransformation
) -> None:
    def shift(batch: dict, rng: jax.Array) -> dict:
        return {**batch, "action": batch["action"] + jax.random.normal(rng, (1, 1, 2))}

    losses = []
    for augment in (None, shift):
        update = make_update_fn(policy, tx, UpdateConfig(accumulate=2), augment=augment)
        _, metrics = update(init_state(policy, tx, jax.random.PRNGKey(0)), make_batch(8))
        losses.append(float(metrics["loss"]))
    assert losses[0] != losses[1]


def test_example_batch_has_the_spec_s_shapes() -> None:
    batch = example_batch(tiny_spec(), batch_size=3)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), batch)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype.name), make_batch(3))
