"""The RLBench policy: published sizes, and a small one end to end from cloud to goal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.policies.arp_rlbench import RlbenchArpPolicy, published_rlbench, rlbench_spec
from arp_jax.policies.base import build_policy
from arp_jax.policies.rlbench_config import GRIPPER, POINTS, SCENE_BOUNDS, RlbenchArpConfig
from configs import arp_rlbench as config_file

SMALL = RlbenchArpConfig(
    image_size=28,
    patch=14,
    patch_features=8,
    language_tokens=5,
    language_dim=6,
    view_width=16,
    view_heads=2,
    view_head_dim=8,
    view_layers=2,
    heads=2,
    cross_layers=1,
    self_layers=1,
)
LOSSES = {f"{name}.2d_ce_loss" for name in POINTS.values()} | {f"{n}.ce_loss" for n in GRIPPER}


def _batch(samples: int = 2, points: int = 200) -> dict:
    rng = np.random.RandomState(0)
    low, high = np.asarray(SCENE_BOUNDS[:3]), np.asarray(SCENE_BOUNDS[3:])
    quaternion = rng.standard_normal((samples, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    place = low + (high - low) * rng.uniform(0.2, 0.8, (samples, 3))
    flags = rng.randint(0, 2, (samples, 2))
    cloud = low + (high - low) * rng.uniform(-0.1, 1.1, (samples, points, 3))
    cloud[:, :5] = np.nan
    action = np.concatenate([place, quaternion, flags], axis=1)[:, None]
    arrays = {
        "point_cloud": cloud,
        "colours": rng.uniform(size=(samples, points, 3)),
        "proprio": rng.uniform(size=(samples, 3)),
        "language": rng.standard_normal((samples, 5, 6)),
    }
    observation = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}
    return {"observation": observation, "action": jnp.asarray(action, jnp.float32)}


def random_params(policy: RlbenchArpPolicy) -> dict:
    """Parameters of the right shapes, none of them zero; drawn without compiling anything."""
    rng = np.random.RandomState(0)

    def draw(path, leaf):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(mean + 0.1 * rng.standard_normal(leaf.shape), jnp.float32)

    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def small():
    """(policy, parameters, batch)"""
    policy = RlbenchArpPolicy(SMALL, rlbench_spec())
    return policy, random_params(policy), _batch()


@pytest.fixture(scope="module")
def fine_stage(small):
    """(views, targets, maps of the fine stage) without augmentation."""
    policy, params, batch = small

    @jax.jit
    def run(params, batch):
        views, targets = policy.views_and_targets(batch, None)
        maps = policy.feature_maps(params, "fine", views["fine"], batch["observation"])
        return views, targets, maps

    return run(params, batch)


@pytest.fixture(scope="module")
def gripper_logits(small):
    """Function: maps and targets to the training pass's class logits of every gripper token."""
    policy, params, _ = small

    @jax.jit
    def logits(maps, targets):
        inputs = policy._gripper_inputs(maps, targets)
        return policy._apply(params, "trace", *inputs, every_row=False)["predictions"]

    return logits


@pytest.mark.parametrize(
    ("variant", "head", "total"),
    [("arp", 4_048_166, 72_115_622), ("plus", 5_946_918, 74_014_374)],
)
def test_published_sizes(variant, head, total):
    policy = RlbenchArpPolicy(published_rlbench(variant), rlbench_spec())
    params = jax.eval_shape(policy.init, jax.random.key(0))
    sizes = {k: sum(x.size for x in jax.tree.leaves(tree)) for k, tree in params.items()}
    assert sizes == {"coarse": 34_033_728, "fine": 34_033_728, "transformer": head}
    assert sum(sizes.values()) == total


@pytest.mark.parametrize("variant", ["arp", "plus"])
def test_config_file_is_the_published_model(variant):
    config = config_file.get_config(variant)
    policy = build_policy("arp_rlbench", config.policy.to_dict(), rlbench_spec())
    assert isinstance(policy, RlbenchArpPolicy)
    assert policy.config == published_rlbench(variant)
    assert config.train.steps == 83_333
    with pytest.raises(ValueError, match="variant 'arp2' is unknown"):
        config_file.get_config("arp2")


def test_layout(small):
    policy, *_ = small
    names = [t.name for t in policy.transformer.config.tokens]
    gripper = policy.gripper_schedule
    assert [names[i] for i in gripper.token_ids] == ["prompt-features"] * 6 + list(GRIPPER)
    assert gripper.chunk_ids == tuple(range(11))
    assert (gripper.layer_match, policy.point_schedules["fine"].layer_match) == ("self", "cross")
    blocked = {(names[a], names[b]) for a, b in gripper.blocked}
    assert blocked == {(a, f"rot-{b}") for a in ("grip", "collision") for b in "xyz"}


