"""The training pass: causality, valid masks, dropped rows, likelihoods, bfloat16, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ArpConfig, ChunkTransformer, LayerConfig
from tests.models.small_arp import (
    ACTION,
    CONFIG,
    GRIP,
    MODE,
    MODEL,
    PIXEL,
    STATE,
    image_context,
    random_params,
)

BATCH = 2
SCHEDULE = ChunkSchedule((STATE, MODE, PIXEL, PIXEL, ACTION, GRIP, ACTION), (0, 1, 2, 2, 3, 3, 3))


def batch_of(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (BATCH, SCHEDULE.length, 3)).astype(np.float32)
    values[:, 1, 0] = rng.integers(0, 4, BATCH)
    maps = rng.uniform(size=(BATCH * 2, 6, 6)).astype(np.float32)
    contexts = image_context(BATCH, seed) | {"map": maps / maps.sum((1, 2), keepdims=True)}
    return values, contexts


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return random_params()


@jax.jit
def trace(params: Any, values: jax.Array, contexts: Any) -> dict[str, Any]:
    return MODEL.apply({"params": params}, values, SCHEDULE, contexts, method="trace")


def test_queries_see_older_chunks_only(params: dict[str, Any]) -> None:
    values, contexts = batch_of()
    before = trace(params, values, contexts)["query_out"]
    changed = values.copy()
    changed[:, 2:4] += 1.0  # both tokens of chunk 2
    after = trace(params, changed, contexts)["query_out"]
    difference = np.abs(np.asarray(after - before)).max((0, 2))
    assert (difference[:4] == 0).all()
    assert (difference[4:] > 1e-4).all()


def test_rows_without_influence_are_left_out_without_changing_losses(
    params: dict[str, Any],
) -> None:
    values, contexts = batch_of()

    @jax.jit
    def both(params: Any) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        def all_rows(model: ChunkTransformer) -> dict[str, jax.Array]:
            return model.losses_of(model.trace(values, SCHEDULE, contexts))

        few = MODEL.apply({"params": params}, values, SCHEDULE, contexts, method="losses")
        return few, MODEL.apply({"params": params}, method=all_rows)

    few, every = both(params)
    assert set(few) == {"mode.ce_loss", "pixel.2d_ce_loss", "action.nll_loss", "grip.nll_loss"}
    for name in few:
        np.testing.assert_allclose(few[name], every[name], rtol=1e-5)


def test_valid_mask_and_empty_types(params: dict[str, Any]) -> None:
    values, contexts = batch_of()
    valid = np.ones((BATCH, SCHEDULE.length), bool)
    valid[0, 4], valid[:, 5] = False, False

    def total(params: Any, values: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        found = MODEL.apply(
            {"params": params}, values, SCHEDULE, contexts, valid=valid, method="losses"
        )
        return sum(found.values()), found

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, found), gradients = run(params, values)
    assert float(found["grip.nll_loss"]) == 0.0
    changed = values.copy()
    changed[0, 4] = 50.0  # its label no longer counts, and no younger chunk attends to it
    (_, again), _ = run(params, changed)
    np.testing.assert_allclose(again["action.nll_loss"], found["action.nll_loss"], rtol=1e-6)
    assert all(np.isfinite(np.asarray(g)).all() for g in jax.tree.leaves(gradients))


def test_log_prob_sums_chunks_and_is_zero_for_given_tokens(params: dict[str, Any]) -> None:
    values, contexts = batch_of()

    @jax.jit
    def run(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        variables = {"params": params}
        return (
            MODEL.apply(variables, values, SCHEDULE, contexts, method="log_prob"),
            MODEL.apply(variables, values, SCHEDULE, contexts, method="losses"),
        )

    log_prob, losses = run(params)
    assert log_prob.shape == (BATCH, SCHEDULE.length)
    assert (np.asarray(log_prob[:, 0]) == 0).all()
    np.testing.assert_allclose(-log_prob[:, 1].mean(), losses["mode.ce_loss"], rtol=1e-5)
    np.testing.assert_allclose(-log_prob[:, 5].mean(), losses["grip.nll_loss"], rtol=1e-5)


def test_bfloat16_compute_keeps_float32_losses(params: dict[str, Any]) -> None:
    values, contexts = batch_of()
    half = ChunkTransformer(CONFIG, dtype=jnp.bfloat16)
    run = jax.jit(
        lambda params, model: model.apply(
            {"params": params}, values, SCHEDULE, contexts, method="losses"
        ),
        static_argnums=1,
    )
    found, exact = run(params, half), run(params, MODEL)
    for name in exact:
        assert found[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name], exact[name], rtol=0.1, atol=0.1)


def test_a_layer_given_none_runs_without_conditioning(params: dict[str, Any]) -> None:
    values, contexts = batch_of()
    run = jax.jit(
        lambda contexts: MODEL.apply(
            {"params": params}, values, SCHEDULE, contexts, method="losses"
        )
    )
    found = run(contexts | {"image": None})
    assert all(np.isfinite(float(x)) for x in found.values())
    missing = {k: v for k, v in contexts.items() if k != "image"}
    with pytest.raises(ValueError, match="layer 'cross' needs the context 'image'"):
        run(missing)


def test_wrong_shapes_and_configurations_are_named(params: dict[str, Any]) -> None:
    _, contexts = batch_of()
    with pytest.raises(ValueError, match=r"values must be \[B, 7, D >= 3\]"):
        MODEL.apply({"params": params}, np.zeros((1, 7, 2)), SCHEDULE, contexts, method="losses")
    with pytest.raises(ValueError, match="adaln needs condition_on"):
        LayerConfig(adaln=True)
    with pytest.raises(ValueError, match="not divisible by 3 heads"):
        ArpConfig(8, 4, 4, CONFIG.tokens, (LayerConfig(heads=3),))
    with pytest.raises(ValueError, match="no token type 'speed'"):
        CONFIG.token_id("speed")


def test_dropout_is_on_only_in_training(params: dict[str, Any]) -> None:
    values, contexts = batch_of()
    run = jax.jit(
        lambda key: MODEL.apply(
            {"params": params},
            values,
            SCHEDULE,
            contexts,
            train=True,
            method="losses",
            rngs={"dropout": key},
        )
    )
    first, again, other = (run(jax.random.key(s)) for s in (0, 0, 1))
    assert float(first["action.nll_loss"]) == float(again["action.nll_loss"])
    assert float(first["action.nll_loss"]) != float(other["action.nll_loss"])
