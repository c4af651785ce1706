"""The light of MuJoCo's pictures without shadows: headlight and lights, per pixel. Pure JAX.

In: points, normals and materials of P pixels in the camera's frame (x right, y down, z forward),
and the model's lights. Out: colors in [0, 1]. The formulas are OpenGL's fixed-function ones, which
MuJoCo's renderer uses per vertex; here they hold at every pixel: a large face under a spot light
differs, as MuJoCo has few vertices there. No textures, reflections or shadows.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import rotations
from arp_jax.sim.body_frames import model_field, points_on_bodies
from arp_jax.sim.cameras import Camera
from arp_jax.sim.ray_hits import Vector, dot, unit

# Without any light MuJoCo gives every material this much.
_AMBIENT_IN_THE_DARK = 0.3
# A cutoff of 180 degrees means a lamp that shines everywhere.
_EVERYWHERE = 179.9


@struct.dataclass
class Light:
    """One light in the camera's frame.

    Attributes:
        position, direction: float32 [3]; the direction is the one that its light travels in.
        ambient, diffuse, specular: float32 [3].
        attenuation: float32 [3], of 1, distance, distance^2.
        cutoff: float32 [], degrees. exponent: float32 [].
        directional: parallel light, without a position.
    """

    position: Array
    direction: Array
    ambient: Array
    diffuse: Array
    specular: Array
    attenuation: Array
    cutoff: Array
    exponent: Array
    directional: bool = struct.field(pytree_node=False)


@struct.dataclass
class Materials:
    """What P pixels show: rgb three [P]; emission, specular, shininess [P]."""

    rgb: Vector
    emission: Array
    specular: Array
    shininess: Array


def lights_in_view(
    model: mujoco.MjModel,
    readings: Mapping[str, ArrayLike],
    fields: Mapping[str, ArrayLike],
    camera: Camera,
) -> tuple[Light, ...]:
    """The headlight and the model's active lights.

    `fields` may override light_pos, light_dir, light_diffuse, light_ambient, light_specular. Raises
    ValueError for a light that follows something other than its own body.
    """
    lights = [_headlight(model)] if model.vis.headlight.active else []
    active = [i for i in range(model.nlight) if model.light_active[i]]
    for i in active:
        if model.light_mode[i] != mujoco.mjtCamLight.mjCAMLIGHT_FIXED:
            raise ValueError(f"light {model.light(i).name or i!r}: only mode='fixed' can be cast")
    if active:
        lights += _model_lights(model, readings, fields, camera, np.asarray(active))
    return tuple(lights)


def _headlight(model: mujoco.MjModel) -> Light:
    """Parallel light from the camera."""
    head = model.vis.headlight
    colors = (jnp.asarray(c, jnp.float32) for c in (head.ambient, head.diffuse, head.specular))
    ambient, diffuse, specular = colors
    return Light(
        position=jnp.zeros(3),
        direction=jnp.array([0.0, 0.0, 1.0]),
        ambient=ambient,
        diffuse=diffuse,
        specular=specular,
        attenuation=jnp.array([1.0, 0.0, 0.0]),
        cutoff=jnp.asarray(180.0),
        exponent=jnp.asarray(0.0),
        directional=True,
    )


def _model_lights(
    model: mujoco.MjModel,
    readings: Mapping[str, ArrayLike],
    fields: Mapping[str, ArrayLike],
    camera: Camera,
    index: np.ndarray,
) -> list[Light]:
    def value(name: str) -> Array:
        return model_field(model, fields, name)[index]

    bodies = model.light_bodyid[index]
    position = points_on_bodies(readings, bodies, value("light_pos")) - camera.position
    quats = jnp.asarray(readings["xquat"], jnp.float32)[bodies]
    direction = rotations.rotate(quats, value("light_dir"))
    # World to camera, written out: GPUs multiply matrices in 10 bits.
    position, direction = (
        (v[:, :, None] * camera.rotation).sum(1) for v in (position, direction)
    )  # [L, 3]
    color = {name: value(f"light_{name}") for name in ("ambient", "diffuse", "specular")}
    attenuation, cutoff, exponent = (
        value(f"light_{name}") for name in ("attenuation", "cutoff", "exponent")
    )
    return [
        Light(
            position=position[k],
            direction=direction[k],
            **{name: rows[k] for name, rows in color.items()},
            attenuation=attenuation[k],
            cutoff=cutoff[k],
            exponent=exponent[k],
            directional=bool(model.light_type[i] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL),
        )
        for k, i in enumerate(index)
    ]


def shade(lights: tuple[Light, ...], point: Vector, normal: Vector, look: Materials) -> Vector:
    """Colors (r, g, b), each [P] in [0, 1], of surface points seen from the origin."""
    glow = look.emission + (0.0 if lights else _AMBIENT_IN_THE_DARK)
    totals = [color * glow for color in look.rgb]
    view = unit((-point[0], -point[1], -point[2]))
    for light in lights:
        strength, towards = _arriving(light, point)
        lambert = jnp.maximum(dot(normal, towards), 0.0)
        half = unit((towards[0] + view[0], towards[1] + view[1], towards[2] + view[2]))
        facing = jnp.maximum(dot(normal, half), 0.0)
        # pow(0, 0) is 1 in OpenGL and here; unlit sides have no highlight.
        shine = look.specular * jnp.where(lambert > 0, facing**look.shininess, 0.0)
        for k in range(3):
            lit = light.ambient[k] + light.diffuse[k] * lambert
            totals[k] += strength * (look.rgb[k] * lit + light.specular[k] * shine)
    r, g, b = (jnp.clip(total, 0.0, 1.0) for total in totals)
    return r, g, b


def _arriving(light: Light, point: Vector) -> tuple[Array, Vector]:
    """Strength [P] of a light at points, and the unit vectors towards it."""
    d = light.direction[0], light.direction[1], light.direction[2]
    if light.directional:
        ones = jnp.ones_like(point[0])
        return ones, (-d[0] * ones, -d[1] * ones, -d[2] * ones)
    x, y, z = (light.position[k] - point[k] for k in range(3))
    away = x, y, z
    distance = jnp.sqrt(dot(away, away))
    towards = unit(away)
    c, b, a = light.attenuation
    fading = 1.0 / jnp.maximum(c + b * distance + a * distance * distance, 1e-6)
    cosine = -dot(towards, d)
    inside = cosine >= jnp.cos(jnp.deg2rad(light.cutoff))
    spot = jnp.where(inside, jnp.maximum(cosine, 0.0) ** light.exponent, 0.0)
    return fading * jnp.where(light.cutoff > _EVERYWHERE, 1.0, spot), towards
