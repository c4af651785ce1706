"""Policies on raw frames: what the network sees, what the spec says, what the section refuses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.evaluation.likelihood import make_score_fn
from arp_jax.models.image_augment import ImageAugment, augment_images
from arp_jax.policies.arp_aloha import AlohaArpPolicy, published_aloha_spec
from arp_jax.policies.base import Policy, build_policy
from arp_jax.policies.preprocessed import (
    PreprocessedPolicy,
    describe_images,
    network_of,
    preprocessed,
)
from arp_jax.specs import CameraSpec, PolicySpec
from configs import common
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec

SECTION: dict[str, Any] = {
    "scale": [0.6, 1.0],
    "size": [10, 12],
    "brightness": 0.3,
    "cameras": {"wrist_image": {"size": [], "scale": [], "random_crop": [8, 8]}},
}


class ScoringPolicy(TinyPolicy):
    """The tiny policy, which also says how likely actions are: a Gaussian of width one."""

    def log_prob(self, params: Any, batch: dict[str, Any]) -> dict[str, jax.Array]:
        error = self.act(params, batch["observation"], jax.random.key(0)) - batch["action"]
        return {"action": -0.5 * jnp.sum(error**2, -1)}


def camera_spec() -> PolicySpec:
    spec = tiny_spec()
    cameras = (CameraSpec("image", 20, 24), CameraSpec("wrist_image", 9, 9))
    observation = dataclasses.replace(spec.observation, cameras=cameras)
    return dataclasses.replace(spec, observation=observation)


def make(section: Mapping[str, Any] = SECTION, dropout: float = 0.0) -> Policy:
    config = TinyConfig(width=8, dropout=dropout)
    return preprocessed(lambda seen: ScoringPolicy(config, seen), camera_spec(), section)


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    observation: dict[str, Any] = {
        "agent_pos": rng.normal(size=(3, 2, 2)).astype(np.float32),
        "block_pose": rng.normal(size=(3, 2, 3)).astype(np.float32),
        "image": rng.integers(0, 256, (3, 2, 20, 24, 3), np.uint8),
        "wrist_image": rng.integers(0, 256, (3, 2, 9, 9, 3), np.uint8),
    }
    action = rng.normal(size=(3, 4, 2)).astype(np.float32)
    pad = np.zeros((3, 4), bool)
    return {"observation": observation, "action": action, "action_is_pad": pad}


def seen_at_rest(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch as the network must see it when nothing is drawn."""
    image = ImageAugment(scale=(0.6, 1.0), size=(10, 12), brightness=0.3)
    observation = dict(batch["observation"])
    observation["image"] = augment_images(observation["image"], image)
    observation["wrist_image"] = observation["wrist_image"][:, :, :8, :8]  # (9 - 8) // 2 = 0
    return {**batch, "observation": observation}


def test_spec_is_raw_and_the_networks_is_not(batch: dict[str, Any]) -> None:
    policy = make()
    assert policy.spec == camera_spec()
    sizes = [(c.height, c.width) for c in network_of(policy).spec.observation.cameras]
    assert sizes == [(10, 12), (8, 8)]
    params = policy.init(jax.random.key(0), batch)
    inputs = 2 * (2 + 3) + 2 * 3 * (10 * 12 + 8 * 8)
    assert params["hidden"]["kernel"].shape == (inputs, 8)


def test_everything_but_training_sees_the_same(batch: dict[str, Any]) -> None:
    policy = make()
    network, seen = network_of(policy), seen_at_rest(batch)
    params, key = policy.init(jax.random.key(0), batch), jax.random.key(1)
    act = jax.jit(policy.act)(params, batch["observation"], key)
    np.testing.assert_array_equal(act, jax.jit(network.act)(params, seen["observation"], key))
    loss, _ = policy.loss(params, batch, key, train=False)
    assert loss == network.loss(params, seen, key, train=False)[0]
    found, scored = make_score_fn(policy)(params, batch)
    expected, _ = make_score_fn(network)(params, seen)
    np.testing.assert_array_equal(found["action"], expected["action"])
    assert scored["action"].all()


def test_training_draws_and_is_repeatable(batch: dict[str, Any]) -> None:
    policy = make()
    params = policy.init(jax.random.key(0), batch)
    one, same, other, still = (
        float(policy.loss(params, batch, jax.random.key(seed), train=train)[0])
        for seed, train in ((1, True), (1, True), (2, True), (1, False))
    )
    assert one == same
    assert len({one, other, still}) == 3
    # A camera's draws are its own: they do not depend on the other camera being changed.
    assert isinstance(policy, PreprocessedPolicy)
    alone = make({"cameras": {"wrist_image": {"random_crop": [8, 8], "brightness": 0.3}}})
    assert isinstance(alone, PreprocessedPolicy)
    key = jax.random.key(7)
    both = policy.preprocess(batch["observation"], key)["wrist_image"]
    np.testing.assert_array_equal(alone.preprocess(batch["observation"], key)["wrist_image"], both)


def test_nothing_to_do_leaves_the_policy_as_it_is() -> None:
    for section in ({}, common.images().to_dict()):
        policy = make(section)
        assert type(policy) is ScoringPolicy
        assert network_of(policy) is policy
        assert describe_images(policy) == {}
    # A network that has no scores has none behind preprocessing either.
    config = TinyConfig()
    plain = preprocessed(lambda seen: TinyPolicy(config, seen), camera_spec(), SECTION)
    with pytest.raises(ValueError, match="cannot say how likely"):
        make_score_fn(plain)


def test_the_description_tells_apart_what_differs() -> None:
    first = describe_images(make())
    assert first["image"]["scale"] == [0.6, 1.0]
    assert first["wrist_image"]["random_crop"] == [8, 8]
    assert first["wrist_image"]["brightness"] == 0.3  # what a camera does not change is shared
    assert first == describe_images(make())
    assert first != describe_images(make({**SECTION, "brightness": 0.2}))


def test_build_policy_joins_a_real_policy_and_its_preprocessing() -> None:
    section = {"name": "arp_aloha", "guide_points": 0, "action_chunk": 100}
    policy = build_policy("arp_aloha", section, published_aloha_spec(), {"size": (96, 128)})
    network = network_of(policy)
    assert isinstance(network, AlohaArpPolicy)
    (camera,) = network.spec.observation.cameras
    assert (camera.height, camera.width) == (96, 128)
    assert policy.spec == published_aloha_spec()
    # Guide points are places in the picture: it may change its colours, not move.
    guided = {**section, "guide_points": 10}
    build_policy("arp_aloha", guided, published_aloha_spec(), {"hue": 0.1})
    with pytest.raises(ValueError, match=r"moves the pixels of camera 'top'.*guide_points"):
        build_policy("arp_aloha", guided, published_aloha_spec(), {"size": (96, 128)})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"brigtness": 0.1}, "config.images.brigtness is no option of an image; known"),
        ({"cameras": {"image": {"hues": 1}}}, "config.images.cameras.image.hues is no option"),
        ({"cameras": {"top": {"hue": 0.1}}}, "config.images.cameras.top is not observed; cameras"),
        ({"hue": 0.7}, "config.images: hue 0.7 must be within 0..0.5"),
        ({"crop": [0, 0, 15, 15]}, "camera 'wrist_image': crop .* is not within 9 x 9"),
    ],
)
def test_what_does_not_fit_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(section)


def test_images_need_a_camera() -> None:
    with pytest.raises(ValueError, match=r"config\.observations holds no camera"):
        preprocessed(lambda seen: TinyPolicy(TinyConfig(), seen), tiny_spec(), {"hue": 0.1})
