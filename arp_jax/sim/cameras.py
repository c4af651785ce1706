"""Pinhole cameras: where they are, what they see at which pixel, and a record of it.

In: a MuJoCo model and `readings` (xpos, xquat) of one environment. Out: `Camera` pytrees, pixels of
world points, world points of pixels, and JSON records for data sets and artifacts. Pure JAX.
Convention, everywhere in this project: camera axes are x right, y down, z forward; a pixel position
is (u, v) with u right, v down, (0, 0) at the picture's upper left corner, so that the centre of the
first pixel is (0.5, 0.5); depth is the z coordinate in metres, not the length of the ray.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.body_frames import (
    model_field,
    object_ids,
    points_on_bodies,
    rotations_on_bodies,
)

CONVENTION = "camera axes x right, y down, z forward; pixel centres at half-integers; depth along z"
# MuJoCo's cameras have x right, y up, z backward.
_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0]).astype(np.float32)


@struct.dataclass
class Camera:
    """A calibrated camera at one time.

    Attributes:
        position: float32 [3], world, m.
        rotation: float32 [3, 3], columns are the camera's right, down and forward in the world.
        intrinsics: float32 [3, 3], pixels.
        height, width: of the picture, pixels.
    """

    position: Array
    rotation: Array
    intrinsics: Array
    height: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)


def intrinsics(fovy: ArrayLike, height: int, width: int) -> Array:
    """Intrinsic matrix [3, 3] of a vertical field of view in degrees; square pixels, centred."""
    focal = 0.5 * height / jnp.tan(jnp.deg2rad(jnp.asarray(fovy, jnp.float32)) / 2)
    zero = jnp.zeros_like(focal)
    rows = [[focal, zero, zero + width / 2], [zero, focal, zero + height / 2]]
    return jnp.stack([*(jnp.stack(row) for row in rows), jnp.array([0.0, 0.0, 1.0])])


def camera_at(
    model: mujoco.MjModel,
    readings: Mapping[str, ArrayLike],
    name: str,
    height: int,
    width: int,
    fields: Mapping[str, ArrayLike] | None = None,
) -> Camera:
    """The model's camera `name` as `readings` have it; it may stand on a moving body.

    Args:
        readings: xpos [nbody, 3] and xquat [nbody, 4].
        fields: the episode's overrides of cam_pos, cam_quat, cam_fovy.

    Raises:
        ValueError: no such camera, or one that is not a plain perspective camera fixed to a body.
    """
    index = object_ids(model, "camera", [name])
    _check_plain(model, int(index[0]), name)
    fields = fields or {}
    body = model.cam_bodyid[index]
    position = points_on_bodies(readings, body, model_field(model, fields, "cam_pos")[index])[0]
    turned = rotations_on_bodies(readings, body, model_field(model, fields, "cam_quat")[index])[0]
    return Camera(
        position=position,
        rotation=turned * jnp.diag(_FROM_MUJOCO),
        intrinsics=intrinsics(model_field(model, fields, "cam_fovy")[index[0]], height, width),
        height=height,
        width=width,
    )


def _check_plain(model: mujoco.MjModel, index: int, name: str) -> None:
    if model.cam_mode[index] != mujoco.mjtCamLight.mjCAMLIGHT_FIXED:
        raise ValueError(
            f"camera {name!r}: only mode='fixed' has a pose of its own; change the MJCF"
        )
    if model.cam_projection[index] != mujoco.mjtProjection.mjPROJ_PERSPECTIVE:
        raise ValueError(f"camera {name!r} is orthographic; give it a fovy in the MJCF")
    if model.cam_sensorsize[index].any():
        raise ValueError(f"camera {name!r} has a sensorsize; give it a fovy in the MJCF instead")


def project(points: ArrayLike, camera: Camera) -> tuple[Array, Array]:
    """Pixels of world points.

    Args:
        points: [..., 3], m.

    Returns:
        pixels (u, v) [..., 2], beyond the picture where the point is not in view; depth [...], m.
        A point is behind the camera where depth <= 0; its pixel then means nothing (but is finite).
    """
    local = _turn(jnp.asarray(points) - camera.position, camera.rotation.T)  # [..., 3]
    depth = local[..., 2]
    safe = jnp.where(jnp.abs(depth) < 1e-6, 1e-6, depth)
    focal = jnp.stack([camera.intrinsics[0, 0], camera.intrinsics[1, 1]])
    return local[..., :2] / safe[..., None] * focal + camera.intrinsics[:2, 2], depth


def back_project(pixels: ArrayLike, depth: ArrayLike, camera: Camera) -> Array:
    """World points [..., 3] of pixels [..., 2] at a depth [...] in metres; inverse of `project`."""
    focal = jnp.stack([camera.intrinsics[0, 0], camera.intrinsics[1, 1]])
    depth = jnp.asarray(depth)[..., None]
    sideways = (jnp.asarray(pixels) - camera.intrinsics[:2, 2]) / focal * depth
    return camera.position + _turn(jnp.concatenate([sideways, depth], -1), camera.rotation)


def _turn(vectors: Array, rotation: Array) -> Array:
    """rotation @ vector for [..., 3]; written out, as GPUs multiply matrices in 10 bits."""
    return (vectors[..., None, :] * rotation).sum(-1)


def pixel_centers(height: int, width: int) -> np.ndarray:
    """(u, v) of every pixel's centre, float32 [height, width, 2]."""
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([column, row], -1).astype(np.float32) + np.float32(0.5)


