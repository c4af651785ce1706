"""The myCobot 320 as MJCF: links from the vendor's URDF chain, primitive shapes, position servos.

In: an `MjSpec` scene. Out: the flange body to which `tools.py` fastens a tool. The world's x axis
points to the front of the arm and z = 0 is the table on which it stands; the controller's base
frame (that of the vendor's URDF) is this one turned by 180 degrees about z. No tool, no task.
Sources: mycobot_ros URDF of the 320 M5/Pi 2022 (frames, limits), pymycobot (limits); masses and
servo numbers are estimates, said so where they stand.
"""

import dataclasses
from typing import Any

import mujoco
import numpy as np

# Parent frame -> joint frame: xyz (m), rpy (rad, fixed axes); each joint turns about its local z.
FRAMES = (
    ((0.0, 0.0, 0.1739), (0.0, 0.0, 0.0)),
    ((0.0, -0.08878, 0.0), (0.0, -np.pi / 2, np.pi / 2)),
    ((0.135, 0.0, -0.08878), (0.0, 0.0, 0.0)),
    ((0.120, 0.0, 0.08878), (0.0, 0.0, np.pi / 2)),
    ((0.0, -0.095, 0.0), (np.pi / 2, 0.0, 0.0)),
    ((0.0, 0.0655, 0.0), (-np.pi / 2, 0.0, 0.0)),
)
JOINTS = tuple(f"joint{i}" for i in range(1, 7))

# The smallest of the three published tables (SDK 168 135 145 145 168 180 degrees; URDF 2.93 2.35
# 2.53 2.58 2.93 3.14 rad; data sheet), each joint both ways.
LIMITS = (2.93, 2.35, 2.53, float(np.radians(145.0)), 2.93, 3.14)
MARGIN = float(np.radians(2.0))  # a command keeps this distance from the limit
COMMAND_LIMITS = tuple(limit - MARGIN for limit in LIMITS)

# The pose above the table in which the one-arm project began its episodes, degrees.
HOME_DEGREES = (-3.07, 33.39, 32.78, 6.94, -88.33, -1.58)
HOME = tuple(float(np.radians(angle)) for angle in HOME_DEGREES)

