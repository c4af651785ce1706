"""The ALOHA observation encoder and its parts: frozen norms, sine positions, layout of tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.detr_encoder import DetrEncoder, sine_positions_2d
from arp_jax.models.resnet import FrozenBatchNorm, ResNet
from arp_jax.models.state_image_encoder import StateImageEncoder, cells

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """These programs run once on tiny arrays: compiling them is all the time there is."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def random_like(shapes, scale=0.2):
    """A tree of these shapes with no zeros; running variances stay positive."""

    def draw(path, leaf):
        x = scale * RNG.standard_normal(leaf.shape).astype(np.float32)
        return 0.5 + np.abs(x) if "running_var" in str(path[-1]) else x

    return jax.tree_util.tree_map_with_path(draw, shapes)


def test_frozen_norm_uses_its_statistics_and_learns_nothing() -> None:
    norm, x = FrozenBatchNorm(5), RNG.normal(size=(2, 3, 3, 5)).astype(np.float32)
    params = random_like(jax.eval_shape(norm.init, jax.random.key(0), x)["params"])
    p = {k: v.astype(np.float64) for k, v in params.items()}
    expected = (x - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["scale"] + p["bias"]
    np.testing.assert_allclose(norm.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-6)

    def total(params, x):
        return jnp.sum(norm.apply({"params": params}, x) ** 2)

    to_params, to_input = jax.grad(total, argnums=(0, 1))(params, x)
    assert all((g == 0).all() for g in jax.tree.leaves(to_params))
    assert (to_input != 0).all()  # the layers before it do learn


def test_trunk_with_frozen_norms_has_torchvisions_sizes() -> None:
    frame = jax.ShapeDtypeStruct((1, 480, 640, 3), jnp.float32)
    trunk = ResNet(18, "frozen_batch")
    shapes = jax.eval_shape(trunk.init, jax.random.key(0), frame)
    sizes = {"conv": 0, "norm": 0}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        sizes["norm" if "norm" in str(path) else "conv"] += math.prod(leaf.shape)
    # Four numbers for each of 4,800 normalised channels; the published count leaves them out.
    assert sizes == {"conv": 11_166_912, "norm": 4 * 4_800}
    out = jax.eval_shape(trunk.apply, shapes, frame)
    assert out.shape == (1, 15, 20, 512)


def test_sine_positions_by_their_definition() -> None:
    height, width, dim = 3, 4, 8
    found = sine_positions_2d(height, width, dim)
    assert found.shape == (height, width, dim)
    assert found.dtype == np.float32
    for row in range(height):
        for column in range(width):
            for half, (place, count) in enumerate(((row, height), (column, width))):
                angle = 2 * math.pi * (place + 1) / (count + 1e-6)
                for k in range(2):
                    phase = angle / 10000 ** (2 * k / (dim // 2))
                    pair = found[row, column, half * 4 + 2 * k : half * 4 + 2 * k + 2]
                    np.testing.assert_allclose(pair, [math.sin(phase), math.cos(phase)], atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, found 6"):
        sine_positions_2d(2, 2, 6)


def test_encoder_dropout_only_in_training() -> None:
    encoder = DetrEncoder(layers=2, embed_dim=8, heads=2, hidden=12, dropout=0.5)
    tokens = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    params = random_like(jax.eval_shape(encoder.init, jax.random.key(0), tokens))
    calm = encoder.apply(params, tokens)
    np.testing.assert_array_equal(calm, encoder.apply(params, tokens, rngs={}))
    noisy = encoder.apply(params, tokens, train=True, rngs={"dropout": jax.random.key(1)})
    assert np.abs(noisy - calm).max() > 1e-2


def test_encoder_positions_decide_who_looks_where_but_are_not_content() -> None:
    encoder = DetrEncoder(layers=1, embed_dim=8, heads=2, hidden=12, final_norm=False)
    tokens = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    positions = RNG.normal(size=(5, 8)).astype(np.float32)
    params = random_like(jax.eval_shape(encoder.init, jax.random.key(0), tokens), scale=1.0)
    without = encoder.apply(params, tokens)
    np.testing.assert_allclose(
        encoder.apply(params, tokens, jnp.zeros_like(positions)), without, atol=1e-5
    )
    assert np.abs(encoder.apply(params, tokens, positions) - without).max() > 1e-2
    # Equal tokens have equal values: whoever looks at whom, the result is the same.
    same = np.broadcast_to(tokens[:, :1], tokens.shape)
    np.testing.assert_allclose(
        encoder.apply(params, same, positions), encoder.apply(params, same), atol=1e-5
    )


def test_state_image_encoder_tokens_and_map() -> None:
    encoder = StateImageEncoder(embed_dim=16, layers=1, heads=2, hidden=20)
    images = RNG.normal(size=(2, 1, 64, 96, 3)).astype(np.float32)
    state = RNG.normal(size=(2, 3)).astype(np.float32)
    params = random_like(jax.eval_shape(encoder.init, jax.random.key(0), images, state))
    tokens = jax.jit(encoder.apply)(params, images, state)
    assert tokens.shape == (2, 1 + 2 * 3, 16)
    grid = cells(tokens, height=2)
    assert grid.shape == (2, 2, 3, 16)
    np.testing.assert_array_equal(grid[:, 1, 2], tokens[:, 1 + 1 * 3 + 2])

    # Two cameras lie side by side, each with the positions of its own picture.
    feature_map = RNG.normal(size=(2, 2, 3, 512)).astype(np.float32)
    twice = np.concatenate([feature_map, feature_map], axis=2)
    wide = encoder.apply(params, twice, state, 2, method="mix")
    assert wide.shape == (2, 1 + 2 * 6, 16)
    grid = cells(wide, height=2)
    np.testing.assert_allclose(grid[:, :, :3], grid[:, :, 3:], atol=1e-5)
