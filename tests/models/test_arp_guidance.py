"""Fixing tokens, many samples per observation, likelihood of what was drawn, loops over chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.decode_plan import group_runs, plan_steps
from arp_jax.models.generate import (
    Drawn,
    Guide,
    Sampling,
    best_of,
    generate,
    generate_scored,
    generate_with_trace,
)
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
DRAW = Sampling(sample=True)
# One token per chunk, types in turn: the two passes (action, grip) repeat.
LONG = ChunkSchedule((STATE, *[ACTION, GRIP] * 7), tuple(range(15)), ((GRIP, STATE),))
MIXED = ChunkSchedule((STATE, PIXEL, PIXEL, MODE, ACTION, ACTION), (0, 1, 1, 2, 3, 3))
PROMPT = jnp.asarray([[[0.3, -1.0, 2.0]], [[1.0, 0.0, 0.5]]])


def test_repeating_passes_become_one_loop() -> None:
    steps = plan_steps(LONG, CONFIG.tokens, 1, {}, lambda chunk: ())
    runs = group_runs(steps, LONG, set())
    # The first pass reads the prompt and no cache; the 13 others alternate.
    assert [(len(run.steps), run.period) for run in runs] == [(1, 1), (12, 2), (1, 1)]
    alone = group_runs(steps, LONG, {7})
    assert all(run.repeats == 1 for run in alone)


def test_a_loop_draws_what_single_passes_draw() -> None:
    params, contexts = random_params(), image_context(BATCH)

    @jax.jit
    def both(key: jax.Array) -> tuple[Drawn, jax.Array, jax.Array]:
        arguments = (MODEL, params, PROMPT, LONG, contexts, key, DRAW)
        drawn = generate_scored(*arguments)
        likelihood = MODEL.apply(
            {"params": params}, drawn.values, LONG, contexts, method="log_prob"
        )
        return drawn, generate_with_trace(*arguments).values, likelihood

    drawn, single, likelihood = both(jax.random.key(3))
    np.testing.assert_allclose(drawn.values, single, atol=1e-5)
    np.testing.assert_allclose(drawn.log_prob, likelihood, atol=1e-4, rtol=1e-5)
    assert (np.asarray(drawn.log_prob)[:, 0] == 0).all()


def test_guided_tokens_are_kept_and_condition_the_rest() -> None:
    params, contexts = random_params(1), image_context(BATCH)

    @jax.jit
    def draw(values: jax.Array, known: jax.Array) -> Drawn:
        guide = Guide(values, known)
        return generate_scored(MODEL, params, PROMPT, MIXED, contexts, guide=guide)

    free = draw(jnp.zeros((1, 6, 3)), jnp.zeros((1, 6), bool))
    plain = jax.jit(lambda: generate(MODEL, params, PROMPT, MIXED, contexts))()
    np.testing.assert_allclose(free.values, plain, atol=1e-6)
    # The first sample fixes a pixel and one of the two actions, the second nothing.
    values = np.zeros((BATCH, 6, 3), np.float32)
    values[0, 2, :2], values[0, 5] = (5, 1), (9.0, -9.0, 3.0)
    known = np.zeros((BATCH, 6), bool)
    known[0, [2, 5]] = True
    fixed = draw(jnp.asarray(values), jnp.asarray(known))
    np.testing.assert_array_equal(fixed.values[0, 2, :2], (5, 1))
    np.testing.assert_array_equal(fixed.values[0, 5], (9.0, -9.0, 3.0))
    np.testing.assert_allclose(fixed.values[1], free.values[1], atol=1e-6)
    # The other pixel is of the same chunk, the other action comes after it.
    np.testing.assert_array_equal(fixed.values[0, 1], free.values[0, 1])
    assert np.abs(np.asarray(fixed.values[0, 4] - free.values[0, 4])).max() > 1e-4
    # Fixed tokens are scored as anything else.
    likelihood = jax.jit(
        lambda v: MODEL.apply({"params": params}, v, MIXED, contexts, method="log_prob")
    )(fixed.values)
    np.testing.assert_allclose(fixed.log_prob, likelihood, atol=1e-4, rtol=1e-5)
    assert draw._cache_size() == 2  # batch of the guide 1 and 2; never for other values


def test_wholly_given_chunks_cost_no_pass() -> None:
    params, contexts = random_params(1), image_context(BATCH)
    given = {1: jnp.asarray([[5.0, 1.0]]), 2: jnp.asarray([[2.0, 2.0]])}
    steps = plan_steps(MIXED, CONFIG.tokens, 1, given, lambda chunk: ())
    assert [step.is_predicted for step in steps] == [False, True, True]

    values = np.zeros((1, 6, 3), np.float32)
    values[0, 1, :2], values[0, 2, :2] = (5, 1), (2, 2)
    known = np.isin(np.arange(6), [1, 2])[None]

    @jax.jit
    def both() -> tuple[jax.Array, jax.Array]:
        arguments = (MODEL, params, PROMPT, MIXED, contexts)
        guide = Guide(jnp.asarray(values), jnp.asarray(known))
        return generate(*arguments, given=given), generate(*arguments, guide=guide)

    by_given, by_guide = both()
    np.testing.assert_allclose(by_given, by_guide, atol=1e-5)


def test_samples_per_observation_and_the_likeliest_of_them() -> None:
    params, contexts = random_params(), image_context(BATCH)
    rules = {"mode": Sampling(True, top_k=2), "action": Sampling(True, 0.5), "pixel": DRAW}

    @jax.jit
    def draw(key: jax.Array) -> Drawn:
        arguments = (MODEL, params, PROMPT, MIXED, contexts, key, rules)
        return generate_scored(*arguments, num_samples=5)

    drawn = draw(jax.random.key(0))
    assert drawn.values.shape == (BATCH, 5, 6, 3)
    assert drawn.log_prob.shape == (BATCH, 5, 6)
    assert len(np.unique(np.asarray(drawn.values[0, :, 4, 0]))) == 5
    np.testing.assert_array_equal(drawn.values[:, :, 0], np.repeat(PROMPT, 5, axis=1))
    best = best_of(drawn)
    total = np.asarray(drawn.log_prob.sum(-1))
    np.testing.assert_allclose(best.log_prob.sum(-1), total.max(1), rtol=1e-6)
    row = int(total[1].argmax())
    np.testing.assert_array_equal(best.values[1], drawn.values[1, row])


def test_bad_requests_are_named() -> None:
    params, contexts = random_params(), image_context(BATCH)
    arguments = (MODEL, params, PROMPT, MIXED, contexts)
    with pytest.raises(ValueError, match="no token type 'grib'"):
        generate(*arguments, jax.random.key(0), {"grib": DRAW})
    with pytest.raises(ValueError, match="guide must hold values"):
        generate(*arguments, guide=Guide(jnp.zeros((2, 4, 3)), jnp.zeros((2, 4), bool)))
    values = np.full(
        (1, 6, 3), 40.0, np.float32
    )  # outside the 6 x 6 map, where position 2 is known
    known = np.arange(6)[None] == 2
    with pytest.raises(ValueError, match="'pixel': position 2, dim 0 of sample 0 holds 40"):
        generate(*arguments, guide=Guide(jnp.asarray(values), jnp.asarray(known)))
    with pytest.raises(ValueError, match="num_samples"):
        generate(*arguments, num_samples=3)
    with pytest.raises(ValueError, match="pass num_samples"):
        best_of(Drawn(jnp.zeros((2, 6, 3)), jnp.zeros((2, 6))))
