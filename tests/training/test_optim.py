"""Schedules, weight-decay groups and clipping against hand-computed values."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.training.optim import OptimConfig, make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("schedule", "cycles", "table"),
    [
        ("constant", 1, {0: 0.0, 5: 0.5, 10: 1.0, 60: 1.0, 500: 1.0}),
        ("cosine", 1, {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0, 200: 0.0}),
        (
            "cosine_restarts",
            2,
            # Two cosines of 50 steps each: half-way at 35, restart at 60, half-way at 85.
            {0: 0.0, 10: 1.0, 35: 0.5, 59: 0.5 * (1 + math.cos(math.pi * 0.98)), 60: 1.0, 85: 0.5},
        ),
    ],
)
def test_schedule_table(schedule: str, cycles: int, table: dict[int, float]) -> None:
    config = OptimConfig(
        learning_rate=1.0, schedule=schedule, warmup_steps=10, decay_steps=110, cycles=cycles
    )
    rate = make_schedule(config, total_steps=999)
    np.testing.assert_allclose([rate(t) for t in table], list(table.values()), atol=1e-6)


def test_decay_steps_default_to_total_steps() -> None:
    rate = make_schedule(OptimConfig(learning_rate=1.0, schedule="cosine", warmup_steps=0), 40)
    np.testing.assert_allclose([rate(0), rate(20), rate(40)], [1.0, 0.5, 0.0], atol=1e-6)


def test_weight_decay_groups_first_match_decides() -> None:
    config = OptimConfig(
        learning_rate=0.1,
        weight_decay=0.5,
        weight_decay_groups=(("^encoder/", 0.25), ("bias$", 0.0)),
        schedule="constant",
        warmup_steps=0,
    )
    params = {
        "encoder": {"bias": jnp.ones(2)},
        "head": {"bias": jnp.ones(2), "kernel": jnp.ones(2)},
    }
    tx = make_optimizer(config, total_steps=1)
    zeros = {
        "encoder": {"bias": jnp.zeros(2)},
        "head": {"bias": jnp.zeros(2), "kernel": jnp.zeros(2)},
    }
    updates, _ = tx.update(zeros, tx.init(params), params)
    # Without gradient the update is -rate * decay * parameter.
    np.testing.assert_allclose(updates["encoder"]["bias"], -0.025, rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["bias"], 0.0)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.05, rtol=1e-6)


def test_a_group_that_matches_nothing_is_refused() -> None:
    tx = make_optimizer(OptimConfig(weight_decay_groups=(("enocder", 0.0),)), total_steps=1)
    with pytest.raises(ValueError, match="'enocder' matches no parameter"):
        tx.init({"encoder": jnp.ones(2)})


def test_adamw_equals_optax_adamw() -> None:
    config = OptimConfig(
        learning_rate=3e-3, weight_decay=1e-2, clip_norm=0.5, schedule="constant", warmup_steps=0
    )
    peer = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(3e-3, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=1e-2),
    )
    results = []
    for tx in (make_optimizer(config, total_steps=1), peer):
        params = {"w": jnp.arange(1.0, 5.0)}
        state = tx.init(params)
        for step in range(5):
            grads = {"w": jnp.sin(params["w"] * (step + 1)) * 3}
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        results.append(params["w"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosin"}, "schedule 'cosin' is unknown"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"weight_decay_groups": (("(", 0.0),)}, "not a regex"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**options)
