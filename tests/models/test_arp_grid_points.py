"""Points embedded from a map per view, in several chunks: all points of a type share the views."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ArpConfig, ChunkTransformer, LayerConfig
from arp_jax.models.generate import generate_with_trace
from arp_jax.models.tokens import TokenType
from tests.golden_files import FAST_COMPILE

BATCH, VIEWS, WIDTH = 2, 2, 8
POINT, ACTION = 0, 1
CONFIG = ArpConfig(
    WIDTH,
    8,
    2,
    (
        TokenType(
            "point",
            dim=2,
            is_continuous=True,
            embedding="feat_grid_2d",
            embedding_options={"sampling_from": "grid", "stride": 2},
            predictor="gmm",
        ),
        TokenType("action", dim=2, is_continuous=True, embedding="linear", predictor="gmm"),
    ),
    (LayerConfig(heads=2, mlp_ratio=1.0),),
)
MODEL = ChunkTransformer(CONFIG)
compiled = functools.partial(jax.jit, compiler_options=FAST_COMPILE)


def random_case(seed: int = 0) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """Random parameters, a map of every view, values on the maps."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(MODEL.init_params, jax.random.key(0))
    params = jax.tree.map(lambda x: 0.4 * rng.standard_normal(x.shape, np.float32), shapes)
    grid = rng.standard_normal((BATCH * VIEWS, 3, 3, WIDTH), np.float32)
    return params, {"grid": jnp.asarray(grid)}, jnp.asarray(rng.uniform(0, 4, (BATCH, 6, 2)))


@pytest.mark.parametrize("last", [POINT, ACTION])
def test_losses_leave_no_point_out(last: int) -> None:
    """Values of the last chunk are not encoded for a loss, yet they count in sharing out."""
    schedule = ChunkSchedule((POINT, POINT, ACTION, ACTION, POINT, last), (0, 0, 1, 1, 2, 2))
    if last == ACTION:  # an even number of points
        schedule = ChunkSchedule((POINT, POINT, POINT, ACTION, POINT, last), (0, 0, 1, 1, 2, 2))
    params, contexts, values = random_case()

    @compiled
    def run(params: Any) -> tuple[Any, Any]:
        def both(model: ChunkTransformer) -> tuple[Any, Any]:
            whole = model.trace(values, schedule, contexts)
            return model.losses(values, schedule, contexts), model.losses_of(whole)

        return nn.apply(both, MODEL)({"params": params})

    found, expected = run(params)
    assert found.keys() == expected.keys() == {"point.nll_loss", "action.nll_loss"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_generation_ends_as_training_reads_it() -> None:
    """Older points move to another view when new ones join them, so the past is encoded again."""
    schedule = ChunkSchedule((POINT, POINT, POINT, POINT, ACTION, ACTION), (0, 0, 1, 1, 2, 2))
    params, contexts, _ = random_case(1)
    params["heads_point"]["fc2"]["bias"] += 2.0  # predicted points lie inside the maps

    @compiled
    def run(params: Any) -> tuple[jax.Array, jax.Array]:
        prompt = jnp.zeros((BATCH, 0, 2))
        found = generate_with_trace(MODEL, params, prompt, schedule, contexts)
        last = found.steps[-1]
        traced = MODEL.apply({"params": params}, found.values, schedule, contexts, method="trace")
        rows = last["rows_out"][:, len(last["fresh"]) :]
        return rows, traced["query_out"][:, 4:]

    rows, expected = run(params)
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=1e-5)
