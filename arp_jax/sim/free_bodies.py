"""Free bodies: where their numbers stand in qpos, and how their poses are called when observed."""

import mujoco

from arp_jax.specs import FeatureSpec

POSE_DIMS = ("x", "y", "z", "qw", "qx", "qy", "qz")


def qpos_place(model: mujoco.MjModel, joint: str) -> int:
    """Where in qpos a joint's numbers begin: the seven of a free body, the one of a hinge."""
    return int(model.joint(joint).qposadr[0])


def pose_spec(feature: str) -> FeatureSpec:
    """Spec of a feature that is a free body's seven numbers."""
    return FeatureSpec(feature, POSE_DIMS, "m, quaternion", "world")
