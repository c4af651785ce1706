"""ActPolicy: latents, layers that are read, state-only mode, learning and export."""

import dataclasses
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.models.detr_encoder import DetrEncoder
from arp_jax.policies.act import ActConfig, ActPolicy, action_l1
from arp_jax.policies.act_style import code_probabilities, code_style
from arp_jax.policies.base import build_policy
from tests.golden_files import FAST_COMPILE
from tests.policies.short_training import train_on_batch
from tests.policies.test_arp import make_batch, push_t_spec

STATE_ONLY = ActConfig(
    token_features=("keypoints",),
    embed_dim=32,
    heads=2,
    hidden=64,
    style_layers=1,
    encoder_layers=1,
    decoder_layers=2,
    latent_dim=4,
    dropout=0.1,
)
CODES = dataclasses.replace(
    STATE_ONLY,
    latent="codes",
    code_classes=3,
    code_values=5,
    prior_layers=1,
    prior_dim=16,
    prior_heads=2,
)
CONFIGS = {
    "gaussian": STATE_ONLY,
    "codes": CODES,
    "none, pre-norm": dataclasses.replace(STATE_ONLY, latent="none", pre_norm=True),
    "image": dataclasses.replace(STATE_ONLY, cameras=("image",), trunk_width=16),
}


def make(config, horizon=6):
    spec = push_t_spec(window=1, horizon=horizon, camera=bool(config.cameras))
    policy, batch = ActPolicy(config, spec), make_batch(spec)
    init = jax.jit(policy.init, compiler_options=FAST_COMPILE)
    return policy, batch, init(jax.random.key(0), batch)


@pytest.mark.parametrize(
    "name", ["gaussian", "codes", "none, pre-norm", pytest.param("image", marks=pytest.mark.slow)]
)
def test_loss_and_chunks(name):
    policy, batch, params = make(CONFIGS[name])
    loss_fn = jax.jit(partial(policy.loss, train=True), compiler_options=FAST_COMPILE)
    loss, metrics = loss_fn(params, batch, jax.random.key(0))
    assert np.isfinite(loss)
    extra = {"gaussian": {"kl"}, "codes": {"prior", "discrepancy"}, "image": {"kl"}}
    assert set(metrics) == {"loss", "l1"} | extra.get(name, set())
    act = jax.jit(policy.act, compiler_options=FAST_COMPILE)
    chunks = [act(params, batch["observation"], jax.random.key(k)) for k in (0, 0, 1)]
    assert chunks[0].shape == (3, 6, 2)
    np.testing.assert_array_equal(chunks[0], chunks[1])
    # Only codes are drawn; a Gaussian style is its mean when acting.
    assert (np.abs(chunks[0] - chunks[2]).max() > 0) == (name == "codes")


def test_layers_behind_the_one_that_is_read_learn_nothing():
    for output, silent in (("first", True), ("last", False)):
        policy, batch, params = make(dataclasses.replace(STATE_ONLY, decoder_output=output))
        gradient = jax.jit(
            jax.grad(
                lambda p, policy=policy, batch=batch: policy.loss(
                    p, batch, jax.random.key(0), train=False
                )[0]
            ),
            compiler_options=FAST_COMPILE,
        )(params)
        norm = optax.global_norm(gradient["net"]["decoder"]["blocks_1"])
        assert (norm == 0) == silent


def test_padded_actions_count_as_zeros_and_are_hidden_from_the_style():
    policy, batch, params = make(STATE_ONLY)
    is_pad = np.zeros((3, 6), bool)
    is_pad[:, 4:] = True
    error = np.full((3, 6, 2), 0.5, np.float32)
    np.testing.assert_allclose(action_l1(error, np.zeros_like(error), is_pad), 0.5 * 4 / 6)
    encode = jax.jit(policy.encode_style, compiler_options=FAST_COMPILE)
    padded = {**batch, "action_is_pad": jnp.asarray(is_pad)}
    moved = {**padded, "action": batch["action"].at[:, 4:].add(3.0)}
    np.testing.assert_allclose(encode(params, padded), encode(params, moved), atol=1e-5)
    assert np.abs(encode(params, padded) - encode(params, batch)).max() > 1e-3


def test_codes_pass_the_gradient_of_their_probabilities():
    logits = jax.random.normal(jax.random.key(0), (2, 15))
    codes = jax.nn.one_hot(jnp.array([[0, 1, 2], [4, 3, 0]]), 5)
    weight = jax.random.normal(jax.random.key(1), (2, 15))

    def through(logits):
        style, _ = code_style(code_probabilities(logits, 3), codes)
        return (style * weight).sum()

    def direct(logits):
        return (code_probabilities(logits, 3).reshape(2, -1) * weight).sum()

    np.testing.assert_allclose(jax.grad(through)(logits), jax.grad(direct)(logits), rtol=1e-5)


def test_prior_learns_beside_the_policy_without_touching_it():
    policy, batch, params = make(CODES)
    noisy = jax.tree.map(lambda x: x + 0.1, params["prior"])
    grad = jax.jit(
        jax.grad(lambda p: policy.loss(p, batch, jax.random.key(0), train=False)[0]),
        compiler_options=FAST_COMPILE,
    )
    first, second = grad(params), grad({**params, "prior": noisy})
    assert optax.global_norm(first["prior"]) > 0
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), first["net"], second["net"])


def test_padding_hides_tokens_from_the_encoder():
    encoder = DetrEncoder(1, 8, 2, 16, 0.0, final_norm=False)
    tokens = jax.random.normal(jax.random.key(0), (2, 5, 8))
    params = encoder.init(jax.random.key(1), tokens)
    is_pad = jnp.zeros((2, 5), bool).at[:, 3:].set(True)
    shown = encoder.apply(params, tokens, is_pad=is_pad)[:, :3]
    alone = encoder.apply(params, tokens[:, :3])
    np.testing.assert_allclose(shown, alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "codes", "none, pre-norm"])
def test_chunks_are_learned(name):
    config = dataclasses.replace(CONFIGS[name], dropout=0.0, kl_weight=1.0)
    policy, batch, params = make(config)
    trained = train_on_batch(policy, batch, params, rate=2e-3, steps=600)
    chunk = jax.jit(policy.act)(trained, batch["observation"], jax.random.key(2))
    assert np.abs(chunk - batch["action"]).mean() < 0.1


def test_act_exports():
    policy, batch, params = make(CODES)
    arguments = (params, batch["observation"], jax.random.key(3))
    exported = jax.export.export(jax.jit(policy.act), platforms=["cpu", "cuda", "tpu"])(*arguments)
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(again.call(*arguments), jax.jit(policy.act)(*arguments), atol=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"latnet": "none"}, r"policy\.latnet is no option of act"),
        ({"latent": "vae"}, r"policy\.latent 'vae'"),
        ({"embed_dim": 30}, r"policy\.embed_dim 30 must be a multiple"),
        ({"token_features": ()}, r"cameras and policy\.token_features are empty"),
        ({"token_features": ("poses",)}, r"no observation 'poses'"),
    ],
)
def test_wrong_options_are_named(section, message):
    options = {"name": "act", "token_features": ("keypoints",), **section}
    with pytest.raises(ValueError, match=message):
        build_policy("act", options, push_t_spec(window=1))
    with pytest.raises(ValueError, match=r"set config\.window 1, not 2"):
        build_policy("act", {"token_features": ("keypoints",)}, push_t_spec(window=2))
