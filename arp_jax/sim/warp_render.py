"""Pictures of many environments at once by MuJoCo Warp, the extra `arp_jax[warp]`.

In: `readings` (xpos, xquat) and model fields of E environments. Out: the same pictures as
`raycast.py` gives for one. It draws meshes, too, and runs on NVIDIA GPUs (and on CPUs, slowly). The
number of environments is fixed when the renderer is made, and it is called on the whole batch: no
vmap around it. Each renderer keeps its buffers until the process ends: make few.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from jax import Array
from jax.typing import ArrayLike
from mujoco import mjx

from arp_jax.sim import rotations
from arp_jax.sim.body_frames import model_field, object_ids, points_on_bodies, rotations_on_bodies
from arp_jax.sim.raycast import VISIBLE_GROUPS
from arp_jax.specs import CameraSpec

Fields = Mapping[str, ArrayLike]
Readings = Mapping[str, ArrayLike]

# Model fields that may differ between environments, besides those of poses.
_LOOKS = (
    "geom_rgba",
    "geom_size",
    "mat_rgba",
    "light_ambient",
    "light_diffuse",
    "light_specular",
    "light_attenuation",
    "light_cutoff",
    "light_exponent",
)


# A program that is still running may outlive the function that started it, and crashes when its
# context is gone. A process makes few renderers; their buffers are kept.
_LIVING: list[Any] = []


def warp_is_installed() -> bool:
    """Whether MJX can use Warp here."""
    import mujoco.mjx.warp as mjx_warp

    return bool(mjx_warp.WARP_INSTALLED)


def make_warp_renderer(
    model: mujoco.MjModel,
    cameras: Sequence[CameraSpec],
    worlds: int,
    depth: bool = False,
) -> Callable[[Readings, Fields], dict[str, Array]]:
    """Builds the function that draws `worlds` environments.

    Args:
        model: geom groups 3 and above are invisible; the background is black.
        cameras: names of the model's cameras and sizes of their pictures.
        worlds: E.
        depth: whether to return depth, too.

    Returns:
        `draw(readings, fields)`, which may be jitted but not vmapped. `readings` needs xpos
        [E, nbody, 3] and xquat [E, nbody, 4]; `fields` may hold what the ray caster's may except
        cam_fovy, each [E, ...]. It returns {name: uint8 [E, h, w, 3]} and with `depth` {name +
        "_depth": float32 [E, h, w]}, metres along the camera's axis, the model's far plane where
        nothing is.

    Raises:
        ImportError: Warp is not installed.
        ValueError: no such camera; when called: cam_fovy among the fields.
    """
    if not warp_is_installed():
        raise ImportError("batched rendering needs Warp; pip install 'arp_jax[warp]'")
    object_ids(model, "camera", [spec.name for spec in cameras])
    # The context orders cameras as the model does.
    ordered = sorted(cameras, key=lambda spec: model.camera(spec.name).id)
    context = mjx.create_render_context(
        model,
        nworld=worlds,
        cam_res=[(spec.width, spec.height) for spec in ordered],
        cam_active=[spec.name for spec in ordered],
        render_rgb=True,
        render_depth=depth,
        enabled_geom_groups=list(VISIBLE_GROUPS),
    )
    _LIVING.append(context)
    device_model, blank = _put(model, worlds)
    far = float(model.vis.map.zfar * model.stat.extent)

    def draw(readings: Readings, fields: Fields) -> dict[str, Array]:
        handle = context.pytree()
        data = _place(model, blank, readings, fields)
        varied = _vary(device_model, fields)
        data = mjx.refit_bvh(varied, data, handle)
        rgb, distance, _ = mjx.render(varied, data, handle)
        pictures = {}
        for index, spec in enumerate(ordered):
            color = jnp.round(255.0 * mjx.get_rgb(handle, index, rgb)).astype(jnp.uint8)
            pictures[spec.name] = color[..., ::-1] if spec.color_order == "bgr" else color
            if depth:
                z = mjx.get_depth(handle, index, distance, far)[..., 0] * far
                pictures[f"{spec.name}_depth"] = jnp.where(z > 0, z, far)
        return pictures

    return draw


def _put(model: mujoco.MjModel, worlds: int) -> tuple[Any, Any]:
    """The model on the device, and data of `worlds` worlds in which nothing has been computed."""
    # Warp refuses some physics options, which no picture depends on.
    model = copy.copy(model)
    model.opt.disableflags = 0
    with jax.ensure_compile_time_eval():
        # vmap knows which of Warp's arrays all worlds share.
        blank = jax.vmap(lambda _: mjx.make_data(model, impl="warp", naconmax=worlds, njmax=1))(
            jnp.arange(worlds)
        )
        return mjx.put_model(model, impl="warp"), blank


def _place(model: mujoco.MjModel, data: Any, readings: Readings, fields: Fields) -> Any:
    """Data whose geoms, cameras and lights stand where the readings say."""

    def poses(one: Readings, own: Fields) -> dict[str, Array]:
        def value(name: str) -> Array:
            return model_field(model, own, name)

        turned = jnp.asarray(one["xquat"], jnp.float32)[model.light_bodyid]
        return {
            "geom_xpos": points_on_bodies(one, model.geom_bodyid, value("geom_pos")),
            "geom_xmat": rotations_on_bodies(one, model.geom_bodyid, value("geom_quat")),
            "cam_xpos": points_on_bodies(one, model.cam_bodyid, value("cam_pos")),
            "cam_xmat": rotations_on_bodies(one, model.cam_bodyid, value("cam_quat")),
            "light_xpos": points_on_bodies(one, model.light_bodyid, value("light_pos")),
            "light_xdir": rotations.rotate(turned, value("light_dir")),
        }

    used = {name: jnp.asarray(readings[name]) for name in ("xpos", "xquat")}
    placed = jax.vmap(poses)(used, {name: jnp.asarray(fields[name]) for name in fields})
    lights = {f"_impl.{name}": placed.pop(name) for name in ("light_xpos", "light_xdir")}
    return data.tree_replace({**placed, **lights})


def _vary(device_model: Any, fields: Fields) -> Any:
    """The model with the looks that each environment has for itself."""
    if "cam_fovy" in fields:
        raise ValueError("field 'cam_fovy' cannot vary in Warp pictures; use sim/raycast.py")
    looks = {name: jnp.asarray(fields[name], jnp.float32) for name in _LOOKS if name in fields}
    return device_model.replace(**looks)
