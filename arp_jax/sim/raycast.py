"""RGB-D pictures of a scene of primitive shapes by ray casting in pure JAX: any backend, jit, vmap.

In: `readings` (xpos, xquat) of one environment and an episode's model fields. Out: per camera uint8
RGB and, if asked for, depth in metres. It draws what MuJoCo's renderer draws without shadows,
textures, reflections and smoothed edges; about as fast on a CPU, needs no OpenGL and runs inside a
compiled program. Meshes and height fields are not drawn: a visible one is an error.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.body_frames import model_field, points_on_bodies, rotations_on_bodies
from arp_jax.sim.cameras import Camera, camera_at, pixel_centers
from arp_jax.sim.lighting import Light, Materials, lights_in_view, shade
from arp_jax.sim.ray_hits import ENTER, Vector, surface_normal
from arp_jax.specs import CameraSpec

Fields = Mapping[str, ArrayLike]
Readings = Mapping[str, ArrayLike]

# Groups that MuJoCo's renderer shows by default; 3 and above are for collision shapes.
VISIBLE_GROUPS = (0, 1, 2)
# Alpha from which MuJoCo draws a geom as opaque.
OPAQUE = 0.995
# A geom of exactly this color takes its material's, as in MuJoCo.
_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
# Pixels cast at a time: bounds memory when many environments are vmapped.
_TILE = 16384


@dataclasses.dataclass(frozen=True)
class VisibleGeoms:
    """Which geoms are drawn: ids ordered by kind, `kinds` [G] their mjtGeom, `opaque` bool [G]."""

    ids: np.ndarray
    kinds: np.ndarray
    opaque: np.ndarray


@struct.dataclass
class _Shapes:
    """G shapes as one camera sees them.

    Attributes:
        origin: float32 [G, 3], the camera in the shape's frame.
        turn: float32 [G, 3, 3], camera frame to shape's frame.
        size: float32 [G, 3]. rgba: float32 [G, 4].
        gloss: float32 [G, 3], emission, specular, shininess exponent.
    """

    origin: Array
    turn: Array
    size: Array
    rgba: Array
    gloss: Array


def make_ray_caster(
    model: mujoco.MjModel,
    cameras: Sequence[CameraSpec],
    depth: bool = False,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Callable[[Readings, Fields], dict[str, Array]]:
    """Builds the function that draws one environment.

    Args:
        model: may have planes, boxes, spheres, capsules, cylinders and ellipsoids; geom groups 3
            and above, and alpha 0, are invisible. Sites are never drawn.
        cameras: names of the model's cameras and sizes of their pictures.
        depth: whether to return depth, too.
        background: color where nothing is hit, in [0, 1].

    Returns:
        `cast(readings, fields)`, pure. `readings` needs xpos [nbody, 3] and xquat [nbody, 4];
        `fields` may override geom_rgba, geom_size, geom_pos, geom_quat, cam_pos, cam_quat, cam_fovy
        and the lights' pose and colors. It returns {name: uint8 [h, w, 3]} and with `depth`
        {name + "_depth": float32 [h, w]}, metres along the camera's axis; where nothing is hit, the
        model's far plane, as from MuJoCo.

    Raises:
        ValueError: a visible geom is no primitive, or a camera or light cannot be cast.
    """
    geoms = visible_geoms(model)
    near, far = (float(x) * model.stat.extent for x in (model.vis.map.znear, model.vis.map.zfar))

    def cast(readings: Readings, fields: Fields) -> dict[str, Array]:
        pictures = {}
        for spec in cameras:
            camera = camera_at(model, readings, spec.name, spec.height, spec.width, fields)
            shapes = _shapes_in_view(model, geoms, readings, fields, camera)
            lights = lights_in_view(model, readings, fields, camera)
            rgb, distance = _picture(geoms, shapes, lights, camera, (near, far), background)
            if spec.color_order == "bgr":
                rgb = rgb[..., ::-1]
            pictures[spec.name] = rgb
            if depth:
                pictures[f"{spec.name}_depth"] = distance
        return pictures

    at_rest = {"xpos": np.zeros((model.nbody, 3)), "xquat": np.eye(4)[np.zeros(model.nbody, int)]}
    jax.eval_shape(cast, at_rest, {})  # names wrong cameras and lights now, not inside a jit
    return cast


def visible_geoms(model: mujoco.MjModel) -> VisibleGeoms:
    """The geoms that pictures show; raises ValueError for one that is not a primitive shape."""
    ids = [i for i in range(model.ngeom) if model.geom_group[i] in VISIBLE_GROUPS]
    for i in ids:
        if int(model.geom_type[i]) not in ENTER:
            kind = mujoco.mjtGeom(int(model.geom_type[i])).name.removeprefix("mjGEOM_").lower()
            raise ValueError(
                f"geom {model.geom(i).name or i!r} is a {kind}: the ray caster draws primitives "
                "only; put it in group 3 or render with sim/render.py"
            )
    ids.sort(key=lambda i: model.geom_type[i])
    index = np.asarray(ids, np.int64)
    with jax.ensure_compile_time_eval():  # the caller may be inside a trace
        alpha = np.asarray(_colors(model, {}, index)[0])[:, 3]
    return VisibleGeoms(ids=index, kinds=model.geom_type[index], opaque=alpha >= OPAQUE)


def _colors(model: mujoco.MjModel, fields: Fields, ids: np.ndarray) -> tuple[Array, Array]:
    """rgba [G, 4] and (emission, specular, shininess exponent) [G, 3], materials resolved."""
    rgba = model_field(model, fields, "geom_rgba")[ids]
    plain = np.tile(np.array([0.0, 0.5, 0.5 * 128], np.float32), (len(ids), 1))
    if model.nmat == 0:
        return rgba, jnp.asarray(plain)
    material = model.geom_matid[ids]
    has = (material >= 0)[:, None]
    gloss = np.stack([model.mat_emission, model.mat_specular, 128 * model.mat_shininess], -1)
    own = (rgba != jnp.asarray(_DEFAULT_RGBA)).any(-1, keepdims=True)
    rgba = jnp.where(has & ~own, model_field(model, fields, "mat_rgba")[material], rgba)
    return rgba, jnp.asarray(np.where(has, gloss[material], plain), jnp.float32)


def _shapes_in_view(
    model: mujoco.MjModel, geoms: VisibleGeoms, readings: Readings, fields: Fields, camera: Camera
) -> _Shapes:
    ids, bodies = geoms.ids, model.geom_bodyid[geoms.ids]
    position = points_on_bodies(readings, bodies, model_field(model, fields, "geom_pos")[ids])
    matrix = rotations_on_bodies(readings, bodies, model_field(model, fields, "geom_quat")[ids])
    rgba, gloss = _colors(model, fields, ids)
    # Sums instead of matrix products, which GPUs compute in 10 bits.
    origin = ((camera.position - position)[:, :, None] * matrix).sum(1)
    turn = (matrix[:, :, :, None] * camera.rotation[None, :, None, :]).sum(1)
    size = model_field(model, fields, "geom_size")[ids]
    return _Shapes(origin=origin, turn=turn, size=size, rgba=rgba, gloss=gloss)


def _picture(
    geoms: VisibleGeoms,
    shapes: _Shapes,
    lights: tuple[Light, ...],
    camera: Camera,
    limits: tuple[float, float],
    background: tuple[float, float, float],
) -> tuple[Array, Array]:
    """RGB uint8 [h, w, 3] and depth [h, w], a tile of pixels at a time."""
    centers = pixel_centers(camera.height, camera.width).reshape(-1, 2)
    pixels = len(centers)
    # At least two tiles: the loop's end keeps XLA from computing each color once per channel.
    tiles = max(2, -(-pixels // _TILE))
    tile = -(-pixels // tiles)
    centers = np.pad(centers, ((0, tiles * tile - pixels), (0, 0)), mode="edge")

    def draw(uv: Array) -> tuple[Array, Array]:
        u, v = uv
        x = (u - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
        y = (v - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
        return _cast_rays(geoms, shapes, lights, (x, y, jnp.ones_like(x)), limits, background)

    packed, depth = jax.lax.map(draw, jnp.asarray(centers.T.reshape(2, tiles, tile).swapaxes(0, 1)))
    shape = camera.height, camera.width
    channels = jax.lax.bitcast_convert_type(packed.reshape(-1)[:pixels], jnp.uint8)  # [P, 4]
    return channels[:, :3].reshape(*shape, 3), depth.reshape(-1)[:pixels].reshape(shape)


def _cast_rays(
    geoms: VisibleGeoms,
    shapes: _Shapes,
    lights: tuple[Light, ...],
    rays: Vector,
    limits: tuple[float, float],
    background: tuple[float, float, float],
) -> tuple[Array, Array]:
    """Colors, packed in uint32 [P], and depth [P] along rays (x, y, 1) of the camera's frame."""
    near, far = limits
    start = jnp.full_like(rays[0], far), jnp.full_like(rays[0], -1, jnp.int32)
    depth, which = _nearest(geoms, shapes, np.flatnonzero(geoms.opaque), rays, near, start)
    kinds = frozenset(int(k) for k in geoms.kinds)
    surface = _surface_colors(geoms, shapes, lights, rays, depth, jnp.maximum(which, 0), kinds)
    colors = [jnp.where(which >= 0, c, b) for c, b in zip(surface, background, strict=True)]
    seen = depth
    # Few geoms are translucent; each is blended over what stands behind it, in the model's order.
    for g in np.flatnonzero(~geoms.opaque).tolist():
        begin = depth, jnp.full_like(which, -1)
        at, hit = _nearest(geoms, shapes, np.array([g]), rays, near, begin)
        layer = _surface_colors(
            geoms,
            shapes,
            lights,
            rays,
            at,
            jnp.full_like(which, g),
            frozenset({int(geoms.kinds[g])}),
        )
        # MuJoCo draws its translucent geoms twice.
        share = jnp.where(hit >= 0, 1.0 - (1.0 - shapes.rgba[g, 3]) ** 2, 0.0)
        colors = [c + share * (a - c) for c, a in zip(colors, layer, strict=True)]
        seen = jnp.minimum(seen, at)
    red, green, blue = (jnp.round(255.0 * c).astype(jnp.uint32) for c in colors)
    return red + (green << 8) + (blue << 16), seen


