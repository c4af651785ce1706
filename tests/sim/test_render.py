"""MuJoCo's renderer without a screen: sizes, episode fields, films, errors, a clean exit."""

import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from arp_jax.sim.render import OffscreenRenderer, film_episode
from arp_jax.sim.task import Start
from tests.sim import primitive_scene


@pytest.fixture(scope="module")
def scene():
    return primitive_scene.load()


def test_picture_and_depth_are_larger_than_the_models_buffer(scene):
    model, data = scene  # its MJCF allows 64 x 64
    with OffscreenRenderer(model, 96, 128) as renderer:
        rgb, depth = renderer.render(data.qpos, "front", depth=True)
        again = renderer.render(data.qpos, "front")
    assert (rgb.shape, rgb.dtype) == ((96, 128, 3), np.uint8)
    assert (depth.shape, depth.dtype) == ((96, 128), np.float32)
    np.testing.assert_array_equal(rgb, again)
    assert depth.min() > 0.5
    assert model.vis.global_.offwidth == 64  # the caller's model is not touched


def test_an_episodes_fields_last_for_its_pictures_only(scene):
    model, data = scene
    colors = model.geom_rgba.copy()
    colors[model.geom("floor").id] = [0, 0.5, 0, 1]
    start = Start(qpos=data.qpos, fields={"geom_rgba": colors})
    with OffscreenRenderer(model, 32, 32) as renderer:
        before = renderer.render(data.qpos, "front")
        green = renderer.render(data.qpos, "front", start)
        after = renderer.render(data.qpos, "front")
    assert green[-1, 0, 0] < 10 < green[-1, 0, 1]  # the highlight is white
    assert before[-1, 0, 0] > 30
    np.testing.assert_array_equal(before, after)


def test_shadows_are_off_unless_asked_for(scene):
    model = mujoco.MjModel.from_xml_string(
        primitive_scene.XML.replace('castshadow="false"', 'castshadow="true"')
    )
    qpos = scene[1].qpos
    pictures = {}
    for shadows in (False, True):
        with OffscreenRenderer(model, 64, 64, shadows=shadows) as renderer:
            pictures[shadows] = renderer.render(qpos, "side").astype(int)
    assert (pictures[False] - pictures[True] > 20).mean() > 0.01


def test_film_shows_cameras_side_by_side(scene):
    model, data = scene
    track = np.stack([data.qpos] * 3)
    track[2, 0] += 0.2
    film = film_episode(model, track, ["front", "side"], 32, 48, progress=False)
    assert (film.shape, film.dtype) == ((3, 32, 96, 3), np.uint8)
    np.testing.assert_array_equal(film[0], film[1])
    assert (film[1] != film[2]).any()
    with OffscreenRenderer(model, 32, 48) as renderer:
        np.testing.assert_array_equal(film[2, :, 48:], renderer.render(track[2], "side"))


def test_wrong_arguments_are_named(scene):
    model, data = scene
    with OffscreenRenderer(model, 16, 16) as renderer:
        with pytest.raises(ValueError, match=r"qpos has shape \(3,\); the model needs \(8,\)"):
            renderer.render(np.zeros(3), "front")
        with pytest.raises(ValueError, match="no camera 'roof'"):
            renderer.render(data.qpos, "roof")
        with pytest.raises(ValueError, match="no field 'geom_colour'"):
            renderer.render(
                data.qpos, "front", Start(qpos=data.qpos, fields={"geom_colour": data.qpos})
            )


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs Python in a fresh process without MUJOCO_GL, unless `environment` sets it."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


FORGOTTEN = """
import mujoco
from arp_jax.sim.render import OffscreenRenderer
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><camera name="c"/></worldbody></mujoco>')
renderer = OffscreenRenderer(model, 8, 8)
print(renderer.render([], "c").shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no choice of platform")
def test_platform_is_found_and_a_forgotten_renderer_exits_quietly():
    done = run_script(FORGOTTEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(8, 8, 3)"
    assert "Exception" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no choice of platform")
def test_without_opengl_the_error_says_what_to_install():
    # PyOpenGL told to use a platform that exists nowhere: neither EGL nor OSMesa can be loaded.
    done = run_script(FORGOTTEN, PYOPENGL_PLATFORM="nowhere")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: no OpenGL")
    assert "apt install libegl1 libgl1-mesa-dri" in last
    assert "apt install libosmesa6" in last


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no choice of platform")
def test_the_users_choice_is_kept_and_a_bad_one_is_named():
    done = run_script(FORGOTTEN, MUJOCO_GL="egl", PYOPENGL_PLATFORM="nowhere")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: no OpenGL")
    assert "MUJOCO_GL=egl" in last
