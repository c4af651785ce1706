"""Cached generation is the two-stream model: same rows, same likelihoods, valid values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.generate import ChunkContexts, Sampling, generate, generate_with_trace
from tests.models.small_arp import (
    ACTION,
    GRIP,
    MODE,
    MODEL,
    PIXEL,
    STATE,
    image_context,
    random_params,
    random_schedule,
)

BATCH = 2


def _generate_and_recompute(
    schedule: ChunkSchedule, params: Any, contexts: Any, rng: jax.Array, **keywords: Any
) -> tuple[jax.Array, dict[int, jax.Array], dict[str, Any]]:
    """Generated values, query rows of each chunk, and the trace of training on those values."""
    chunks: list[int] = []
    prompt = jax.random.normal(jax.random.key(9), (BATCH, 1, 3))

    @jax.jit
    def run(params: Any, rng: jax.Array) -> tuple[Any, ...]:
        found = generate_with_trace(
            MODEL, params, prompt, schedule, contexts, rng, Sampling(sample=True), **keywords
        )
        chunks.extend(step["chunk"] for step in found.steps)
        rows = [step["rows_out"][:, len(step["fresh"]) :] for step in found.steps]
        labels = {"map": jnp.zeros((BATCH * len(schedule.positions_of(PIXEL)), 6, 6))}
        traced = MODEL.apply(
            {"params": params}, found.values, schedule, {**contexts, **labels}, method="trace"
        )
        return found.values, rows, traced

    values, rows, traced = run(params, rng)
    return values, dict(zip(chunks, rows, strict=True)), traced


@pytest.mark.parametrize(
    ("seed", "blocked"),
    [
        (3, True),
        (4, False),
        *(pytest.param(s, s % 2 == 1, marks=pytest.mark.slow) for s in (0, 1, 2, 5)),
    ],
)
def test_cached_generation_equals_recomputation(seed: int, blocked: bool) -> None:
    schedule = random_schedule(seed, blocked)
    values, rows, traced = _generate_and_recompute(
        schedule, random_params(seed), image_context(BATCH, seed), jax.random.key(seed)
    )
    assert values.shape == (BATCH, schedule.length, 3)
    assert sorted(rows) == list(range(1, schedule.num_chunks))
    for chunk, found in rows.items():
        expected = traced["query_out"][:, np.asarray(schedule.chunk_positions(chunk))]
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_control_token_in_the_future_takes_its_given_value() -> None:
    schedule = ChunkSchedule((STATE, ACTION, STATE, ACTION), (0, 1, 2, 3))
    state = jnp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    values, rows, traced = _generate_and_recompute(
        schedule, random_params(), image_context(BATCH), jax.random.key(0), given={2: state}
    )
    np.testing.assert_array_equal(values[:, 2], state)
    np.testing.assert_allclose(rows[3], traced["query_out"][:, 3:], atol=1e-5)
    prompt = jnp.zeros((BATCH, 1, 3))
    with pytest.raises(ValueError, match="position 2 is a control token"):
        jax.eval_shape(
            lambda params: generate(MODEL, params, prompt, schedule, image_context(BATCH)),
            random_params(),
        )


def test_contexts_per_chunk_re_encode_the_past() -> None:
    schedule = ChunkSchedule((STATE, ACTION, ACTION, GRIP), (0, 1, 2, 3))
    params, prompt = random_params(), jnp.ones((BATCH, 1, 3))
    first, second = image_context(BATCH, 1)["image"], image_context(BATCH, 2)["image"]
    rng = jax.random.key(0)

    @jax.jit
    def last_row(image: Any, prompt: jax.Array) -> tuple[jax.Array, jax.Array]:
        done = generate_with_trace(MODEL, params, prompt, schedule, {"image": image}, rng)
        step = done.steps[-1]
        return done.values, step["rows_out"][:, -1]

    mixed = ChunkContexts((second, first), ((3,), None))
    values, row = last_row(mixed, prompt)
    # Chunk 3 under the second image, its past given as a prompt, must be the same.
    _, expected = last_row(second, values[:, :3])
    np.testing.assert_allclose(row, expected, atol=1e-5)
    _, other = last_row(first, values[:, :3])
    assert np.abs(np.asarray(row - other)).max() > 1e-3
    with pytest.raises(ValueError, match="no entry for chunk 1"):
        last_row(ChunkContexts((second,), ((3, 2),)), prompt)


def test_samples_differ_between_keys_and_repeat_for_one_key() -> None:
    schedule = ChunkSchedule((STATE, MODE, PIXEL, ACTION, GRIP), (0, 1, 2, 2, 3))
    params, contexts = random_params(), image_context(BATCH)
    prompt = jnp.zeros((BATCH, 1, 3))
    draw = jax.jit(
        lambda rng: generate(MODEL, params, prompt, schedule, contexts, rng, Sampling(sample=True))
    )
    first, again, other = (np.asarray(draw(jax.random.key(s))) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert set(np.unique(first[:, 1, 0])) <= set(range(4))
    pixels = first[:, 2, :2]
    assert ((pixels >= 0) & (pixels < 6) & (pixels == pixels.round())).all()
    bins = first[:, 4, 0] * 10  # bin centres of 11 bins over [0, 1]
    np.testing.assert_allclose(bins, bins.round(), atol=1e-4)


def test_picker_chooses_the_chunk() -> None:
    schedule = ChunkSchedule((STATE, MODE, PIXEL), (0, 1, 1))
    seen = []

    def picker(predictions: list[jax.Array], rng: jax.Array | None) -> jax.Array:
        seen.extend(p.shape for p in predictions)
        return jnp.full((BATCH, 2, 2), 3.0)

    prompt, contexts = jnp.zeros((BATCH, 1, 3)), image_context(BATCH)
    values = jax.jit(
        lambda params: generate(MODEL, params, prompt, schedule, contexts, pickers={1: picker})
    )(random_params())
    assert seen == [(BATCH, 1, 4), (BATCH, 6, 6)]
    np.testing.assert_array_equal(values[:, 1:, :2], 3.0)


def test_bad_arguments_are_named() -> None:
    schedule = ChunkSchedule((STATE, ACTION, ACTION), (0, 1, 1))
    params, contexts = random_params(), image_context(BATCH)
    with pytest.raises(ValueError, match="ends inside chunk 1"):
        generate(MODEL, params, jnp.zeros((BATCH, 2, 3)), schedule, contexts)
    prompt = jnp.zeros((BATCH, 1, 3))
    with pytest.raises(ValueError, match="needs an rng key"):
        generate(MODEL, params, prompt, schedule, contexts, None, Sampling(sample=True))
    with pytest.raises(ValueError, match="temperature must be > 0"):
        Sampling(temperature=0.0)