def test_evaluation_loss_is_the_negative_log_likelihood(small):
    policy, params, batch = small
    total, metrics = jax.jit(policy.loss, static_argnames="train")(
        params, batch, jax.random.key(0), train=False
    )
    assert set(metrics) == LOSSES | {"loss"}
    np.testing.assert_allclose(total, sum(metrics[k] for k in LOSSES), rtol=1e-6)
    found = jax.jit(policy.log_prob)(params, batch)
    assert found["stage1-screen-pts"].shape == (2, 3)
    assert found["rot-x"].shape == (2, 1)
    for key in LOSSES:
        np.testing.assert_allclose(-found[key.split(".")[0]].mean(), metrics[key], rtol=1e-5)


def test_training_loss_can_be_traced(small):
    policy, params, batch = small

    def loss(params, key):
        return policy.loss(params, batch, key, train=True)

    total, metrics = jax.eval_shape(loss, params, jax.random.key(0))
    assert total.shape == ()
    assert set(metrics) == LOSSES | {"loss"}


@pytest.mark.slow
def test_training_loss_depends_on_the_key_and_has_gradients(small):
    policy, params, batch = small

    def loss(params, seed):
        return policy.loss(params, batch, jax.random.key(seed), train=True)[0]

    graded = jax.jit(jax.value_and_grad(loss))
    (first, grads), (second, _) = graded(params, 0), graded(params, 1)
    assert np.isfinite(first)
    assert abs(first - second) > 1e-4
    norms = {
        k: float(jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(tree))))
        for k, tree in grads.items()
    }
    assert all(np.isfinite(n) and n > 0 for n in norms.values()), norms


def test_act_returns_a_goal_in_physical_units(small):
    policy, params, batch = small
    act = jax.jit(policy.act)
    action = np.asarray(act(params, batch["observation"], jax.random.key(0)))
    assert action.shape == (2, 1, 9)
    np.testing.assert_allclose(np.linalg.norm(action[..., 3:7], axis=-1), 1.0, atol=1e-5)
    assert np.isin(action[..., 7:], (0.0, 1.0)).all()
    # The fine cube reaches a quarter of the scene beyond the coarse point.
    low, high = np.asarray(SCENE_BOUNDS[:3]), np.asarray(SCENE_BOUNDS[3:])
    margin = (high - low) / 8
    assert (action[..., :3] > low - margin).all()
    assert (action[..., :3] < high + margin).all()
    np.testing.assert_array_equal(act(params, batch["observation"], jax.random.key(7)), action)


def test_generated_codes_are_the_likeliest_of_the_training_pass(small, fine_stage, gripper_logits):
    policy, params, _ = small
    _, targets, maps = fine_stage
    codes = jax.jit(policy.gripper_codes)(params, maps, targets.points["fine"])
    found = gripper_logits(maps, targets._replace(codes=codes, fed=codes))
    for i, name in enumerate(GRIPPER):
        np.testing.assert_array_equal(found[name][:, 0].argmax(-1), codes[:, i])


def test_grip_does_not_depend_on_rotations(fine_stage, gripper_logits):
    _, targets, maps = fine_stage
    turned = targets.fed.at[:, :3].set((targets.fed[:, :3] + 30) % 72)
    before = gripper_logits(maps, targets)
    after = gripper_logits(maps, targets._replace(fed=turned))
    for name in ("grip", "collision", "rot-x"):
        np.testing.assert_array_equal(before[name], after[name])
    assert np.abs(before["rot-z"] - after["rot-z"]).max() > 1e-4


def test_augmentation_can_be_switched_off(small, fine_stage):
    policy, _, batch = small
    still = dataclasses.replace(SMALL, augment=False, zoom_noise=0.0, rotation_jitter="none")
    still_policy = RlbenchArpPolicy(still, policy.spec)
    found = jax.jit(still_policy.views_and_targets)(batch, jax.random.key(0))
    views, targets, _ = fine_stage
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves((views, targets)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    varied, moved = jax.jit(policy.views_and_targets)(batch, jax.random.key(0))
    assert np.abs(varied["fine"] - views["fine"]).max() > 0.1
    np.testing.assert_array_equal(moved.fed[:, 3:], moved.codes[:, 3:])
    assert np.abs(moved.points["fine"]).max() <= 0.4 + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patches": 3}, "policy.patches is no option of arp_rlbench"),
        ({"rotation_jitter": "some"}, "policy.rotation_jitter 'some': choose one of"),
        ({"scene_bounds": [0, 0, 0, 1, 1]}, "policy.scene_bounds needs 6 numbers"),
        ({"image_size": 220}, "policy.image_size 220 must be a multiple of policy.patch 14"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RlbenchArpConfig.from_section(options)


def test_a_spec_of_other_actions_is_refused(small):
    policy, *_ = small
    spec = dataclasses.replace(policy.spec, horizon=2)
    with pytest.raises(ValueError, match="window 1 and horizon 1"):
        RlbenchArpPolicy(SMALL, spec)
