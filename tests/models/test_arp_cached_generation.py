"""Cached generation equals recomputation without any cache, for schedules that hypothesis draws.

Two recomputations: the two-stream training pass on the generated values, and one so plain that it
shares no mask and no cache with generation: for every chunk, the whole prefix and the chunk's
queries go through the layers under the published generation mask.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ArpConfig, ChunkTransformer, LayerConfig
from arp_jax.models.generate import Sampling, generate_with_trace
from arp_jax.models.tokens import TokenType, encode_values
from tests.golden_files import FAST_COMPILE

BATCH, WIDTH = 2, 8
STATE, MODE, ACTION, GRIP, PIXEL = range(5)
PREDICTED = (MODE, ACTION, GRIP, PIXEL)

TOKENS = (
    TokenType("state", is_control=True, dim=2, is_continuous=True, embedding="linear"),
    TokenType("mode", dim=2, dict_sizes=(4, 3)),
    TokenType(
        "action",
        dim=2,
        is_continuous=True,
        embedding="linear",
        predictor="gmm",
        predictor_options={"low_var_eval": False},
    ),
    TokenType(
        "grip",
        is_continuous=True,
        dict_sizes=(11,),
        bounds=(-1.0, 1.0),
        predictor="gmm",
        predictor_options={"num_latents": 2, "low_var_eval": False},
    ),
    TokenType(
        "pixel",
        dim=2,
        embedding="position_2d",
        predictor="upsample_from_2d_attn",
        predictor_options={"attn_with": (WIDTH, 2, 2), "upscale_ratio": 1, "hidden_dim_mult": 0.5},
    ),
)
LAYERS = {
    "modulated": LayerConfig(heads=2, mlp_ratio=1.0, condition_on="image", adaln=True),
    "added": LayerConfig(heads=4, mlp_ratio=1.0, condition_on="image"),
    "free": LayerConfig(heads=2, mlp_ratio=1.0),
}


@functools.cache
def model_and_params(layers: tuple[str, ...]) -> tuple[ChunkTransformer, Any]:
    """A model of these layers and random parameters (none of its parts is an identity)."""
    chosen = tuple(LAYERS[name] for name in layers)
    config = ArpConfig(WIDTH, 16, 4, TOKENS, chosen, layer_norm_every_block=len(layers) == 1)
    model = ChunkTransformer(config)
    leaves, structure = jax.tree.flatten(jax.eval_shape(model.init_params, jax.random.key(0)))
    rng = np.random.default_rng(len(leaves))
    filled = [0.4 * rng.standard_normal(x.shape, np.float32) for x in leaves]
    return model, jax.tree.unflatten(structure, filled)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A model, a schedule, the length of its prompt, and what else a generation depends on."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    token_ids: list[int] = []
    chunk_ids: list[int] = []
    for _ in range(
        draw(st.sampled_from((1, 0, 2)))
    ):  # a state or guidance, each a chunk of its own
        token_ids.append(draw(st.sampled_from((STATE, *PREDICTED))))
        chunk_ids.append(len(chunk_ids))
    starts = [len(token_ids)]
    for k, size in enumerate(sizes):
        is_given = k < len(sizes) - 1 and draw(st.integers(0, 3)) == 3
        kinds = [STATE] if is_given else draw(st.permutations(PREDICTED))[:3]
        chunk = chunk_ids[-1] + 1 if chunk_ids else 0
        token_ids += [draw(st.sampled_from(kinds)) for _ in range(size)]
        chunk_ids += [chunk] * size
        starts.append(len(token_ids))
    # The prompt may also hold whole chunks; the last one is always predicted.
    prompt = starts[draw(st.sampled_from((0, 0, 1)))]
    types = st.sampled_from(range(len(TOKENS)))
    pairs = draw(st.lists(st.tuples(types, types), max_size=4))
    return {
        "schedule": ChunkSchedule(
            tuple(token_ids), tuple(chunk_ids), tuple((a, b) for a, b in pairs if a != b)
        ),
        "prompt": prompt,
        "layers": draw(
            st.sampled_from([("modulated",), ("added", "free"), ("modulated", "added")])
        ),
        "has_image": draw(st.booleans()),
        "sample": draw(st.booleans()),
        "seed": draw(st.integers(0, 9)),
    }


def random_values(schedule: ChunkSchedule, seed: int) -> np.ndarray:
    """Values [B, L, 2] that fit the types."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (BATCH, schedule.length, 2)).astype(np.float32)
    whole = np.isin(schedule.token_ids, (MODE, PIXEL))
    values[:, whole] = rng.integers(0, 2, (BATCH, int(whole.sum()), 2))
    values[:, np.asarray(schedule.token_ids) == GRIP, 1] = 0
    return values


