"""Observation encoders: cropping, scaling, shapes, and sensitivity to what they must see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.observation_encoder import (
    ImageEncoder,
    StateEncoder,
    crop_images,
    scale_images,
)
from arp_jax.models.resnet import ResNet
from arp_jax.models.spatial_softmax import spatial_softmax


@pytest.fixture
def images() -> np.ndarray:
    """uint8 [2, 3, 12, 10, 3]; every pixel says where it is: red = row, green = column."""
    rows, columns = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    frame = np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)
    return np.broadcast_to(frame, (2, 3, 12, 10, 3))


def corners(crops: jax.Array) -> np.ndarray:
    """Row and column of the top left pixel of every crop, [frames, 2]."""
    return np.asarray(crops)[:, :, 0, 0, :2].reshape(-1, 2)


def test_centre_crop_is_deterministic_and_centred(images):
    crops = crop_images(images, (8, 8), None)
    assert crops.shape == (2, 3, 8, 8, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(corners(crops), np.tile([2, 1], (6, 1)))


def test_random_crop_draws_every_offset_but_the_last_and_differs_between_frames(images):
    crop = jax.jit(lambda rng: crop_images(jnp.asarray(images), (8, 8), rng))
    seen = np.concatenate([corners(crop(jax.random.key(seed))) for seed in range(40)])
    assert set(seen[:, 0]) == {0, 1, 2, 3}  # 12 - 8 = 4 is never drawn
    assert set(seen[:, 1]) == {0, 1}
    assert len(np.unique(corners(crop(jax.random.key(0))), axis=0)) > 1
    # A crop is a contiguous piece of its frame, not a resampling.
    one = np.asarray(crop(jax.random.key(3)))[0, 0].astype(int)
    assert np.all(np.diff(one[:, :, 0], axis=0) == 1)
    assert np.all(np.diff(one[:, :, 1], axis=1) == 1)


def test_crop_of_the_full_size_and_beyond(images):
    full = crop_images(jnp.asarray(images), (12, 10), jax.random.key(0))
    np.testing.assert_array_equal(full, images)
    with pytest.raises(ValueError, match="larger than the image"):
        crop_images(images, (13, 8), None)


def test_scale_images_maps_bytes_to_minus_one_and_one():
    scaled = scale_images(jnp.asarray([[0, 255, 51]], jnp.uint8))
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, [[-1.0, 1.0, -0.6]], atol=1e-6)


def test_spatial_softmax_finds_peaks_and_the_centre():
    scores = np.zeros((1, 5, 9, 2), np.float32)
    scores[0, 4, 0, 0] = 100.0  # channel 0: bottom left; channel 1: flat
    np.testing.assert_allclose(
        spatial_softmax(jnp.asarray(scores))[0], [[-1.0, 1.0], [0.0, 0.0]], atol=1e-5
    )


def test_resnet_rejects_unknown_depth_and_norm():
    image = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ValueError, match="depth 19"):
        ResNet(depth=19).init(jax.random.key(0), image)
    with pytest.raises(ValueError, match="norm 'batch'"):
        ResNet(norm="batch").init(jax.random.key(0), image)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_176_512), (34, 21_284_672)])
def test_resnet_parameter_counts_equal_torchvision(depth, parameters):
    # torchvision's counts (11,689,512 and 21,797,672) less the 513,000 of the classifier.
    params = jax.eval_shape(ResNet(depth=depth).init, jax.random.key(0), jnp.zeros((1, 84, 84, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


def test_image_encoder_gives_one_token_a_frame_in_both_precisions():
    images = jax.random.uniform(jax.random.key(1), (1, 2, 40, 40, 3), minval=-1.0)
    encoder = ImageEncoder(embed_dim=16)
    apply = jax.jit(encoder.apply)
    params = jax.jit(encoder.init)(jax.random.key(0), images)
    full = apply(params, images)
    half = jax.jit(ImageEncoder(embed_dim=16, dtype=jnp.bfloat16).apply)(params, images)
    assert full.shape == half.shape == (1, 2, 16)
    assert full.dtype == half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.05)
    # Frames do not leak into each other, and different frames give different tokens.
    np.testing.assert_allclose(apply(params, images[:, ::-1])[:, ::-1], full, atol=1e-5)
    assert np.abs(full[:, 0] - full[:, 1]).max() > 1e-4


@pytest.mark.parametrize(("tokens", "rows"), [("steps", 2), ("points", 18)])
def test_state_encoder_shapes(tokens, rows):
    features = jax.random.normal(jax.random.key(0), (3, 2, 18))
    encoder = StateEncoder(rows=rows, embed_dim=16, hidden=32, tokens=tokens)
    params = encoder.init(jax.random.key(0), features)
    assert encoder.apply(params, features).shape == (3, rows, 16)


def test_state_encoder_points_move_only_their_own_token():
    features = jax.random.normal(jax.random.key(0), (1, 2, 6))
    encoder = StateEncoder(rows=6, embed_dim=8, hidden=16, tokens="points")
    params = encoder.init(jax.random.key(0), features)
    moved = features.at[0, 1, 2:4].add(1.0)  # step 1, point 1 -> token 4
    change = np.abs(encoder.apply(params, moved) - encoder.apply(params, features)).max(-1)[0]
    assert change[4] > 1e-3
    assert np.delete(change, 4).max() == 0.0


def test_state_encoder_errors_name_the_option():
    with pytest.raises(ValueError, match="state tokens 'rows'"):
        StateEncoder(rows=1, tokens="rows").init(jax.random.key(0), jnp.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="even feature size, found 3"):
        StateEncoder(rows=1, tokens="points").init(jax.random.key(0), jnp.zeros((1, 1, 3)))
