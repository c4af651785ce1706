"""AlohaArpPolicy: options, layouts, guide labels, masks, losses, learning and its config file."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.models.heads import LOG_2PI
from arp_jax.policies.arp_aloha import (
    AlohaArpConfig,
    AlohaArpPolicy,
    published_aloha,
    published_aloha_spec,
)
from arp_jax.policies.arp_aloha_config import (
    ACTION,
    LEFT,
    RIGHT,
    action_schedule,
    training_schedule,
)
from arp_jax.policies.base import build_policy
from arp_jax.policies.guide_labels import guide_points_from_tracks
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from arp_jax.training.optim import OptimConfig, decay_of, path_name
from configs import arp_aloha

H, B, S, A, G = 6, 2, 4, 3, 2
TINY = AlohaArpConfig(
    guide_points=G,
    guide_downsample=4,
    guide_corr_dim=8,
    action_chunk=H,
    layers=1,
    embed_dim=16,
    heads=2,
    encoder_layers=1,
    encoder_hidden=16,
    dropout=0.0,
)


def tiny_spec(**changes) -> PolicySpec:
    names = ("a", "b", "c", "d")
    spec = PolicySpec(
        ObservationSpec(
            (FeatureSpec("state", names[:S], "rad", "joint"),), (CameraSpec("top", 32, 64),)
        ),
        ActionSpec(names[:A], "rad", "joint", (True,) * A, (-1.0,) * A, (1.0,) * A, 50.0),
        window=1,
        horizon=H,
    )
    return dataclasses.replace(spec, **changes)


def make_batch(seed: int = 0) -> dict:
    """Sample 0 ends after all steps, sample 1 after 4."""
    rng = np.random.default_rng(seed)
    pad = np.zeros((B, H), bool)
    pad[1, 4:] = True
    tracks = rng.uniform((2, 2), (62, 30), (2, B, H, 2)).astype(np.float32)
    batch = {
        "observation": {
            "top": rng.integers(0, 256, (B, 1, 32, 64, 3), dtype=np.uint8),
            "state": rng.normal(size=(B, 1, S)).astype(np.float32),
        },
        "action": rng.normal(size=(B, H, A)).astype(np.float32),
        "action_is_pad": pad,
        "task": {"left_points": tracks[0], "right_points": tracks[1]},
    }
    return batch


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """These programs run a few times on tiny arrays: compiling them is all the time there is."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def random_params(policy: AlohaArpPolicy) -> dict:
    """Parameters without a zero, AdaLN included; variances stay positive."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(policy.init, jax.random.key(0), make_batch())

    def draw(path, leaf):
        name = path_name(path)
        x = rng.standard_normal(leaf.shape) * 0.7 / math.sqrt(max(leaf.shape[:-1], default=1))
        if name.endswith(("running_var", "var", "std")):
            x = 0.5 + np.abs(x)
        if "trunk" in name and name.endswith("kernel"):
            x = rng.standard_normal(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        return np.asarray(x, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def policy() -> AlohaArpPolicy:
    return AlohaArpPolicy(TINY, tiny_spec())


@pytest.fixture(scope="module")
def params(policy) -> dict:
    return random_params(policy)


@pytest.fixture(scope="module")
def evaluate(policy):
    """(losses, log-likelihoods, moved parameters) of parameters and a batch, compiled once."""

    @jax.jit
    def run(params, batch):
        _, metrics = policy.loss(params, batch, jax.random.key(0), train=False)
        return metrics, policy.log_prob(params, batch), policy.update_statistics(params, batch)

    return run


# -- options and layouts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"guide_point": 3}, "policy.guide_point is no option of arp_aloha"),
        ({"guide_downsample": 3}, "policy.guide_downsample 3: choose one of"),
        ({"action_chunk": 0}, "policy.action_chunk must be at least 1, found 0"),
        ({"guide_points": -1}, "policy.guide_points must be 0 or more"),
        ({"guide_sigma": 0.0}, "policy.guide_sigma must be positive"),
        ({"embed_dim": 18}, "policy.embed_dim 18 must be a multiple of 4"),
        ({"image_mean": [0.5]}, "policy.image_mean needs 3 values"),
    ],
)
def test_bad_options_are_named(section, message) -> None:
    with pytest.raises(ValueError, match=message):
        AlohaArpConfig.from_section(section)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TINY, {"window": 2}, "arp_aloha sees one observation, found 2"),
        (dataclasses.replace(TINY, camera="wrist"), {}, "no observation 'wrist'"),
        (dataclasses.replace(TINY, camera="state"), {}, "policy.camera 'state' is a vector"),
        (dataclasses.replace(TINY, state_feature="qpos"), {}, "no feature 'qpos'"),
    ],
)
def test_spec_that_does_not_fit_is_named(config, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        AlohaArpPolicy(config, tiny_spec(**changes))


def test_odd_cameras_work_only_without_guide_points() -> None:
    observation = tiny_spec().observation
    odd = tiny_spec(
        observation=dataclasses.replace(observation, cameras=(CameraSpec("top", 40, 64),))
    )
    with pytest.raises(ValueError, match="divisible by 32, found 40 x 64"):
        AlohaArpPolicy(TINY, odd)
    policy = AlohaArpPolicy(dataclasses.replace(TINY, guide_points=0), odd)
    assert policy.schedule == policy.action_schedule


def test_published_layouts() -> None:
    config, spec = published_aloha(), published_aloha_spec()
    whole = training_schedule(config, spec)
    assert whole.token_ids == (0, *(1,) * 100, *(2,) * 10, *(3,) * 10)
    assert whole.chunk_ids == (0, *(1,) * 100, *range(2, 22))
    acting = action_schedule(config, spec)
    assert acting.chunk_ids == (0, *(1,) * 100)
    one_step = dataclasses.replace(config, one_step=True)
    assert training_schedule(one_step, spec).chunk_ids == (0, *(1,) * 120)
    tens = dataclasses.replace(config, action_chunk=10, guide_chunk=20)
    assert training_schedule(tens, spec).num_chunks == 1 + 10 + 1
    for each in (config, one_step, tens):
        AlohaArpPolicy(each, spec).schedule.check(AlohaArpPolicy(each, spec).transformer.config)


# -- labels and masks -----------------------------------------------------------------------------


def test_guide_points_keep_both_ends_of_the_recorded_track() -> None:
    steps = np.arange(7, dtype=np.float32)
    track = np.stack([10 * steps, 100 - steps], axis=-1)[None].repeat(3, axis=0)
    is_pad = np.asarray([[False] * 7, [False] * 4 + [True] * 3, [True] * 7])
    resample = jax.jit(guide_points_from_tracks, static_argnums=2)
    points = resample(track, is_pad, 3)
    np.testing.assert_array_equal(points[0], [[0, 100], [30, 97], [60, 94]])
    # Halves round to even: 98.5 -> 98.
    np.testing.assert_array_equal(points[1], [[0, 100], [15, 98], [30, 97]])
    np.testing.assert_array_equal(points[2], [[0, 100]] * 3)
    one = resample(track, is_pad, 1)
    np.testing.assert_array_equal(one[:, 0], track[:, 0])


def test_padding_masks(policy) -> None:
    is_pad = jnp.asarray([[False] * H, [False] * 4 + [True] * 2])
    fixed = policy._valid(is_pad)
    expected = [True] * 5 + [False] * 2 + [True] * 2 * G
    np.testing.assert_array_equal(fixed, [[True] * len(expected), expected])
    published = AlohaArpPolicy(dataclasses.replace(TINY, published_padding=True), tiny_spec())
    early = [True] * 4 + [False] * 2 + [True] + [True] * 2 * G
    np.testing.assert_array_equal(published._valid(is_pad)[1], early)


# -- numbers --------------------------------------------------------------------------------------


def test_loss_is_the_mean_of_its_entries(evaluate, params) -> None:
    metrics, _, _ = evaluate(params, make_batch())
    names = {f"{ACTION}.nll_loss", f"{LEFT}.2d_ce_loss", f"{RIGHT}.2d_ce_loss"}
    assert set(metrics) == {"loss", *names}
    mean = np.mean([metrics[name] for name in names])
    np.testing.assert_allclose(metrics["loss"], mean, rtol=1e-6)


def test_padded_actions_do_not_enter_the_action_loss(evaluate, params) -> None:
    def shifted(action, steps):
        changed = action.copy()
        changed[1, steps] += 5.0
        return changed

    batch = make_batch()
    other = {**batch, "action": shifted(batch["action"], slice(4, None))}
    recorded = {**batch, "action": shifted(batch["action"], 3)}
    name = f"{ACTION}.nll_loss"
    before, padded, changed = (evaluate(params, b)[0][name] for b in (batch, other, recorded))
    assert before == padded
    assert abs(before - changed) > 1e-3


def test_act_is_a_chunk_of_means_that_needs_no_tracks(policy, params) -> None:
    act = jax.jit(policy.act)
    observation = make_batch()["observation"]
    actions = act(params, observation, jax.random.key(0))
    assert actions.shape == (B, H, A)
    np.testing.assert_array_equal(actions, act(params, observation, jax.random.key(1)))
    moved = {**observation, "state": observation["state"] + 1}
    assert np.abs(act(params, moved, jax.random.key(0)) - actions).max() > 1e-3


def test_log_prob_agrees_with_the_losses(evaluate, params) -> None:
    batch = {**make_batch(), "action_is_pad": np.zeros((B, H), bool)}
    metrics, found, _ = evaluate(params, batch)
    assert {name: x.shape for name, x in found.items()} == {
        ACTION: (B, H),
        LEFT: (B, G),
        RIGHT: (B, G),
    }
    # The published Gaussian loss is a mean over dimensions and has no log(2 pi) / 2.
    nll = -found[ACTION].mean() / A - 0.5 * LOG_2PI
    np.testing.assert_allclose(nll, metrics[f"{ACTION}.nll_loss"], rtol=1e-4)
    for name in (LEFT, RIGHT):
        np.testing.assert_allclose(-found[name].mean(), metrics[f"{name}.2d_ce_loss"], rtol=1e-4)


def test_tracks_are_asked_for_by_name(policy, params) -> None:
    def loss(params, batch):
        return policy.loss(params, batch, jax.random.key(0), train=False)

    batch = make_batch()
    del batch["task"]["right_points"]
    with pytest.raises(ValueError, match="no gripper track 'right_points'"):
        jax.eval_shape(loss, params, batch)
    batch["task"]["right_points"] = np.zeros((B, H + 1, 2), np.float32)
    with pytest.raises(ValueError, match=r"'right_points' has shape \(2, 7, 2\), expected"):
        jax.eval_shape(loss, params, batch)


def test_running_statistics_move_only_when_asked(evaluate, params) -> None:
    _, _, moved = evaluate(params, make_batch())
    before, after = params["statistics"][LEFT]["norm_0"], moved["statistics"][LEFT]["norm_0"]
    assert np.abs(after["mean"] - before["mean"]).max() > 1e-4
    assert jax.tree.structure(moved) == jax.tree.structure(params)
    for name in ("encoder", "transformer"):
        assert jax.tree.all(jax.tree.map(np.array_equal, moved[name], params[name]))
    np.testing.assert_array_equal(
        moved["statistics"]["image"]["mean"], params["statistics"]["image"]["mean"]
    )


def test_three_steps_of_training_lower_the_loss(policy, params) -> None:
    batch, tx = make_batch(), optax.adam(3e-3)

    @jax.jit
    def step(params, opt_state, rng):
        loss, grads = jax.value_and_grad(lambda p: policy.loss(p, batch, rng, train=True)[0])(
            params
        )
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    trained, opt_state, losses = params, tx.init(params), []
    for i in range(4):
        trained, opt_state, loss = step(trained, opt_state, jax.random.key(i))
        losses.append(float(loss))  # before the step; the fourth is what three steps reached
    assert losses[3] < losses[0] - 0.05
    changed = {
        path_name(path): not np.array_equal(a, b)
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(trained), jax.tree.leaves(params), strict=True
        )
    }
    frozen = re.compile(r"^statistics/|trunk/.*norm")
    assert not [name for name, moved in changed.items() if moved and frozen.search(name)]
    assert changed["encoder/trunk/stem_conv/kernel"]
    assert changed["encoder/state_position"]
    assert changed["transformer/heads_guide-pt-left/upsampler/low_0/kernel"]


# -- the config file ------------------------------------------------------------------------------


def published_shapes(policy: AlohaArpPolicy) -> tuple[dict, dict]:
    """(parameters, batch of one sample) of the published policy."""

    def one(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((1, *shape), dtype)

    batch = {
        "observation": {"top": one(1, 480, 640, 3, dtype=jnp.uint8), "state": one(1, 14)},
        "action": one(100, 14),
        "action_is_pad": one(100, dtype=bool),
        "task": {"left_points": one(100, 2), "right_points": one(100, 2)},
    }
    return jax.eval_shape(policy.init, jax.random.key(0), batch), batch


@pytest.mark.parametrize("variant", ["", "one_step"])
def test_config_file_is_the_published_policy(variant) -> None:
    config, spec = arp_aloha.get_config(variant).to_dict(), published_aloha_spec()
    policy = build_policy(config["policy"]["name"], config["policy"], spec)
    assert policy.config == dataclasses.replace(published_aloha(), one_step=bool(variant))
    assert (config["window"], config["horizon"]) == (spec.window, spec.horizon)
    assert spec.observation.select(config["observations"]) == spec.observation


def test_published_sizes_loss_and_decay() -> None:
    policy = AlohaArpPolicy(published_aloha(), published_aloha_spec())
    params, batch = published_shapes(policy)

    def count(tree, pattern="") -> int:
        return sum(
            math.prod(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            if re.search(pattern, path_name(path))
        )

    frozen = count(params["encoder"]["trunk"], "norm")
    assert frozen == 19_200  # buffers, not parameters, in the published network
    assert count(params["encoder"]["trunk"]) - frozen == 11_166_912
    assert count(params["encoder"]["encoder"]) == 16_923_760
    assert count(params["transformer"]) == 30_798_366
    assert count(params["transformer"], "^heads_guide") == 7_275_010
    assert count(params) - frozen - count(params["statistics"]) == 59_159_886

    loss, _ = jax.eval_shape(
        lambda p, b: policy.loss(p, b, jax.random.key(0), train=True), params, batch
    )
    assert loss.shape == ()

    optim = OptimConfig(**arp_aloha.get_config().to_dict()["optim"])
    decays = {
        path_name(path): decay_of(path_name(path), optim)
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    assert decays["statistics/image/std"] == 0
    assert decays["encoder/trunk/stages_1_0/skip_norm/running_var"] == 0
    assert decays["encoder/trunk/stem_conv/kernel"] == 1e-4
    assert decays["encoder/encoder/blocks_0/norm_mlp/scale"] == 1e-4


def test_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match="variant 'two_step' is none of"):
        arp_aloha.get_config("two_step")
