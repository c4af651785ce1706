"""MuJoCo Warp's pictures against the ray caster's; on a CPU where there is no GPU."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.raycast import make_ray_caster
from arp_jax.sim.warp_render import make_warp_renderer, warp_is_installed
from arp_jax.specs import CameraSpec
from tests.sim import primitive_scene

CAMERAS = (CameraSpec("on_block", 48, 64), CameraSpec("front", 48, 64))
WORLDS = 3


@pytest.mark.skipif(warp_is_installed(), reason="Warp is installed")
def test_without_warp_the_error_names_the_extra():
    model, _ = primitive_scene.load()
    with pytest.raises(ImportError, match=r"pip install 'arp_jax\[warp\]'"):
        make_warp_renderer(model, CAMERAS, WORLDS)


@pytest.mark.slow
@pytest.mark.skipif(not warp_is_installed(), reason="needs the extra arp_jax[warp]")
def test_pictures_are_the_ray_casters():
    model, data = primitive_scene.load()
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # Warp's physics refuses it
    readings = primitive_scene.readings(data)
    many = jax.tree.map(lambda x: jnp.stack([x] * WORLDS), readings)
    many["xpos"] = many["xpos"].at[2, model.body("block").id, 0].add(0.1)
    colors = np.stack([model.geom_rgba] * WORLDS).astype(np.float32)
    colors[1, model.geom("floor").id] = [0, 0.5, 0, 1]
    fields = {"geom_rgba": colors}
    drawn = jax.jit(make_warp_renderer(model, CAMERAS, WORLDS, depth=True))(many, fields)
    cast = jax.jit(jax.vmap(make_ray_caster(model, CAMERAS, depth=True)))(many, fields)
    assert set(drawn) == set(cast)
    for name in ("front", "on_block"):
        assert drawn[name].shape == (WORLDS, 48, 64, 3)
        assert drawn[name].dtype == jnp.uint8
        difference = np.abs(np.asarray(drawn[name], int) - np.asarray(cast[name], int))
        assert difference.mean((1, 2, 3)).max() < 1.5
        error = np.abs(np.asarray(drawn[f"{name}_depth"]) - np.asarray(cast[f"{name}_depth"]))
        assert np.median(error) < 1e-6
        assert (error > 1e-3).mean() < 1e-3
