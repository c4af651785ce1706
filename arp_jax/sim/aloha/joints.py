"""ALOHA's joint vectors: seven numbers an arm, six angles and a normalised gripper.

In: actions or MuJoCo positions of one or two arms. Out: servo commands, observations, and the specs
of both. The gripper is the left finger's position, 0 = closed (18.44 mm) and 1 = open (58 mm): the
published normalisation, a little wider than the travel. Arms follow each other, left first.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.aloha import viperx
from arp_jax.sim.aloha.scene import CONTROL_HZ
from arp_jax.sim.free_bodies import pose_spec
from arp_jax.sim.task import Memory, Readings
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec

GRIPPER_OPEN, GRIPPER_CLOSED = 0.058, 0.01844  # m

# waist ... wrist_rotate (rad), left finger, right finger (m): nearly closed.
START_JOINTS = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.02239, -0.02239)

IMAGE_HEIGHT, IMAGE_WIDTH = 480, 640

_ANGLES = len(viperx.ARM_JOINTS)
_PER_ARM = _ANGLES + 1
_QPOS_PER_ARM = _ANGLES + 2
_ANGLE_LIMITS = np.array([part.limits for part in viperx.PARTS if part.joint and not part.slide])


def normalize_gripper(position: ArrayLike) -> Array:
    """Left finger's position (m) -> 0 closed ... 1 open."""
    return (jnp.asarray(position) - GRIPPER_CLOSED) / (GRIPPER_OPEN - GRIPPER_CLOSED)


def unnormalize_gripper(opening: ArrayLike) -> Array:
    """0 closed ... 1 open -> left finger's position (m)."""
    return jnp.asarray(opening) * (GRIPPER_OPEN - GRIPPER_CLOSED) + GRIPPER_CLOSED


def control(action: Array, readings: Readings, memory: Memory) -> Array:
    """Joint targets: action [7 * arms] -> ctrl [1, 8 * arms]; the right finger mirrors the left."""
    del readings, memory
    arms = action.reshape(-1, _PER_ARM)
    finger = unnormalize_gripper(arms[:, _ANGLES:])
    return jnp.concatenate([arms[:, :_ANGLES], finger, -finger], -1).reshape(1, -1)


def positions(qpos: Array, arms: int) -> Array:
    """qpos [nq] -> angles and normalised grippers [7 * arms]."""
    values = qpos[: _QPOS_PER_ARM * arms].reshape(arms, _QPOS_PER_ARM)
    gripper = normalize_gripper(values[:, _ANGLES : _ANGLES + 1])
    return jnp.concatenate([values[:, :_ANGLES], gripper], -1).reshape(-1)


def velocities(qvel: Array, arms: int) -> Array:
    """qvel [nv] -> rad/s and gripper openings per second [7 * arms]."""
    values = qvel[: _QPOS_PER_ARM * arms].reshape(arms, _QPOS_PER_ARM)
    gripper = values[:, _ANGLES : _ANGLES + 1] / (GRIPPER_OPEN - GRIPPER_CLOSED)
    return jnp.concatenate([values[:, :_ANGLES], gripper], -1).reshape(-1)


def observe(readings: Readings, sides: Sequence[str], objects: dict[str, Any]) -> dict[str, Array]:
    """ "state", "velocity" and the pose of every object.

    Args:
        readings: with qpos and qvel.
        sides: the arms.
        objects: feature name -> place of the object's seven numbers in qpos.
    """
    qpos = readings["qpos"]
    features = {
        "state": positions(qpos, len(sides)),
        "velocity": velocities(readings["qvel"], len(sides)),
    }
    return features | {name: qpos[place : place + 7] for name, place in objects.items()}


def action_spec(sides: Sequence[str]) -> ActionSpec:
    """Absolute joint positions (rad) and gripper openings (0 ... 1) at 50 Hz."""
    low, high = _limits(len(sides))
    dims = _dims(sides)
    return ActionSpec(
        dims=dims,
        unit="rad",
        frame="joint",
        absolute=(True,) * len(dims),
        low=low,
        high=high,
        rate_hz=CONTROL_HZ,
        gripper="open=1",
    )


def feature_specs(sides: Sequence[str], objects: Sequence[str]) -> tuple[FeatureSpec, ...]:
    """Specs of what `observe` returns."""
    low, high = _limits(len(sides))
    return (
        FeatureSpec("state", _dims(sides), "rad, gripper 0..1", "joint", low, high),
        FeatureSpec("velocity", _dims(sides), "rad/s, gripper 1/s", "joint"),
        *(pose_spec(name) for name in objects),
    )


def camera_specs(sides: Sequence[str]) -> tuple[CameraSpec, ...]:
    """The cameras of `scene.table_scene`, 480 x 640."""
    names = ("top", "angle", "front_close", *(f"{side}_wrist" for side in sides))
    return tuple(CameraSpec(name, IMAGE_HEIGHT, IMAGE_WIDTH) for name in names)


def _dims(sides: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for side in sides for name in (*viperx.ARM_JOINTS, "gripper"))


def _limits(arms: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    low = [*(float(v) for v in _ANGLE_LIMITS[:, 0]), 0.0] * arms
    high = [*(float(v) for v in _ANGLE_LIMITS[:, 1]), 1.0] * arms
    return tuple(low), tuple(high)