def _nearest(
    geoms: VisibleGeoms,
    shapes: _Shapes,
    among: np.ndarray,
    rays: Vector,
    near: float,
    start: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Depth [P] and place in `geoms` int32 [P] of the first geom of `among` that each ray enters.

    `start` is what stands behind all of them. One loop per kind of shape, so that the program does
    not grow with the scene and no [P, G] array exists.
    """

    def visit(enter: Callable[..., Array]) -> Callable[..., tuple[tuple[Array, Array], None]]:
        def body(
            best: tuple[Array, Array], geom: tuple[Array, Array, Array, Array, Array]
        ) -> tuple[tuple[Array, Array], None]:
            origin, turn, size, visible, place = geom
            t = enter(tuple(origin), _turned(turn, rays), size)
            closer = (t > near) & (t < best[0]) & visible
            return (jnp.where(closer, t, best[0]), jnp.where(closer, place, best[1])), None

        return body

    best = start
    for kind in sorted({int(k) for k in geoms.kinds[among]}):
        index = among[geoms.kinds[among] == kind]
        if len(index) == 1:  # visited twice: a loop of one turn is inlined, and XLA's fusion then
            index = np.repeat(index, 2)  # computes it once per use: 7 times slower on a CPU
        table = (
            shapes.origin[index],
            shapes.turn[index],
            shapes.size[index],
            shapes.rgba[index, 3] > 0,
            jnp.asarray(index, jnp.int32),
        )
        best, _ = jax.lax.scan(visit(ENTER[kind]), best, table)
    return best


def _turned(turn: Array, rays: Vector) -> Vector:
    """Directions of the camera's frame in a shape's frame; turn [3, 3] or [P, 3, 3]."""
    x, y, z = (
        turn[..., k, 0] * rays[0] + turn[..., k, 1] * rays[1] + turn[..., k, 2] * rays[2]
        for k in range(3)
    )
    return x, y, z


def _surface_colors(
    geoms: VisibleGeoms,
    shapes: _Shapes,
    lights: tuple[Light, ...],
    rays: Vector,
    depth: Array,
    which: Array,
    kinds: frozenset[int],
) -> Vector:
    """Shaded colors (r, g, b), each [P], of geom `which` [P] at `depth` [P] along the rays."""
    turn, origin, size = shapes.turn[which], shapes.origin[which], shapes.size[which]
    rgba, gloss = shapes.rgba[which], shapes.gloss[which]
    point = (rays[0] * depth, rays[1] * depth, rays[2] * depth)
    inside = _turned(turn, point)
    local = (inside[0] + origin[:, 0], inside[1] + origin[:, 1], inside[2] + origin[:, 2])
    kind = jnp.asarray(geoms.kinds, jnp.int32)[which]
    normal = surface_normal(kind, local, (size[:, 0], size[:, 1], size[:, 2]), kinds)
    back = _turned(jnp.swapaxes(turn, -1, -2), normal)
    look = Materials(
        rgb=(rgba[:, 0], rgba[:, 1], rgba[:, 2]),
        emission=gloss[:, 0],
        specular=gloss[:, 1],
        shininess=gloss[:, 2],
    )
    return shade(lights, point, back, look)
