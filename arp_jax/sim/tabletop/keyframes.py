"""Key-frame actions: a pose of the tool and a gripper state in, servo targets for a second out.

One control step goes to one key frame: the tool moves on a straight line (positions linear,
rotation about a fixed axis, smooth start and stop), waits, then the gripper opens or closes. The
joints that this needs come from inverse kinematics, warm-started from the present ones; a pose out
of reach ends at the nearest one that is found. No obstacle is avoided: key frames must do that.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.kinematics import Chain
from arp_jax.sim.tabletop import arm
from arp_jax.sim.task import Memory, Readings
from arp_jax.specs import ActionSpec

# Physics steps for each row of control, and rows for moving, settling and the gripper.
SUBSTEPS = 4
MOVE_ROWS, SETTLE_ROWS, GRIPPER_ROWS = 32, 6, 12
ROWS = MOVE_ROWS + SETTLE_ROWS + GRIPPER_ROWS
RATE_HZ = 1.0 / (ROWS * SUBSTEPS * arm.TIMESTEP)

# Poses on the line that are solved for; joints are interpolated between them.
_KNOTS = 8
_ITERATIONS = 8
# More than the default: the arm is often stretched, where small damping makes big jumps.
_DAMPING = 5e-3

# Order and meaning as in RLBench and as `policies.rlbench_config.ACTION_DIMS` begins.
ACTION_SPEC = ActionSpec(
    dims=("x", "y", "z", "qx", "qy", "qz", "qw", "gripper_open"),
    unit="m",
    frame="world",
    absolute=(True,) * 8,
    low=(*arm.WORKSPACE_LOW, -1.0, -1.0, -1.0, -1.0, 0.0),
    high=(*arm.WORKSPACE_HIGH, 1.0, 1.0, 1.0, 1.0, 1.0),
    rate_hz=RATE_HZ,
    gripper="open=1",
)

# The tool's z axis points down and its fingers open along y.
DOWN = (0.0, 1.0, 0.0, 0.0)


def tool_down(yaw: ArrayLike) -> Array:
    """Rotation [4] wxyz of a tool that points down, turned by `yaw` rad about the world's z.

    With yaw 0 the fingers open along the world's y.
    """
    half = jnp.asarray(yaw, jnp.float32) / 2.0
    # The product of the turn about z with DOWN, written out.
    return jnp.stack([jnp.zeros(()), jnp.cos(half), jnp.sin(half), jnp.zeros(())])


def keyframe(position: ArrayLike, quat: ArrayLike, gripper_open: ArrayLike) -> Array:
    """An action [8] from a position [3] m, a quaternion [4] wxyz and 1 (open) or 0 (closed)."""
    xyzw = jnp.roll(jnp.asarray(quat, jnp.float32), -1)
    gripper = jnp.asarray(gripper_open, jnp.float32)[None]
    return jnp.concatenate([jnp.asarray(position, jnp.float32), xyzw, gripper])


@dataclasses.dataclass(frozen=True)
class KeyframeControl:
    """The control function of a task; hashable, so that it can be a static argument.

    Attributes:
        chain: from the world to the tool site.
    """

    chain: Chain

    def __call__(self, action: Array, readings: Readings, memory: Memory) -> Array:
        """Servo targets [ROWS, 9] rad and m: 7 joints, 2 fingers.

        Args:
            action: [8] as `ACTION_SPEC`; positions are clipped to it, quaternions normalised (a
                zero one means: tool down).
            readings: before the step; "qpos" is used.
            memory: "gripper" [] is the last command, kept until the arm has arrived.
        """
        now = readings["qpos"][jnp.array(self.chain.qpos)]
        position = jnp.clip(action[:3], jnp.array(arm.WORKSPACE_LOW), jnp.array(arm.WORKSPACE_HIGH))
        path = _joint_path(self.chain, now, position, _unit(jnp.roll(action[3:7], 1)))
        row = jnp.arange(1, ROWS + 1)
        time = jnp.clip(row / MOVE_ROWS, 0.0, 1.0)
        progress = time**3 * (10.0 - 15.0 * time + 6.0 * time**2)  # minimum jerk
        at = progress * _KNOTS
        before = jnp.minimum(at.astype(jnp.int32), _KNOTS - 1)
        joints = path[before] + (at - before)[:, None] * (path[before + 1] - path[before])
        seconds = SUBSTEPS * arm.TIMESTEP
        speed = jnp.diff(joints, axis=0, prepend=now[None]) / seconds
        joints = joints + jnp.array(arm.LEAD) * speed
        is_open = jnp.where(row <= MOVE_ROWS + SETTLE_ROWS, memory["gripper"], action[7]) > 0.5
        finger = jnp.where(is_open, arm.FINGER_OPEN, arm.FINGER_CLOSED)
        return jnp.concatenate([joints, finger[:, None], finger[:, None]], -1)


def _unit(quat: Array) -> Array:
    """Unit quaternion [4] wxyz; a zero one becomes `DOWN`."""
    length = jnp.linalg.norm(quat)
    return jnp.where(length > 1e-6, quat / jnp.maximum(length, 1e-6), jnp.array(DOWN))


def _joint_path(chain: Chain, start: Array, position: Array, quat: Array) -> Array:
    """Joints [_KNOTS + 1, 7] on the way from `start` [7] to a pose, equal steps of the tool."""
    first_position, first_quat = kinematics.forward(chain, start)
    turn = rotations.to_vector(rotations.multiply(quat, rotations.conjugate(first_quat)))
    angle = jnp.linalg.norm(turn)
    axis = turn / jnp.maximum(angle, 1e-9)
    share = jnp.arange(1, _KNOTS + 1) / _KNOTS
    positions = first_position + share[:, None] * (position - first_position)
    quats = rotations.multiply(rotations.about(axis, share * angle), first_quat)

    def follow(q: Array, pose: tuple[Array, Array]) -> tuple[Array, Array]:
        found = kinematics.solve(chain, *pose, q, _ITERATIONS, _DAMPING)
        # Out of reach, iterations may jump about: then rather stay where the line left off.
        better = _badness(chain, found.q, *pose) < _badness(chain, q, *pose)
        q = jnp.where(better, found.q, q)
        return q, q

    path = jax.lax.scan(follow, start, (positions, quats))[1]
    return jnp.concatenate([start[None], path])


def _badness(chain: Chain, q: Array, position: Array, quat: Array) -> Array:
    """How far the tool is from a pose, []: m, with 0.2 m for a radian."""
    tool, now = kinematics.forward(chain, q)
    turn = rotations.to_vector(rotations.multiply(quat, rotations.conjugate(now)))
    return jnp.linalg.norm(tool - position) + 0.2 * jnp.linalg.norm(turn)