def plain_rows(
    model: ChunkTransformer, values: jax.Array, schedule: ChunkSchedule, image: Any, first: int
) -> jax.Array:
    """Query rows [B, L - first, C]: every chunk anew from the whole prefix, no cache."""
    ids = np.asarray(schedule.chunk_ids)
    types = np.asarray(schedule.token_ids)
    codes = encode_values(values, schedule.token_ids, model.config.tokens)
    contexts = {"image": image}
    found = []
    for chunk in sorted(set(ids[first:].tolist())):
        start, stop = (int(i) for i in np.flatnonzero(ids == chunk)[[0, -1]] + (0, 1))
        # A slot is a token's rank in its chunk.
        rows = model.embed_queries(range(stop - start), schedule.token_ids[start:stop])
        rows = jnp.broadcast_to(rows, (BATCH, *rows.shape))
        if start:
            past = model.embed_values(codes[:, :start], schedule.token_ids[:start], contexts)
            rows = jnp.concatenate([past, rows], axis=1)
        # Rows of the last chunk see everything, older ones what is not younger.
        i, j = np.arange(stop)[:, None], np.arange(stop)[None]
        mask = (j <= i) | (i >= start)
        for source, target in schedule.blocked:
            mask = mask & ~((types[i] == source) & (types[j] == target))
        prepared = model.prepare_contexts(contexts, None)
        out, _ = model.run_layers(model.enter(rows, np.arange(stop)), prepared, None, mask)
        found.append(out[:, start:])
    return jnp.concatenate(found, axis=1)


def check(case: dict[str, Any]) -> None:
    """Generate, recompute twice, compare the rows of every chunk that was predicted."""
    schedule, first = case["schedule"], case["prompt"]
    model, params = model_and_params(case["layers"])
    known = random_values(schedule, case["seed"])
    image = np.random.default_rng(case["seed"]).standard_normal((BATCH, 2, WIDTH), np.float32)
    contexts = {"image": image if case["has_image"] else None}
    states = [i for i in range(first, schedule.length) if schedule.token_ids[i] == STATE]
    given_values = {i: known[:, i] for i in states}
    chunks: list[int] = []

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def run(params: Any, rng: jax.Array) -> tuple[Any, ...]:
        found = generate_with_trace(
            model,
            params,
            jnp.asarray(known[:, :first]),
            schedule,
            contexts,
            rng,
            Sampling(sample=case["sample"]),
            given=given_values,
        )
        chunks.extend(step["chunk"] for step in found.steps)
        rows = [step["rows_out"][:, len(step["fresh"]) :] for step in found.steps]
        apply = {"params": params}
        # Streams only: without a head nothing is predicted.
        names = tuple(token.name for token in TOKENS)
        arguments = (found.values, schedule, contexts)
        traced = model.apply(apply, *arguments, method="trace", skip=names)
        image = contexts["image"]
        plain = nn.apply(plain_rows, model)(apply, found.values, schedule, image, first)
        return found.values, rows, traced["query_out"], plain

    values, rows, two_stream, plain = run(params, jax.random.key(case["seed"]))
    np.testing.assert_allclose(values[:, states], known[:, states], atol=1e-6)
    codes = encode_values(known, schedule.token_ids, TOKENS)
    found_codes = encode_values(values, schedule.token_ids, TOKENS)
    np.testing.assert_allclose(found_codes[:, :first], codes[:, :first], atol=1e-5)
    assert chunks, "nothing was predicted"
    predicted = {c for c, t in zip(schedule.chunk_ids, schedule.token_ids, strict=True) if t}
    assert set(chunks) == {c for c in predicted if schedule.chunk_positions(c)[0] >= first}
    for chunk, found in zip(chunks, rows, strict=True):
        places = np.asarray(schedule.chunk_positions(chunk))
        np.testing.assert_allclose(found, two_stream[:, places], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(found, plain[:, places - first], atol=1e-5, rtol=1e-5)


FEW = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(FEW, max_examples=8)
@given(cases())
def test_cached_generation_equals_recomputation(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.slow
@settings(FEW, max_examples=60, derandomize=False)
@given(cases())
def test_cached_generation_equals_recomputation_for_many_schedules(case: dict[str, Any]) -> None:
    check(case)


def test_each_part_of_a_case_matters() -> None:
    """The comparison would notice: a changed mask changes the rows."""
    free = ChunkSchedule((STATE, ACTION, MODE), (0, 1, 2))
    blocked = ChunkSchedule((STATE, ACTION, MODE), (0, 1, 2), ((MODE, ACTION),))
    model, params = model_and_params(("added", "free"))
    values, image = random_values(free, 0), np.ones((BATCH, 2, WIDTH), np.float32)

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def rows(params: Any) -> tuple[jax.Array, jax.Array]:
        apply = nn.apply(plain_rows, model)
        found = [apply({"params": params}, values, s, image, 1) for s in (free, blocked)]
        return found[0], found[1]

    one, other = rows(params)
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-6)
    assert np.abs(np.asarray(one[:, 1] - other[:, 1])).max() > 1e-3
