"""DiffusionPolicy: options, shapes, determinism, what conditions see, learning and export."""

import dataclasses
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.diffusion_transformer import memory_mask
from arp_jax.policies.base import build_policy
from arp_jax.policies.diffusion import DiffusionConfig, DiffusionPolicy
from tests.golden_files import FAST_COMPILE
from tests.policies.short_training import train_on_batch
from tests.policies.test_arp import make_batch, push_t_spec

UNET = DiffusionConfig(widths=(16, 32), step_size=16, groups=4, diffusion_steps=20, kernel=3)
TRANSFORMER = DiffusionConfig(
    net="transformer", width=32, layers=2, heads=2, dropout=0.1, diffusion_steps=20
)
CONFIGS = {
    "unet ddpm": UNET,
    "unet ddim": dataclasses.replace(UNET, sampler="ddim", inference_steps=5),
    "transformer": TRANSFORMER,
    "image": dataclasses.replace(UNET, cameras=("image",), crop=(32, 32)),
}
SLOW = pytest.mark.slow


def compile_loss(policy):
    """loss(params, batch, rng) -> scalar, without dropout."""

    def loss(params, batch, rng):
        return policy.loss(params, batch, rng, train=False)[0]

    return jax.jit(loss, compiler_options=FAST_COMPILE)


def make(config, horizon=8):
    policy = DiffusionPolicy(config, push_t_spec(horizon=horizon, camera=bool(config.cameras)))
    batch = make_batch(policy.spec)
    init = jax.jit(policy.init, compiler_options=FAST_COMPILE)
    return policy, batch, init(jax.random.key(0), batch)


@pytest.mark.parametrize(
    "name",
    ["unet ddpm", "transformer", *(pytest.param(n, marks=SLOW) for n in ("unet ddim", "image"))],
)
def test_chunks_have_their_shape_and_follow_the_key(name):
    policy, batch, params = make(CONFIGS[name])
    act = jax.jit(policy.act, compiler_options=FAST_COMPILE)
    first, again, other = (act(params, batch["observation"], jax.random.key(k)) for k in (0, 0, 1))
    assert first.shape == (3, 8, 2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    # The last step of a sampler leaves the clipped clean chunk.
    assert np.abs(first).max() <= 1.0 + 1e-6
    train_loss = jax.jit(partial(policy.loss, train=True), compiler_options=FAST_COMPILE)
    loss, metrics = train_loss(params, batch, jax.random.key(0))
    assert np.isfinite(loss)
    assert metrics["loss"] == loss


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("unet ddpm", "epsilon"),
        pytest.param("unet ddpm", "sample", marks=SLOW),
        pytest.param("unet ddpm", "velocity", marks=SLOW),
        pytest.param("transformer", "epsilon", marks=SLOW),
        pytest.param("transformer", "velocity", marks=SLOW),
    ],
)
def test_chunks_are_learned(name, prediction):
    config = dataclasses.replace(CONFIGS[name], prediction=prediction, sampler="ddim", dropout=0.0)
    config = dataclasses.replace(config, inference_steps=10)
    policy, batch, params = make(config)
    # Smooth chunks, as demonstrations are.
    batch["action"] = jnp.cumsum(batch["action"], axis=1) / 8
    trained = train_on_batch(policy, batch, params, rate=5e-3, steps=800)
    act = jax.jit(policy.act)
    errors = [
        np.abs(act(p, batch["observation"], jax.random.key(2)) - batch["action"]).mean()
        for p in (params, trained)
    ]
    assert errors[1] < 0.1 < 0.3 < errors[0]


def test_padded_actions_can_be_left_out():
    masked = dataclasses.replace(UNET, mask_padded_actions=True, prediction="sample")
    policy, batch, params = make(masked)
    pad = batch["action_is_pad"].at[:, 4:].set(True)
    # A network that says nothing: the loss is the mean square of the actions that count.
    silent = jax.tree.map(jnp.zeros_like, params)
    batch = {**batch, "action_is_pad": pad}
    loss = compile_loss(policy)(silent, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, np.square(batch["action"][:, :4]).mean(), rtol=1e-5)
    plain = DiffusionPolicy(dataclasses.replace(masked, mask_padded_actions=False), policy.spec)
    loss = compile_loss(plain)(silent, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, np.square(batch["action"]).mean(), rtol=1e-5)


def test_actions_see_no_later_observation_and_no_later_action():
    np.testing.assert_array_equal(memory_mask(4, 2), [[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]])
    policy, batch, params = make(TRANSFORMER)
    steps, noisy = jnp.zeros(3, jnp.int32), batch["action"]
    observed = policy._condition(params, batch["observation"], None)

    @partial(jax.jit, compiler_options=FAST_COMPILE)
    def predict(noisy, observed):
        return policy.net.apply({"params": params["net"]}, noisy, steps, observed)

    base = predict(noisy, observed)
    later_action = predict(noisy.at[:, 5].add(1.0), observed)
    np.testing.assert_allclose(later_action[:, :5], base[:, :5], atol=1e-6)
    assert np.abs(later_action[:, 5:] - base[:, 5:]).max() > 1e-4
    later_observation = predict(noisy, observed.at[:, 1].add(1.0))
    np.testing.assert_allclose(later_observation[:, 0], base[:, 0], atol=1e-6)
    assert np.abs(later_observation[:, 1:] - base[:, 1:]).max() > 1e-4


@pytest.mark.slow
def test_act_exports():
    policy, batch, params = make(CONFIGS["unet ddim"])
    exported = jax.export.export(jax.jit(policy.act), platforms=["cpu", "cuda", "tpu"])(
        params, batch["observation"], jax.random.key(0)
    )
    again = jax.export.deserialize(exported.serialize())
    rng = jax.random.key(3)
    np.testing.assert_allclose(
        again.call(params, batch["observation"], rng),
        jax.jit(policy.act)(params, batch["observation"], rng),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"widht": 3}, r"policy\.widht is no option of diffusion"),
        ({"net": "mlp"}, r"policy\.net 'mlp'"),
        ({"sampler": "ddim", "inference_steps": 200}, r"policy\.inference_steps 200 exceeds"),
        ({"widths": (8, 8, 8, 8, 8)}, r"config\.horizon 8 must be a multiple of 16"),
        ({"cameras": ("wrist",)}, r"no observation 'wrist'"),
    ],
)
def test_wrong_options_are_named(section, message):
    with pytest.raises(ValueError, match=message):
        build_policy("diffusion", {"name": "diffusion", **section}, push_t_spec(horizon=8))
