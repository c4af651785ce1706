"""The transformer over views: its size as published, who attends to whom, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.multi_view_transformer import MultiViewConfig, MultiViewTransformer

SMALL = MultiViewConfig(
    image_size=8,
    patch=4,
    patch_features=8,
    language_tokens=5,
    language_dim=6,
    width=16,
    heads=2,
    head_dim=4,
    layers=4,
    dropout=0.5,
)


def _inputs(cfg: MultiViewConfig, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(1), 3)
    shape = (batch, cfg.views, cfg.image_size, cfg.image_size, cfg.channels)
    language = (batch, cfg.language_tokens, cfg.language_dim)
    shapes = (shape, (batch, cfg.proprio_dim), language)
    views, proprio, said = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))
    return views, proprio, said


@pytest.fixture(scope="module")
def small():
    """(apply(params, *inputs), parameters, inputs of two samples)"""
    module, inputs = MultiViewTransformer(SMALL), _inputs(SMALL, 2)
    params = jax.jit(module.init)(jax.random.key(0), *inputs)["params"]
    return jax.jit(lambda params, *xs: module.apply({"params": params}, *xs)), params, inputs


def test_published_size():
    module = MultiViewTransformer(MultiViewConfig())
    inputs = jax.eval_shape(lambda: _inputs(module.config, 1))
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 34_033_728


def test_maps_have_one_cell_per_patch(small):
    apply, params, inputs = small
    maps = apply(params, *inputs)
    assert maps.shape == (2, 3, 2, 2, 16)
    assert maps.dtype == jnp.float32


def test_samples_do_not_mix(small):
    apply, params, inputs = small
    maps = apply(params, *inputs)
    others = apply(params, *(x.at[0].add(1.0) for x in inputs))
    np.testing.assert_array_equal(maps[1], others[1])
    assert np.abs(maps[0] - others[0]).max() > 1e-4


def _reaction(apply, params, inputs, changed):
    """Largest change of each view's map [V] when the inputs change."""
    before, after = apply(params, *inputs), apply(params, *changed)
    return np.abs(np.asarray(after - before)).max((0, 2, 3, 4))


def test_first_half_stays_within_views(small):
    apply, params, (views, proprio, said) = small
    # Joint layers that add nothing leave only what happens within views.
    quiet = jax.tree.map(jnp.zeros_like, params["across_views"])
    silent = params | {"across_views": quiet}
    changed = (views.at[:, 0].add(1.0), proprio, said + 1.0)
    reaction = _reaction(apply, silent, (views, proprio, said), changed)
    assert reaction[0] > 1e-3
    np.testing.assert_array_equal(reaction[1:], 0.0)


def test_joint_layers_see_other_views_and_the_sentence(small):
    apply, params, (views, proprio, said) = small
    changed = (views.at[:, 0].add(1.0), proprio, said)
    assert (_reaction(apply, params, (views, proprio, said), changed) > 1e-4).all()
    changed = (views, proprio, said.at[:, 3].add(1.0))
    assert (_reaction(apply, params, (views, proprio, said), changed) > 1e-4).all()
    changed = (views, proprio + 1.0, said)
    assert (_reaction(apply, params, (views, proprio, said), changed) > 1e-4).all()


def test_dropout_only_in_training(small):
    apply, params, inputs = small
    module = MultiViewTransformer(SMALL)

    @jax.jit
    def run(key: jax.Array) -> jax.Array:
        return module.apply({"params": params}, *inputs, train=True, rngs={"dropout": key})

    first, second = run(jax.random.key(0)), run(jax.random.key(1))
    assert np.abs(first - second).max() > 1e-4
    assert np.abs(first - apply(params, *inputs)).max() > 1e-4


def test_a_wrong_shape_is_named(small):
    apply, params, (views, proprio, said) = small
    with pytest.raises(ValueError, match=r"language must have shape \(2, 5, 6\)"):
        apply(params, views, proprio, said[:, :4])
    with pytest.raises(ValueError, match="image_size 10 must be a multiple of patch 4"):
        MultiViewConfig(image_size=10, patch=4)
