"""ArpPolicy: options, layout, shapes, determinism, gradients, learning and export."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig, published_push_t
from arp_jax.policies.arp_config import chunk_ids, schedule
from arp_jax.policies.base import build_policy
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec

W, H, B = 2, 6, 3
SMALL = ArpPolicyConfig(
    encoder="state",
    plan_head="mixture",
    plan_components=2,
    layers=2,
    embed_dim=16,
    heads=2,
    state_hidden=16,
    dropout=0.1,
)
SMALL_HEATMAP = dataclasses.replace(SMALL, plan_head="heatmap", heatmap_size=24, heatmap_upscale=4)


def push_t_spec(window: int = W, horizon: int = H, camera: bool = False) -> PolicySpec:
    """What a Push-T policy sees and commands; image edge 40 px to stay small."""
    features = (
        FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),
        FeatureSpec("keypoints", tuple(f"k{i}" for i in range(16)), "px", "world"),
    )
    cameras = (CameraSpec("image", 40, 40),) if camera else ()
    action = ActionSpec(
        ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
    )
    return PolicySpec(ObservationSpec(features, cameras), action, window, horizon, 1 - window)


def make_batch(spec: PolicySpec, size: int = B, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    window = (size, spec.window)
    observation = {
        f.name: rng.uniform(-1, 1, (*window, f.size)).astype(np.float32)
        for f in spec.observation.features
    }
    for camera in spec.observation.cameras:
        shape = (*window, camera.height, camera.width, 3)
        observation[camera.name] = rng.integers(0, 256, shape, dtype=np.uint8)
    action = rng.uniform(-0.9, 0.9, (size, spec.horizon, spec.action.size)).astype(np.float32)
    pad = np.zeros((size, spec.horizon), bool)
    return jax.tree.map(
        jnp.asarray, {"observation": observation, "action": action, "action_is_pad": pad}
    )


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """These programs run once or twice on tiny arrays: compiling them is all the time there is."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def random_params(policy: ArpPolicy, batch: dict) -> dict:
    """Parameters of the right shapes without compiling `init`; nothing is zero, AdaLN included."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.2 * rng.standard_normal(leaf.shape), leaf.dtype), shapes
    )


@pytest.fixture(scope="module", params=["mixture", "heatmap"])
def made(request):
    """A tiny state policy with either plan head, its parameters and its compiled functions."""
    spec = push_t_spec()
    config = SMALL if request.param == "mixture" else SMALL_HEATMAP
    policy, batch = ArpPolicy(config, spec), make_batch(spec)

    def train_loss(params, rng):
        return policy.loss(params, batch, rng, train=True)[0]

    return SimpleNamespace(
        policy=policy,
        batch=batch,
        observation=batch["observation"],
        params=random_params(policy, batch),
        evaluate=jax.jit(functools.partial(policy.loss, train=False)),
        loss_and_gradient=jax.jit(jax.value_and_grad(train_loss)),
        act_with_plan=jax.jit(policy.act_with_plan),
    )


def test_unknown_and_bad_options_name_the_key():
    with pytest.raises(ValueError, match=r"policy\.plan_point is no option"):
        build_policy("arp", {"name": "arp", "plan_point": 3}, push_t_spec())
    bad = {
        "encoder": "lidar",
        "plan_head": "class",
        "plan_chunk": 0,
        "action_chunk": 0,
        "plan_points": -1,
        "embed_dim": 18,
        "heatmap_size": 95,
        "compute_dtype": "float16",
    }
    for key, value in bad.items():
        with pytest.raises(ValueError, match=rf"policy\.{key}"):
            ArpPolicyConfig(**{key: value})


def test_options_must_fit_the_spec():
    with pytest.raises(ValueError, match="no observation 'image'"):
        ArpPolicy(ArpPolicyConfig(), push_t_spec(camera=False))
    with pytest.raises(ValueError, match="no feature 'block_pose'"):
        ArpPolicy(dataclasses.replace(SMALL, state_features=("block_pose",)), push_t_spec())


def test_section_values_from_json_build_the_same_policy():
    policy = build_policy("arp", {"name": "arp", "crop": [84, 84]}, push_t_spec(camera=True))
    assert policy.config == published_push_t()


def test_published_layout_and_its_ablations():
    spec = push_t_spec(horizon=16)
    published = schedule(published_push_t(), spec)
    assert published.token_ids == (0,) * 2 + (1,) * 4 + (2,) * 16
    assert published.chunk_ids == (0, 1) + (2,) * 4 + (3,) * 16

    def ids(**options):
        return chunk_ids(ArpPolicyConfig(**options), 2, 8)

    assert ids(plan_chunk=1, action_chunk=4) == (0, 1, 2, 3, 4, 5) + (6,) * 4 + (7,) * 4
    assert ids(plan_chunk=3) == (0, 1, 2, 2, 2, 3) + (4,) * 8
    assert ids(plan_chunk=-1) == (0, 1) + (2,) * 12
    assert ids(plan_points=0) == (0, 1) + (2,) * 8


def test_published_parameter_count():
    policy = ArpPolicy(published_push_t(), push_t_spec(horizon=16, camera=True))
    batch = make_batch(policy.spec, size=1)
    batch["observation"]["image"] = jnp.zeros((1, 2, 96, 96, 3), jnp.uint8)
    params = jax.eval_shape(policy.init, jax.random.key(0), batch)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(p)) for name, p in params.items()}
    assert sizes == {"encoder": 11_197_088 + 4_160, "transformer": 3_132_613}
    assert sum(sizes.values()) == 14_333_861


def test_loss_is_the_sum_of_finite_entries(made):
    total, metrics = made.evaluate(made.params, made.batch, jax.random.key(1))
    entries = {k: v for k, v in metrics.items() if k != "loss"}
    assert {key.split(".")[0] for key in entries} == {"coarse-plan", "fine-action"}
    assert total.shape == ()
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, sum(entries.values()), rtol=1e-6)
    assert np.isfinite(total)
    again, _ = made.evaluate(made.params, made.batch, jax.random.key(2))
    assert total == again  # evaluation draws nothing


def test_gradients_are_finite_and_reach_encoder_and_heads(made):
    loss, gradient = made.loss_and_gradient(made.params, jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert loss != made.loss_and_gradient(made.params, jax.random.key(1))[0]  # dropout
    largest = {k: max(jnp.abs(x).max() for x in jax.tree.leaves(g)) for k, g in gradient.items()}
    assert min(largest.values()) > 0


def test_act_shape_determinism_and_sampling(made):
    first, _ = made.act_with_plan(made.params, made.observation, jax.random.key(1))
    assert first.shape == (B, H, 2)
    assert first.dtype == jnp.float32
    same, _ = made.act_with_plan(made.params, made.observation, jax.random.key(1))
    np.testing.assert_array_equal(first, same)
    other, _ = made.act_with_plan(made.params, made.observation, jax.random.key(2))
    assert np.abs(first - other).max() > 0
    calm = ArpPolicy(dataclasses.replace(made.policy.config, sample=False), made.policy.spec)
    act = jax.jit(calm.act)
    greedy = [act(made.params, made.observation, jax.random.key(seed)) for seed in (1, 2)]
    np.testing.assert_array_equal(*greedy)


def test_plan_is_normalised(made):
    _, plan = made.act_with_plan(made.params, made.observation, jax.random.key(0))
    assert plan.shape == (B, 4, 2)
    if made.policy.config.plan_head == "heatmap":
        pixels = plan * 12 + 12
        np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-5)
        assert pixels.min() >= 0
        assert pixels.max() <= 23


def test_act_exports_and_reloads(made):
    rng = jax.random.PRNGKey(3)
    act = jax.jit(made.policy.act)
    exported = jax.export.export(act)(made.params, made.observation, rng)
    restored = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(
        restored.call(made.params, made.observation, rng),
        act(made.params, made.observation, rng),
        atol=1e-6,
    )


def test_padded_actions_count_only_when_published_behaviour_is_kept():
    spec = push_t_spec()
    batch = make_batch(spec)
    batch["action_is_pad"] = batch["action_is_pad"].at[:, -2:].set(True)
    changed = {**batch, "action": batch["action"].at[:, -2:].add(0.3)}
    config = dataclasses.replace(SMALL, plan_points=0)  # no plan label built from those actions
    losses = {}
    for mask in (False, True):
        policy = ArpPolicy(dataclasses.replace(config, mask_padded_actions=mask), spec)
        params = random_params(policy, batch)
        loss = jax.jit(policy.loss, static_argnames="train")
        losses[mask] = [
            float(loss(params, b, jax.random.key(0), train=False)[0]) for b in (batch, changed)
        ]
    assert losses[False][0] != losses[False][1]
    assert losses[True][0] == pytest.approx(losses[True][1], abs=1e-6)


def test_image_policy_runs_and_ignores_evaluation_randomness():
    spec = push_t_spec(camera=True)
    config = dataclasses.replace(SMALL, encoder="image", crop=(32, 32))
    policy, batch = ArpPolicy(config, spec), make_batch(spec, size=2)
    params = jax.jit(policy.init)(jax.random.key(0), batch)
    actions = jax.jit(policy.act)(params, batch["observation"], jax.random.key(0))
    assert actions.shape == (2, H, 2)
    total, _ = jax.jit(policy.loss, static_argnames="train")(
        params, batch, jax.random.key(0), train=True
    )
    assert np.isfinite(total)


@pytest.mark.parametrize(
    "options",
    [
        {"plan_chunk": 1, "action_chunk": 4},
        {"plan_chunk": 3, "state_tokens": "points"},
        {"plan_chunk": -1, "action_components": 3},
        {"plan_points": 0, "adaln": False, "layer_norm_every_block": True},
        {"compute_dtype": "bfloat16", "norm_before_adaln": True, "low_variance": True},
    ],
)
def test_every_option_trains_and_acts(options):
    spec = push_t_spec()
    policy = ArpPolicy(dataclasses.replace(SMALL, **options), spec)
    batch = make_batch(spec)

    params = random_params(policy, batch)

    @jax.jit
    def run(params, rng):
        total, _ = policy.loss(params, batch, rng, train=True)
        return total, policy.act(params, batch["observation"], rng)

    total, actions = run(params, jax.random.key(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert np.isfinite(total)
    assert total.dtype == jnp.float32
    assert actions.shape == (B, H, 2)
    assert actions.dtype == jnp.float32
    assert np.isfinite(actions).all()


def test_tiny_policy_overfits_one_batch():
    spec = push_t_spec()
    config = dataclasses.replace(SMALL, dropout=0.0, sample=False, embed_dim=32)
    policy, batch = ArpPolicy(config, spec), make_batch(spec)
    params = jax.jit(policy.init)(jax.random.key(0), batch)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train(params):
        def step(carry, rng):
            params, state = carry
            grads = jax.grad(lambda p: policy.loss(p, batch, rng, train=True)[0])(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        rngs = jax.random.split(jax.random.key(1), 150)
        return jax.lax.scan(step, (params, optimizer.init(params)), rngs)[0][0]

    def error(params):
        actions = jax.jit(policy.act)(params, batch["observation"], jax.random.key(0))
        return float(jnp.abs(actions - batch["action"]).mean())

    before, after = error(params), error(train(params))
    assert before > 0.3
    assert after < 0.1
