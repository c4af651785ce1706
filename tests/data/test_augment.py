"""The Push-T mirror: hand-written cases, involution, and agreement with the simulator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.augment import (
    make_augment,
    mirror_batch,
    mirror_block_pose,
    mirror_image,
    mirror_points,
    push_t_mirror,
)
from arp_jax.normalize import Affine, affine_from_limits, normalize, unnormalize
from arp_jax.sim.push_t import dynamics, geometry
from arp_jax.sim.push_t.env import OBSERVATION_SPEC, observe

NORMALIZER = {
    feature.name: affine_from_limits(feature.low, feature.high)
    for feature in OBSERVATION_SPEC.features
} | {"action": affine_from_limits([0, 0], [512, 512])}
VECTORS = ("agent_pos", "keypoints", "block_pose")


def normalized(observation):
    return {
        name: normalize(value, NORMALIZER[name]) if name in NORMALIZER else value
        for name, value in observation.items()
    }


def random_batch(size=8, window=2, horizon=5, seed=0):
    """Batch of consistent observations of random poses, images included."""
    rng = np.random.default_rng(seed)
    agent = rng.uniform(50, 460, (size, window, 2)).astype(np.float32)
    block = rng.uniform([150, 150, 0], [360, 360, 6.28], (size, window, 3)).astype(np.float32)
    observation = {n: np.asarray(v) for n, v in observe(agent, block, VECTORS).items()}
    observation["image"] = rng.integers(0, 256, (size, window, 6, 6, 3), dtype=np.uint8)
    action = rng.uniform(-1, 1, (size, horizon, 2)).astype(np.float32)
    pad = rng.random((size, horizon)) < 0.3
    return {"observation": normalized(observation), "action": action, "action_is_pad": pad}


def test_points_by_hand():
    # 512 px wide: (100, 200) -> (512 - 200, 512 - 100).
    affine = NORMALIZER["action"]
    point = normalize(np.array([100.0, 200.0], np.float32), affine)
    np.testing.assert_allclose(unnormalize(mirror_points(point), affine), [312, 412], atol=1e-3)


@pytest.mark.parametrize(
    ("theta", "mirrored"), [(45, 45), (0, 90), (90, 0), (100, 350), (300, 150)]
)
def test_angles_by_hand(theta, mirrored):
    affine = NORMALIZER["block_pose"]
    pose = normalize(np.array([256, 256, np.deg2rad(theta)], np.float32), affine)
    x, y, angle = unnormalize(mirror_block_pose(pose), affine)
    np.testing.assert_allclose([x, y], [256, 256], atol=1e-3)
    difference = (np.rad2deg(angle) - mirrored + 180) % 360 - 180
    assert abs(difference) < 1e-3


def test_image_by_hand():
    image = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    assert mirror_image(image)[..., 0].tolist() == [[8, 5, 2], [7, 4, 1], [6, 3, 0]]
    with pytest.raises(ValueError, match="square"):
        mirror_image(np.zeros((3, 4, 1), np.uint8))


def test_involution():
    batch = random_batch()
    twice = mirror_batch(mirror_batch(batch))
    np.testing.assert_array_equal(twice["observation"]["image"], batch["observation"]["image"])
    np.testing.assert_array_equal(twice["action"], batch["action"])
    for name in VECTORS:
        np.testing.assert_allclose(
            twice["observation"][name], batch["observation"][name], atol=1e-6, err_msg=name
        )


@given(
    x=st.floats(100, 400), y=st.floats(100, 400), theta=st.floats(0, 2 * np.pi, exclude_max=True)
)
@settings(max_examples=40, deadline=None)
def test_features_stay_consistent(x, y, theta):
    """Keypoints and pose are mirrored by separate formulas, yet describe one and the same T."""
    pose = np.array([x, y, theta], np.float32)
    mirrored = unnormalize(
        mirror_block_pose(normalize(pose, NORMALIZER["block_pose"])), NORMALIZER["block_pose"]
    )
    batch = {
        "observation": normalized({"keypoints": geometry.keypoints(pose)}),
        "action": np.zeros((1, 2), np.float32),
    }
    keypoints = unnormalize(
        mirror_batch(batch)["observation"]["keypoints"], NORMALIZER["keypoints"]
    )
    np.testing.assert_allclose(keypoints, geometry.keypoints(mirrored), atol=2e-3)


def test_goal_is_its_own_mirror_image():
    pose = normalize(np.asarray(geometry.GOAL_POSE, np.float32), NORMALIZER["block_pose"])
    np.testing.assert_allclose(mirror_block_pose(pose), pose, atol=1e-6)


def test_whole_examples_are_mirrored_with_probability_one_half():
    batch = random_batch(size=600, window=1, horizon=1)
    out = jax.jit(push_t_mirror)(batch, jax.random.key(0))
    full = mirror_batch(batch)
    kept = np.isclose(out["action"], batch["action"]).all((1, 2))
    # 600 fair coins: four standard deviations are 49.
    assert abs(kept.sum() - 300) < 49
    np.testing.assert_array_equal(out["action_is_pad"], batch["action_is_pad"])
    for name, value in out["observation"].items():
        assert value.dtype == batch["observation"][name].dtype
        chosen = np.where(
            kept.reshape(-1, *[1] * (value.ndim - 1)),
            batch["observation"][name],
            full["observation"][name],
        )
        np.testing.assert_allclose(value, chosen, atol=1e-6, err_msg=name)
    again = push_t_mirror(batch, jax.random.key(0))
    np.testing.assert_array_equal(again["action"], out["action"])
    other = push_t_mirror(batch, jax.random.key(1))
    assert not np.array_equal(other["action"], out["action"])


def mirrored_initial(initial):
    """Raw draws [N, 5] whose reset is the mirror image of the reset of `initial`.

    The reset turns the T about its centre of gravity, which lies 45 px below the drawn position.
    """
    agent_x, agent_y, x, y, angle = initial.T
    low = 512.0 - geometry.CENTER_OF_GRAVITY_Y
    return np.stack([512 - agent_y, 512 - agent_x, low - y, low - x, np.pi / 2 - angle], 1)


def test_simulator_commutes_with_the_mirror():
    """Stepping the mirrored state with mirrored actions = mirroring the step, away from walls."""
    rng = np.random.default_rng(5)
    episodes, steps = 64, 8
    block = rng.uniform([220, 190, 0], [290, 260, 6.28], (episodes, 3))
    direction = rng.uniform(0, 2 * np.pi, episodes)
    away = np.stack([np.cos(direction), np.sin(direction)], 1)
    center = block[:, :2] + [0, geometry.CENTER_OF_GRAVITY_Y]
    # From outside the T through its middle: nearly every episode pushes.
    initial = np.concatenate([center + 105 * away, block], 1).astype(np.float32)
    targets = center - 25 * away + rng.normal(0, 15, (steps, episodes, 2))
    affine = NORMALIZER["action"]
    actions = normalize(targets.astype(np.float32), affine)

    @jax.jit
    def roll(initial, actions):
        def step(physics, action):
            physics = dynamics.step(physics, unnormalize(action, affine))
            return physics, observe(*dynamics.pose(physics), VECTORS)

        return jax.lax.scan(step, dynamics.reset(initial), actions)[1]

    plain = normalized(roll(initial, actions))
    mirror = normalized(roll(mirrored_initial(initial).astype(np.float32), mirror_points(actions)))
    expected = mirror_batch({"observation": plain, "action": actions})["observation"]
    error = {n: 256 * np.abs(np.asarray(mirror[n] - expected[n])) for n in VECTORS[:2]}
    turned = np.asarray(mirror["block_pose"] - expected["block_pose"])[..., 2]
    turned = np.abs((turned + 1) % 2 - 1) * np.pi

    corners = np.asarray(unnormalize(plain["keypoints"], NORMALIZER["keypoints"]))
    clear = (corners.min(-1) > 15) & (corners.max(-1) < 497)  # [steps, episodes]
    moved = np.abs(corners[-1] - corners[0]).max(-1) > 5
    assert clear.mean() > 0.9
    assert moved.mean() > 0.8
    assert error["agent_pos"].max() < 0.1
    assert error["keypoints"][clear].max() < 0.1
    assert turned[clear].max() < 1e-3


def test_image_agrees_with_the_rendered_mirror_state():
    agent = np.array([120.0, 300.0], np.float32)
    block = np.array([200.0, 230.0, 1.0], np.float32)
    image = np.asarray(observe(agent, block, ("image",))["image"], np.float32)
    mirrored = np.array([512 - block[1], 512 - block[0], np.pi / 2 - block[2]], np.float32)
    agent = np.array([512 - agent[1], 512 - agent[0]], np.float32)
    rendered = np.asarray(observe(agent, mirrored, ("image",))["image"], np.float32)
    error = np.abs(np.asarray(mirror_image(image)) - rendered).mean()
    # Anti-aliased edges differ by 1 of 512 px: pixel k has its centre at k, not at k + 1/2.
    assert error < 1.0
    assert np.abs(image - rendered).mean() > 5 * error


def test_make_augment_checks_name_and_normalizer():
    batch = random_batch(2)
    assert make_augment(None)(batch, jax.random.key(0)) is batch
    assert make_augment("push_t_mirror", NORMALIZER) is push_t_mirror
    with pytest.raises(ValueError, match="'flip' is unknown"):
        make_augment("flip")
    with pytest.raises(ValueError, match="needs the normalizer"):
        make_augment("push_t_mirror")
    standard = NORMALIZER | {"agent_pos": Affine(np.array([250, 300]), np.array([100, 90]))}
    with pytest.raises(ValueError, match=r"'limits' normalization of 'agent_pos'"):
        make_augment("push_t_mirror", standard)
    batch["observation"]["speed"] = jnp.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="does not know observation 'speed'"):
        push_t_mirror(batch, jax.random.key(0))
