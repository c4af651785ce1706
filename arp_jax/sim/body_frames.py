"""What is fixed to a body, in world coordinates: cameras, lights, geoms, sites, joint anchors.

In: `readings` of one environment (`xpos`, `xquat`) and the model, whose constants an episode may
override by name (`Start.fields`). Out: world points and rotations, pure JAX. Only body poses are
read, so that every picture needs the same two readings in every engine. No kinematics here.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import rotations

# Readings that pictures and projections need.
POSE_READINGS = ("xpos", "xquat")

# kind -> MuJoCo's type, the model's accessor of one, and the name of their number.
_KINDS = {
    "body": (mujoco.mjtObj.mjOBJ_BODY, "body", "nbody"),
    "camera": (mujoco.mjtObj.mjOBJ_CAMERA, "cam", "ncam"),
    "geom": (mujoco.mjtObj.mjOBJ_GEOM, "geom", "ngeom"),
    "joint": (mujoco.mjtObj.mjOBJ_JOINT, "jnt", "njnt"),
    "site": (mujoco.mjtObj.mjOBJ_SITE, "site", "nsite"),
}


def model_field(model: mujoco.MjModel, fields: Mapping[str, ArrayLike], name: str) -> Array:
    """The episode's value of a float field of the model, float32; the model's own when absent."""
    value = fields[name] if name in fields else getattr(model, name)
    return jnp.asarray(value, jnp.float32)


def object_ids(model: mujoco.MjModel, kind: str, names: Sequence[str]) -> np.ndarray:
    """Ids [N] int of named objects; raises ValueError naming an absent one.

    Args:
        kind: "body", "camera", "geom", "joint" or "site".
    """
    number, accessor, count = _KINDS[kind]
    ids = [mujoco.mj_name2id(model, number, name) for name in names]
    if -1 in ids:
        known = [getattr(model, accessor)(i).name for i in range(getattr(model, count))]
        raise ValueError(f"the model has no {kind} {names[ids.index(-1)]!r}; there are {known}")
    return np.asarray(ids, np.int64)


def points_on_bodies(
    readings: Mapping[str, ArrayLike], bodies: np.ndarray, offsets: ArrayLike
) -> Array:
    """World positions [N, 3] of points given in their bodies' frames.

    Args:
        readings: with xpos [nbody, 3] and xquat [nbody, 4].
        bodies: int [N]. offsets: [N, 3], m.
    """
    xpos, xquat = (jnp.asarray(readings[name], jnp.float32) for name in POSE_READINGS)
    return xpos[bodies] + rotations.rotate(xquat[bodies], offsets)


def rotations_on_bodies(
    readings: Mapping[str, ArrayLike], bodies: np.ndarray, quats: ArrayLike
) -> Array:
    """World rotations [N, 3, 3] of frames turned by `quats` [N, 4] in their bodies' frames."""
    xquat = jnp.asarray(readings["xquat"], jnp.float32)
    # Randomised quaternions need not be normalised; MuJoCo normalises them too.
    return rotations.to_matrix(rotations.normalize(rotations.multiply(xquat[bodies], quats)))
