"""The myCobot 320 in numbers: joints, limits, the pose called home, and the specs of its vectors.

Nothing flows through here but conversions between a reading and the vectors that policies see. The
same numbers stand in `arp_jax.sim.mycobot`, whose modules need MuJoCo; a test compares them.
Angles are rad; published limits are degrees and say so.
"""

import numpy as np

from arp_jax.specs import ActionSpec, FeatureSpec
from robot_bridge.robots import Reading

JOINTS = tuple(f"joint{i}" for i in range(1, 7))
GRIPPER = "gripper"
STATE = "state"

# The smallest of three published tables (SDK 168 135 145 145 168 180 degrees; URDF 2.93 2.35 2.53
# 2.58 2.93 3.14 rad; data sheet), each joint both ways.
LIMITS = (2.93, 2.35, 2.53, float(np.radians(145.0)), 2.93, 3.14)
MARGIN = float(np.radians(2.0))  # a command keeps this distance from the limit
COMMAND_LIMITS = tuple(limit - MARGIN for limit in LIMITS)

# The pose above the table in which the one-arm project began its episodes.
HOME_DEGREES = (-3.07, 33.39, 32.78, 6.94, -88.33, -1.58)
HOME = tuple(float(np.radians(angle)) for angle in HOME_DEGREES)

CONTROL_HZ = 10.0  # the vendor advises 10 to 20 Hz for streamed targets

_ERRORS = {
    **{code: f"{JOINTS[code - 1]} is beyond its limit" for code in range(1, 7)},
    **{code: "the controller reports a collision" for code in range(16, 20)},
    32: "inverse kinematics has no solution",
    33: "no neighboring solution on a straight line",
    34: "no neighboring solution on a straight line",
}


def action_spec(with_gripper: bool, rate_hz: float = CONTROL_HZ) -> ActionSpec:
    """Absolute joint targets (rad), then the gripper's opening (1 = open); A = 6 or 7."""
    dims = _dims(with_gripper)
    return ActionSpec(
        dims=dims,
        unit="rad",
        frame="joint",
        absolute=(True,) * len(dims),
        low=(*(-limit for limit in COMMAND_LIMITS), *([0.0] * with_gripper)),
        high=(*COMMAND_LIMITS, *([1.0] * with_gripper)),
        rate_hz=rate_hz,
        gripper="open=1" if with_gripper else None,
    )


def state_spec(with_gripper: bool) -> FeatureSpec:
    """Spec of the feature "state", in the order and units of the action."""
    high = (*LIMITS, *([1.0] * with_gripper))
    low = (*(-limit for limit in LIMITS), *([0.0] * with_gripper))
    unit = "rad, gripper 0..1" if with_gripper else "rad"
    return FeatureSpec(STATE, _dims(with_gripper), unit, "joint", low, high)


def state_vector(reading: Reading, with_gripper: bool) -> np.ndarray:
    """A reading as the feature "state", float32 [6] or [7]."""
    gripper = [reading.gripper] if with_gripper else []
    return np.array([*reading.angles, *gripper], np.float32)


def describe_error(code: int) -> str:
    """The controller's error code in words; "" for 0."""
    if code == 0:
        return ""
    return f"controller error {code}: {_ERRORS.get(code, 'not in the published list')}"


def _dims(with_gripper: bool) -> tuple[str, ...]:
    return (*JOINTS, *((GRIPPER,) if with_gripper else ()))
