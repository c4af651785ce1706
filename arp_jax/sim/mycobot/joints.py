"""The myCobot's joint vector: six angles in rad and, with a gripper, its opening 0 ... 1.

In: actions or MuJoCo readings. Out: servo commands, the feature "state", and the specs of both. One
control step is 0.1 s: the vendor advises 10 to 20 Hz for streamed targets, the one-arm project
recorded at 10 Hz, and Push-T runs at 10 Hz, so data and policies of all three fit.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.mycobot.arm import COMMAND_LIMITS, JOINTS, LIMITS
from arp_jax.sim.mycobot.tools import Gripper
from arp_jax.sim.task import Memory, Readings
from arp_jax.specs import ActionSpec, FeatureSpec

CONTROL_HZ = 10.0
SUBSTEPS = 20  # of `bench_scene.TIMESTEP`
ANGLES = len(JOINTS)


def action_spec(with_gripper: bool) -> ActionSpec:
    """Absolute joint targets (rad), then the gripper's opening (1 = open); 6 or 7 numbers."""
    dims, high = _dims(with_gripper), (*COMMAND_LIMITS, *([1.0] * with_gripper))
    low = (*(-limit for limit in COMMAND_LIMITS), *([0.0] * with_gripper))
    return ActionSpec(
        dims=dims,
        unit="rad",
        frame="joint",
        absolute=(True,) * len(dims),
        low=low,
        high=high,
        rate_hz=CONTROL_HZ,
        gripper="open=1" if with_gripper else None,
    )


def state_spec(with_gripper: bool) -> FeatureSpec:
    """Spec of the feature "state", in the order and units of the action."""
    high = (*LIMITS, *([1.0] * with_gripper))
    low = (*(-limit for limit in LIMITS), *([0.0] * with_gripper))
    unit = "rad, gripper 0..1" if with_gripper else "rad"
    return FeatureSpec("state", _dims(with_gripper), unit, "joint", low, high)


def _dims(with_gripper: bool) -> tuple[str, ...]:
    return (*JOINTS, *(("gripper",) if with_gripper else ()))


def joint_state(qpos: Array, gripper: Gripper | None) -> Array:
    """qpos [nq] -> "state" [6] or [7]; the arm's joints and fingers are the model's first."""
    if gripper is None:
        return qpos[:ANGLES]
    opening = jnp.mean(qpos[ANGLES : ANGLES + 2]) / gripper.stroke
    return jnp.append(qpos[:ANGLES], jnp.clip(opening, 0.0, 1.0))


def joint_control(gripper: Gripper | None) -> Callable[[Array, Readings, Memory], Array]:
    """A task's `control`: action [6] or [7] -> ctrl [1, nu]; both fingers get the same command."""
    limits = jnp.array(COMMAND_LIMITS)

    def control(action: Array, readings: Readings, memory: Memory) -> Array:
        del readings, memory
        angles = jnp.clip(action[:ANGLES], -limits, limits)
        if gripper is None:
            return angles[None]
        finger = jnp.clip(action[ANGLES:], 0.0, 1.0) * gripper.stroke  # [1]
        return jnp.concatenate([angles, finger, finger])[None]

    return control
