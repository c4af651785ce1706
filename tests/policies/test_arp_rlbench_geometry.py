"""Rotation codes against scipy, and what augmentation may and may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arp_jax.policies import rlbench_scene as scene
from arp_jax.policies import rotation_codes as codes
from arp_jax.policies.rlbench_config import SCENE_BOUNDS


def test_angles_and_matrices_equal_scipy():
    rotations = Rotation.random(200, random_state=0)
    matrix = codes.quaternion_to_matrix(jnp.asarray(rotations.as_quat(), jnp.float32))
    np.testing.assert_allclose(matrix, rotations.as_matrix(), atol=1e-6)
    angles = rotations.as_euler("xyz", degrees=True)
    np.testing.assert_allclose(codes.matrix_to_euler(matrix), angles, atol=2e-3)
    back = codes.euler_to_matrix(jnp.asarray(angles, jnp.float32))
    np.testing.assert_allclose(back, rotations.as_matrix(), atol=1e-6)


def test_codes_are_the_nearest_class_and_come_back():
    every = np.stack(np.meshgrid(np.arange(72), np.arange(19, 54), [0, 17, 71]), -1).reshape(-1, 3)
    quaternion = codes.codes_to_quaternion(jnp.asarray(every), 72)
    expected = Rotation.from_euler("xyz", every * 5.0 - 180, degrees=True)
    np.testing.assert_allclose(
        codes.quaternion_to_matrix(quaternion), expected.as_matrix(), atol=1e-6
    )
    found = codes.rotation_to_codes(codes.quaternion_to_matrix(quaternion), 72)
    np.testing.assert_array_equal(found, every)


def test_codes_round_and_wrap():
    angles = jnp.asarray([[179.0, 2.6, -177.4], [-179.0, 2.4, 177.6]])
    found = codes.rotation_to_codes(codes.euler_to_matrix(angles), 72)
    np.testing.assert_array_equal(found, [[0, 37, 1], [0, 36, 0]])


@pytest.mark.parametrize("pitch", [90.0, -90.0])
def test_straight_up_or_down_has_no_third_angle(pitch):
    matrix = Rotation.from_euler("xyz", [30.0, pitch, 50.0], degrees=True).as_matrix()
    angles = codes.matrix_to_euler(jnp.asarray(matrix, jnp.float32))
    roll = 30.0 - 50.0 if pitch > 0 else 30.0 + 50.0
    np.testing.assert_allclose(angles, [roll, pitch, 0.0], atol=0.05)
    near = Rotation.from_euler("xyz", [30.0, pitch * 0.992, 50.0], degrees=True).as_matrix()
    snapped = codes.snap_pitch(jnp.asarray(near, jnp.float32))
    np.testing.assert_allclose(snapped, matrix, atol=1e-5)
    far = Rotation.from_euler("xyz", [30.0, pitch * 0.98, 50.0], degrees=True).as_matrix()
    np.testing.assert_allclose(codes.snap_pitch(jnp.asarray(far, jnp.float32)), far, atol=1e-6)


def test_cube_and_zoom():
    corners = jnp.asarray([SCENE_BOUNDS[:3], SCENE_BOUNDS[3:], (0.2, 0.0, 1.1)])
    cube = scene.to_cube(corners, SCENE_BOUNDS)
    np.testing.assert_allclose(cube, [[-1, -1, -1], [1, 1, 1], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(scene.from_cube(cube, SCENE_BOUNDS), corners, atol=1e-6)
    centre = jnp.asarray([[0.1, 0.2, 0.3]])
    near = scene.zoom_in(jnp.asarray([[[0.2, 0.2, 0.3]]]), centre, 4.0)
    np.testing.assert_allclose(near, [[[0.4, 0, 0]]], atol=1e-6)
    np.testing.assert_allclose(scene.zoom_out(near[:, 0], centre, 4.0), [[0.2, 0.2, 0.3]])


def test_outside_and_unmeasured_points_are_not_in_the_scene():
    points = jnp.asarray([[0.0, 0.0, 1.0], [0.71, 0, 1], [0, 0, 0.59], [jnp.nan, 0, 1]])
    np.testing.assert_array_equal(scene.in_bounds(points, SCENE_BOUNDS), [1, 0, 0, 0])


def _augmented(turn_degrees, samples=64):
    keys = jax.random.split(jax.random.key(0), 3)
    points = jax.random.uniform(keys[0], (samples, 20, 3), minval=-1)
    low, high = np.asarray(SCENE_BOUNDS[:3]), np.asarray(SCENE_BOUNDS[3:])
    position = low + (high - low) * jax.random.uniform(keys[1], (samples, 3))
    rotation = Rotation.random(samples, random_state=1).as_matrix()
    before = (points, position, jnp.asarray(rotation, jnp.float32))
    after = scene.turn_and_shift(keys[2], *before, SCENE_BOUNDS, (0.125,) * 3, turn_degrees)
    return before, after


def test_augmentation_is_one_rigid_motion_of_scene_and_goal():
    before, after = _augmented((10.0, 20.0, 45.0))

    def seen_by_gripper(points, position, rotation):
        return jnp.einsum("bpi,bij->bpj", points - position[:, None], rotation)

    np.testing.assert_allclose(seen_by_gripper(*after), seen_by_gripper(*before), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(after[2]), 1.0, atol=1e-5)


def test_augmentation_stays_in_its_ranges():
    before, after = _augmented((0.0, 0.0, 45.0))
    low, high = np.asarray(SCENE_BOUNDS[:3]), np.asarray(SCENE_BOUNDS[3:])
    assert (after[1] >= low - 1e-6).all()
    assert (after[1] <= high + 1e-6).all()
    shift = np.abs(np.asarray(after[1] - before[1]))
    assert (shift <= 0.125 * (high - low) + 1e-6).all()
    assert shift.max() > 0.1
    turn = Rotation.from_matrix(np.asarray(after[2] @ before[2].swapaxes(-1, -2)))
    angles = turn.as_euler("xyz", degrees=True)
    np.testing.assert_allclose(angles[:, :2], 0.0, atol=1e-3)
    assert 35 < np.abs(angles[:, 2]).max() < 45.01


def test_colour_noise_keeps_to_its_strength():
    colours = jnp.full((8, 50, 3), 0.5)
    noise = np.abs(np.asarray(scene.noisy_colours(jax.random.key(0), colours, 0.05)) - 0.5)
    assert noise.max() <= 0.05
    # Each sample draws a strength of its own.
    assert noise.max((1, 2)).min() < 0.5 * noise.max()


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ("symmetric", {-2: 0.1, -1: 0.2, 0: 0.4, 1: 0.2, 2: 0.1}),
        ("published", {-2: 0.2, -1: 0.4, 0: 0.4}),
    ],
)
def test_jitter(kind, shares):
    start = jnp.full((20_000,), 1)
    moved = np.asarray(scene.jitter_codes(jax.random.key(0), start, 72, kind))
    found = dict(zip(*np.unique(moved, return_counts=True), strict=True))
    assert set(found) == {(1 + offset) % 72 for offset in shares}
    for offset, share in shares.items():
        assert found[(1 + offset) % 72] / len(moved) == pytest.approx(share, abs=0.015)