def in_view(pixels: ArrayLike, depth: ArrayLike, camera: Camera) -> Array:
    """bool [...]: in front of the camera and within the picture (it may be hidden by something)."""
    pixels = jnp.asarray(pixels)
    size = np.array([camera.width, camera.height])
    return (jnp.asarray(depth) > 0) & ((pixels >= 0) & (pixels < size)).all(-1)


def project_sites(
    model: mujoco.MjModel,
    readings: Mapping[str, ArrayLike],
    sites: Sequence[str],
    camera: str,
    height: int,
    width: int,
) -> Array:
    """Pixels [S, 2] of named sites in one camera: gripper tracks for guidance tokens, for instance.

    vmap it over the steps of an episode. Raises ValueError for an unknown site or camera.
    """
    index = object_ids(model, "site", sites)
    fixed = model.site_bodyid[index], model.site_pos[index]
    return _project_fixed(readings, fixed, camera_at(model, readings, camera, height, width))


def project_joints(
    model: mujoco.MjModel,
    readings: Mapping[str, ArrayLike],
    joints: Sequence[str],
    camera: str,
    height: int,
    width: int,
) -> Array:
    """Pixels [J, 2] of the anchors of named joints in one camera; as `project_sites`."""
    index = object_ids(model, "joint", joints)
    fixed = model.jnt_bodyid[index], model.jnt_pos[index]
    return _project_fixed(readings, fixed, camera_at(model, readings, camera, height, width))


def _project_fixed(
    readings: Mapping[str, ArrayLike],
    fixed: tuple[np.ndarray, np.ndarray],
    camera: Camera,
) -> Array:
    """Pixels [N, 2] of points fixed to bodies: (bodies [N], offsets [N, 3])."""
    bodies, offsets = fixed
    points = points_on_bodies(readings, bodies, jnp.asarray(offsets, jnp.float32))
    return project(points, camera)[0]


def camera_record(camera: Camera) -> dict[str, Any]:
    """The calibration as plain JSON values, to be stored beside pictures."""
    return {
        "convention": CONVENTION,
        "height": camera.height,
        "width": camera.width,
        "intrinsics": np.asarray(camera.intrinsics).tolist(),
        "position": np.asarray(camera.position).tolist(),
        "rotation": np.asarray(camera.rotation).tolist(),
    }


def camera_from_record(record: Mapping[str, Any]) -> Camera:
    """Inverse of `camera_record`; raises ValueError for a record of another convention."""
    if record.get("convention") != CONVENTION:
        raise ValueError(
            f"camera record: expected convention {CONVENTION!r}, found {record.get('convention')!r}"
        )
    arrays = {
        key: jnp.asarray(record[key], jnp.float32) for key in ("position", "rotation", "intrinsics")
    }
    if not all(math.isfinite(x) for value in arrays.values() for x in np.ravel(value)):
        raise ValueError("camera record: position, rotation and intrinsics must be finite")
    return Camera(**arrays, height=int(record["height"]), width=int(record["width"]))
