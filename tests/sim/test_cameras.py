"""Cameras: poses, projection both ways, agreement with MuJoCo, records."""

import json

import jax
import numpy as np
import pytest

from arp_jax.sim import cameras
from tests.sim import primitive_scene

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def scene():
    return primitive_scene.load()


@pytest.mark.parametrize("name", primitive_scene.CAMERAS)
def test_pose_is_mujocos(scene, name):
    model, data = scene
    camera = cameras.camera_at(model, primitive_scene.readings(data), name, HEIGHT, WIDTH)
    matrix = data.camera(name).xmat.reshape(3, 3)
    np.testing.assert_allclose(camera.position, data.camera(name).xpos, atol=1e-6)
    # MuJoCo's camera looks along -z with y up.
    np.testing.assert_allclose(camera.rotation, matrix * [1, -1, -1], atol=1e-6)


def test_center_of_view_is_center_of_picture(scene):
    model, data = scene
    camera = cameras.camera_at(model, primitive_scene.readings(data), "side", HEIGHT, WIDTH)
    ahead = camera.position + 0.7 * camera.rotation[:, 2]
    pixels, depth = cameras.project(ahead, camera)
    np.testing.assert_allclose(pixels, [WIDTH / 2, HEIGHT / 2], atol=1e-3)
    assert depth == pytest.approx(0.7, abs=1e-6)
    # A point at the upper edge of the field of view: v = 0, and half of fovy up.
    up = np.tan(np.deg2rad(60) / 2) * 0.7
    pixels, _ = cameras.project(ahead - up * camera.rotation[:, 1], camera)
    np.testing.assert_allclose(pixels, [WIDTH / 2, 0.0], atol=1e-3)


def test_back_projection_inverts_projection(scene):
    model, data = scene
    camera = cameras.camera_at(model, primitive_scene.readings(data), "front", HEIGHT, WIDTH)
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (5, 7, 3)).astype(np.float32)
    pixels, depth = cameras.project(points, camera)
    assert pixels.shape == (5, 7, 2)
    np.testing.assert_allclose(cameras.back_project(pixels, depth, camera), points, atol=1e-5)


def test_behind_the_camera_is_not_in_view(scene):
    model, data = scene
    camera = cameras.camera_at(model, primitive_scene.readings(data), "front", HEIGHT, WIDTH)
    points = np.stack([camera.position + s * np.asarray(camera.rotation[:, 2]) for s in (1, -1, 0)])
    pixels, depth = cameras.project(points, camera)
    assert np.isfinite(pixels).all()
    np.testing.assert_array_equal(cameras.in_view(pixels, depth, camera), [True, False, False])


def test_sites_and_joints_agree_with_mujoco(scene):
    model, data = scene
    readings = primitive_scene.readings(data)
    camera = cameras.camera_at(model, readings, "front", HEIGHT, WIDTH)
    for pixels, point in (
        (
            cameras.project_sites(model, readings, ["tip"], "front", HEIGHT, WIDTH),
            data.site("tip").xpos,
        ),
        (
            cameras.project_joints(model, readings, ["turn"], "front", HEIGHT, WIDTH),
            data.joint("turn").xanchor,
        ),
    ):
        assert pixels.shape == (1, 2)
        np.testing.assert_allclose(pixels[0], cameras.project(point, camera)[0], atol=1e-3)


def test_tracks_of_an_episode_by_vmap(scene):
    model, data = scene
    readings = primitive_scene.readings(data)
    many = jax.tree.map(lambda x: np.stack([x, x, x]), readings)
    tracks = jax.vmap(lambda r: cameras.project_sites(model, r, ["tip"], "side", HEIGHT, WIDTH))(
        many
    )
    assert tracks.shape == (3, 1, 2)
    single = cameras.project_sites(model, readings, ["tip"], "side", HEIGHT, WIDTH)
    np.testing.assert_allclose(tracks[2], single, atol=1e-4)


def test_an_episodes_fields_move_the_camera(scene):
    model, data = scene
    readings = primitive_scene.readings(data)
    moved = model.cam_pos + np.array([0.0, 0.0, 0.5])
    fields = {"cam_pos": moved, "cam_fovy": np.full(model.ncam, 90.0)}
    camera = cameras.camera_at(model, readings, "front", HEIGHT, WIDTH, fields)
    assert camera.position[2] == pytest.approx(1.3, abs=1e-6)
    assert camera.intrinsics[0, 0] == pytest.approx(HEIGHT / 2, rel=1e-5)


def test_record_survives_json(scene):
    model, data = scene
    camera = cameras.camera_at(model, primitive_scene.readings(data), "front", HEIGHT, WIDTH)
    record = json.loads(json.dumps(cameras.camera_record(camera)))
    again = cameras.camera_from_record(record)
    assert (again.height, again.width) == (HEIGHT, WIDTH)
    for name in ("position", "rotation", "intrinsics"):
        np.testing.assert_array_equal(getattr(again, name), getattr(camera, name))
    with pytest.raises(ValueError, match="convention"):
        cameras.camera_from_record({**record, "convention": "y up"})


def test_unknown_names_are_listed(scene):
    model, data = scene
    readings = primitive_scene.readings(data)
    with pytest.raises(ValueError, match=r"no camera 'top'.*front"):
        cameras.camera_at(model, readings, "top", HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"no site 'hand'.*tip"):
        cameras.project_sites(model, readings, ["hand"], "front", HEIGHT, WIDTH)
