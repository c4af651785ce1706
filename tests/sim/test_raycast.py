"""The ray caster against MuJoCo: its rays (exact) and its renderer (tessellated, anti-aliased)."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim import cameras
from arp_jax.sim.lighting import Light, Materials, shade
from arp_jax.sim.raycast import make_ray_caster
from arp_jax.sim.render import OffscreenRenderer
from arp_jax.specs import CameraSpec
from tests.sim import primitive_scene

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def scene():
    return primitive_scene.load()


@pytest.fixture(scope="module")
def cast(scene):
    specs = [CameraSpec(name, HEIGHT, WIDTH) for name in ("front", "on_block")]
    return jax.jit(make_ray_caster(scene[0], specs, depth=True))


@pytest.fixture(scope="module")
def pictures(scene, cast):
    return jax.tree.map(np.asarray, cast(primitive_scene.readings(scene[1]), {}))


def exact_depth(model, data, name):
    """z depth of every pixel's centre by mj_ray, the far plane where nothing is hit."""
    camera = cameras.camera_at(model, primitive_scene.readings(data), name, HEIGHT, WIDTH)
    centers = cameras.pixel_centers(HEIGHT, WIDTH).reshape(-1, 2)
    position = np.asarray(camera.position, np.float64)
    ends = np.asarray(cameras.back_project(centers, np.ones(len(centers)), camera), np.float64)
    shown = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    found, which = np.empty(len(ends)), np.zeros(1, np.int32)
    for k, direction in enumerate(ends - position):
        found[k] = mujoco.mj_ray(model, data, position, direction, shown, 1, -1, which, None)
    far = model.vis.map.zfar * model.stat.extent
    # mj_ray counts in lengths of the direction given, whose z component is 1.
    return np.where((found < 0) | (found > far), far, found).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["front", "on_block"])
def test_depth_is_that_of_mujocos_rays(scene, pictures, name):
    error = np.abs(pictures[f"{name}_depth"] - exact_depth(*scene, name))
    assert np.median(error) < 1e-6
    # A ray that grazes an edge may hit in one precision and miss in the other.
    assert (error > 1e-4).mean() < 1e-3


@pytest.mark.parametrize("name", ["front", "on_block"])
def test_pictures_are_those_of_mujocos_renderer(scene, pictures, name):
    model, data = scene
    with OffscreenRenderer(model, HEIGHT, WIDTH) as renderer:
        rgb, depth = renderer.render(data.qpos, name, depth=True)
    error = np.abs(pictures[f"{name}_depth"] - depth)
    assert np.median(error) < 1e-5
    assert (error > 2e-3).mean() < 0.01  # MuJoCo's round shapes are polyhedra
    difference = np.abs(pictures[name].astype(int) - rgb.astype(int))
    assert difference.mean() < 3.5
    assert np.median(difference) <= 1
    assert (difference.max(-1) > 24).mean() < 0.03  # edges, which MuJoCo smooths


def test_every_shape_is_seen(pictures):
    r, g, b = np.moveaxis(pictures["front"].astype(int), -1, 0)
    seen = {
        "block": (r > 100) & (g < 90) & (b < 90),
        "ball": (g > 100) & (r < 90) & (b < 90),
        "rod": (b > 100) & (r < 90) & (g < 90),
        "can": (r > 100) & (g > 100) & (b < 90),
        "egg": (r > 100) & (b > 100) & (g < 90),
    }
    assert {name for name, where in seen.items() if where.sum() > 20} == set(seen)


def test_many_environments_with_colors_of_their_own(scene, pictures):
    model, data = scene
    readings = primitive_scene.readings(data)
    many = jax.tree.map(lambda x: np.stack([x, x, x]), readings)
    colors = np.stack([model.geom_rgba] * 3).astype(np.float32)
    floor = model.geom("floor").id
    colors[1, floor] = [0, 0.2, 0, 1]
    colors[2, floor] = 0  # invisible
    cast = make_ray_caster(model, [CameraSpec("front", HEIGHT, WIDTH)], depth=True)
    out = jax.tree.map(np.asarray, jax.jit(jax.vmap(cast))(many, {"geom_rgba": colors}))
    assert out["front"].shape == (3, HEIGHT, WIDTH, 3)
    assert out["front"].dtype == np.uint8
    # Compiled differently, a color may round to its neighbour.
    assert np.abs(out["front"][0].astype(int) - pictures["front"].astype(int)).max() <= 1
    corner = out["front"][:, -1, 0].astype(int)
    assert corner[1, 1] > 0
    assert corner[1, 0] < corner[0, 0]
    np.testing.assert_array_equal(corner[2], 0)
    far = model.vis.map.zfar * model.stat.extent
    assert out["front_depth"][2, -1, 0] == pytest.approx(far, rel=1e-6)


def test_a_mesh_is_refused():
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
        <worldbody><camera name="c"/><geom name="tooth" type="mesh" mesh="m"/></worldbody>
        </mujoco>"""
    )
    with pytest.raises(ValueError, match="'tooth' is a mesh"):
        make_ray_caster(model, [CameraSpec("c", 8, 8)])


def test_unknown_camera_is_refused_at_once(scene):
    with pytest.raises(ValueError, match="no camera 'roof'"):
        make_ray_caster(scene[0], [CameraSpec("roof", 8, 8)])


def test_spot_light_fades_and_ends():
    light = Light(
        position=jnp.array([0.0, 0.0, 0.0]),
        direction=jnp.array([0.0, 0.0, 1.0]),
        ambient=jnp.zeros(3),
        diffuse=jnp.ones(3),
        specular=jnp.zeros(3),
        attenuation=jnp.array([0.0, 0.0, 1.0]),
        cutoff=jnp.asarray(30.0),
        exponent=jnp.asarray(2.0),
        directional=False,
    )
    angles = np.deg2rad([0.0, 20.0, 31.0])
    depth = np.full(3, 2.0)
    point = (jnp.asarray(2 * np.tan(angles)), jnp.zeros(3), jnp.asarray(depth))
    ones, zero = jnp.ones(3), jnp.zeros(3)
    look = Materials(rgb=(ones, ones, ones), emission=zero, specular=zero, shininess=zero)
    red, _, _ = shade((light,), point, (zero, zero, -ones), look)
    distance = depth / np.cos(angles)
    expected = np.cos(angles) ** 2 * np.cos(angles) / distance**2 * [1, 1, 0]
    np.testing.assert_allclose(red, expected, atol=1e-6)