BASE_MASS = 0.9  # kg
_WHITE, _GREY = (0.92, 0.92, 0.9, 1.0), (0.35, 0.36, 0.38, 1.0)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Inertia and looks of one link.

    Attributes:
        mass: kg (estimate: the vendor gives 3.3 kg for the whole arm).
        low, high: bounding box of the visual mesh in the link frame, m; its inertia is the link's.
        capsule: two end points and the radius of the primitive that is drawn, m.
        color: rgba.
    """

    mass: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    capsule: tuple[tuple[float, float, float], tuple[float, float, float], float]
    color: tuple[float, float, float, float] = _WHITE


SEGMENTS = (
    Segment(
        0.55,
        (-0.0385, -0.0739, -0.0778),
        (0.0384, 0.0375, 0.0399),
        ((0, -0.036, 0), (0, 0, 0), 0.038),
    ),
    Segment(
        0.65,
        (-0.0383, -0.0379, -0.0650),
        (0.1701, 0.0385, 0.0324),
        ((0, 0, -0.016), (0.135, 0, -0.016), 0.038),
    ),
    Segment(
        0.50,
        (-0.0346, -0.0342, -0.0359),
        (0.1502, 0.0348, 0.0511),
        ((0, 0, 0.008), (0.12, 0, 0.008), 0.034),
    ),
    Segment(
        0.30,
        (-0.0297, -0.0576, -0.0503),
        (0.0296, 0.0303, 0.0293),
        ((0, -0.028, 0), (0, 0, 0), 0.030),
        _GREY,
    ),
    Segment(
        0.30,
        (-0.0297, -0.0463, -0.0499),
        (0.0296, 0.0566, 0.0297),
        ((0, -0.016, 0), (0, 0.026, 0), 0.030),
    ),
    Segment(
        0.10,
        (-0.029, -0.029, -0.0113),
        (0.029, 0.029, 0.0079),
        ((0, 0, -0.0113), (0, 0, 0.0079), 0.029),
        _GREY,
    ),
)


@dataclasses.dataclass(frozen=True)
class Servo:
    """A position servo: a critically damped spring of `FREQUENCY` with a speed limit.

    The reflected inertia of gears (1:100 and more) outweighs that of the links; that is why each
    joint keeps nearly the same dynamics in all poses, as the real arm's do.

    Attributes:
        armature: reflected inertia, kg m^2 (estimate).
        inertia: armature plus what the links add in a middle pose; sets gain and damping.
        max_speed: rad/s, at which the damping uses up the largest torque.
    """

    armature: float
    inertia: float
    max_speed: float = float(np.radians(120.0))  # vendor's order of magnitude at full speed

    @property
    def damping(self) -> float:
        """Nm s/rad."""
        return 2.0 * FREQUENCY * self.inertia

    @property
    def gain(self) -> float:
        """Nm/rad."""
        return FREQUENCY**2 * self.inertia

    @property
    def max_torque(self) -> float:
        """Nm."""
        return self.damping * self.max_speed


# A ramp is followed 2 / FREQUENCY = 0.2 s late, in the middle of the 0.1 to 0.3 s that the
# one-arm project saw; it is also the law by which Push-T's agent follows its target.
FREQUENCY = 10.0  # rad/s
SERVOS = (
    Servo(0.6, 0.665),
    Servo(0.6, 0.667),
    Servo(0.6, 0.640),
    Servo(0.2, 0.209, float(np.radians(180.0))),
    Servo(0.2, 0.204, float(np.radians(180.0))),
    Servo(0.2, 0.200, float(np.radians(180.0))),
)


def frame_quaternion(rpy: tuple[float, float, float]) -> np.ndarray:
    """Quaternion (wxyz) of URDF angles: about the fixed x, then y, then z axis."""
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, np.asarray(rpy, float), "XYZ")
    return quat


def add_arm(spec: mujoco.MjSpec) -> Any:
    """Adds the arm, its table and its six servos; returns the flange body (link 6).

    Bodies are called base, link1 ... link6, joints and servos joint1 ... joint6, the table's plane
    "table". Gravity is compensated: the real servos integrate, the arm does not sag.
    """
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[1, 1, 0.1],
        material="matte",
        rgba=[0.55, 0.5, 0.45, 1],
    )
    body = spec.worldbody.add_body(name="base", quat=[0, 0, 0, 1])
    for z0, z1, radius in ((0.0, 0.1, 0.075), (0.1, 0.135, 0.0385)):
        add_visual(body, mujoco.mjtGeom.mjGEOM_CYLINDER, ((0, 0, z0), (0, 0, z1), radius), _GREY)
    set_inertia(body, BASE_MASS, (-0.075, -0.075, 0.0), (0.075, 0.075, 0.13))
    rows = zip(JOINTS, FRAMES, SEGMENTS, SERVOS, LIMITS, COMMAND_LIMITS, strict=True)
    for index, (name, (pos, rpy), segment, servo, limit, command) in enumerate(rows, 1):
        body = body.add_body(
            name=f"link{index}", pos=list(pos), quat=frame_quaternion(rpy), gravcomp=1.0
        )
        body.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            limited=True,
            range=[-limit, limit],
            armature=servo.armature,
            damping=servo.damping,
        )
        shape = mujoco.mjtGeom.mjGEOM_CYLINDER if index == 6 else mujoco.mjtGeom.mjGEOM_CAPSULE
        add_visual(body, shape, segment.capsule, segment.color)
        set_inertia(body, segment.mass, segment.low, segment.high)
        add_servo(spec, name, servo.gain, (-command, command), servo.max_torque)
    return body


def add_servo(
    spec: mujoco.MjSpec, joint: str, gain: float, commands: tuple[float, float], force: float
) -> None:
    """A position servo with its joint's name: gain (command - position), at most `force`."""
    servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=gain)
    servo.ctrllimited, servo.ctrlrange = True, list(commands)
    servo.forcelimited, servo.forcerange = True, [-force, force]


def add_visual(body: Any, shape: Any, ends: Any, color: tuple[float, ...]) -> None:
    """A shape without mass and without contacts between two points."""
    start, end, radius = ends
    body.add_geom(
        type=shape,
        fromto=[*start, *end],
        size=[radius, 0, 0],
        mass=0.0,
        material="matte",
        rgba=list(color),
    )


def set_inertia(body: Any, mass: float, low: tuple[float, ...], high: tuple[float, ...]) -> None:
    """Gives the body the inertia of a solid box between two corners."""
    start, end = np.asarray(low, float), np.asarray(high, float)
    squares = (end - start) ** 2
    body.explicitinertial = True
    body.mass = mass
    body.ipos = (start + end) / 2
    body.inertia = mass / 12.0 * (squares.sum() - squares)
