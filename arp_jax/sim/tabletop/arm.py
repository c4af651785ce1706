"""The scene that all tabletop tasks share: table, Franka Panda with parallel gripper, cameras.

In: nothing but the constants below. Out: an `MjSpec` to which a task adds its things. Links have
the published offsets, joint limits and masses of the Panda (Franka's DH parameters) and are drawn
as capsules; only the two finger pads can touch. Every link is gravity compensated, as on the real
robot; joint servos are position servos with the arm's torque limits. No actions here:
`keyframes.py`.
"""

from typing import Any

import mujoco

from arp_jax.sim import scene
from arp_jax.specs import CameraSpec

# The table's top and the robot's foot are where RLBench has them, so that its policies' scene
# bounds fit: x, y, z from (-0.3, -0.5, 0.6) to (0.7, 0.5, 1.6) m.
TABLE_TOP = 0.75
FOOT = (-0.3, 0.0, TABLE_TOP)
WORKSPACE_LOW, WORKSPACE_HIGH = (-0.3, -0.5, 0.6), (0.7, 0.5, 1.6)
TIMESTEP = 0.005

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("finger_left", "finger_right")
PADS = ("pad_left", "pad_right")
TOOL = "tool"
# "Ready" pose of the real robot; the tool points down.
HOME = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)
FINGER_OPEN = 0.04
# The servo aims past the stop, so that thin things are held with 6 N as well.
FINGER_CLOSED = -0.01
# The tool site is the middle of the pads' lower half; the tips reach this much further.
TIP = 0.009

# Body, position in the parent, quaternion, joint range (rad), mass (kg).
LINKS = (
    ("link1", (FOOT[0], FOOT[1], FOOT[2] + 0.333), (1.0, 0.0, 0.0, 0.0), (-2.8973, 2.8973), 4.971),
    ("link2", (0.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0), (-1.7628, 1.7628), 0.647),
    ("link3", (0.0, -0.316, 0.0), (1.0, 1.0, 0.0, 0.0), (-2.8973, 2.8973), 3.229),
    ("link4", (0.0825, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (-3.0718, -0.0698), 3.588),
    ("link5", (-0.0825, 0.384, 0.0), (1.0, -1.0, 0.0, 0.0), (-2.8973, 2.8973), 1.226),
    ("link6", (0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (-0.0175, 3.7525), 1.667),
    ("link7", (0.088, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (-2.8973, 2.8973), 0.736),
)
# Capsules in the links' frames: from, to, radius. The mass is shared evenly.
_CAPSULES: dict[str, tuple[tuple[tuple[float, ...], tuple[float, ...], float], ...]] = {
    "link1": (((0, 0, -0.19), (0, 0, 0), 0.06),),
    "link2": (((0, 0, 0), (0, -0.19, 0), 0.06),),
    "link3": (((0, 0, -0.06), (0, 0, 0), 0.055), ((0, 0, 0), (0.0825, 0, 0), 0.055)),
    "link4": (((0, 0, 0), (-0.0825, 0.08, 0), 0.055),),
    "link5": (((0, 0, -0.29), (0, 0.05, -0.1), 0.05), ((0, 0.05, -0.1), (0, 0, 0), 0.05)),
    "link6": (((0, 0, 0), (0.088, 0, 0), 0.05),),
    "link7": (((0, 0, 0), (0, 0, 0.08), 0.045),),
}
# Stiffness (N m/rad), damping (N m s/rad), rotor inertia (kg m^2) and torque limit (N m, the
# published one). The rotor inertia keeps explicitly integrated damping stable at this time step.
_SHOULDER, _WRIST = (2000.0, 80.0, 0.5, 87.0), (400.0, 15.0, 0.2, 12.0)
_SERVOS = (_SHOULDER,) * 4 + (_WRIST,) * 3
_FINGER_SERVO = (600.0, 10.0, 0.1, 20.0)  # N/m, N s/m, kg, N
# A servo target that runs ahead by this time (s) times the speed makes up for the damping.
LEAD = tuple(damping / stiffness for stiffness, damping, _, _ in _SERVOS)

_WHITE, _DARK, _WOOD = (0.92, 0.92, 0.92, 1.0), (0.25, 0.25, 0.27, 1.0), (0.72, 0.62, 0.5, 1.0)

CAMERAS = tuple(
    CameraSpec(name, 128, 128) for name in ("front", "left_shoulder", "right_shoulder", "wrist")
)


def new_tabletop() -> mujoco.MjSpec:
    """The scene without a task's things; qpos starts with 7 arm joints and 2 fingers."""
    spec = scene.new_scene(TIMESTEP)
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[2, 2, 0.1],
        rgba=[0.5, 0.52, 0.55, 1],
    )
    add_box(world, "table", (0.1, 0.0, TABLE_TOP - 0.02), (0.6, 0.65, 0.02), _WOOD)
    _add_arm(spec)
    focus = (0.12, 0.0, TABLE_TOP + 0.12)
    scene.add_camera_looking_at(world, "front", (1.2, 0.0, 1.5), focus, 50.0)
    for name, side in (("left_shoulder", 1.0), ("right_shoulder", -1.0)):
        scene.add_camera_looking_at(world, name, (-0.25, 0.75 * side, 1.6), focus, 50.0)
    return spec


def add_box(
    body: Any,
    name: str,
    pos: tuple[float, float, float],
    half: tuple[float, float, float],
    rgba: tuple[float, float, float, float] = _WHITE,
    mass: float = 0.0,
) -> Any:
    """A box geom on a body: centre and half sizes in its frame, m; kg."""
    return body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=list(pos),
        size=list(half),
        rgba=list(rgba),
        mass=mass,
    )


def _add_capsules(body: Any, name: str, mass: float) -> None:
    shapes = _CAPSULES[name]
    for place, (start, end, radius) in enumerate(shapes):
        body.add_geom(
            name=f"{name}_{place}",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[*start, *end],
            size=[radius, 0, 0],
            rgba=list(_WHITE),
            mass=mass / len(shapes),
        )


def _add_arm(spec: mujoco.MjSpec) -> None:
    """The foot is part of the world and the hand part of link 7: XLA on a CPU computes shared terms
    of MJX's kinematics again for every further body of the chain, 0.5 s a step with two more."""
    parent: Any = spec.worldbody
    add_box(parent, "foot", (FOOT[0] - 0.04, FOOT[1], FOOT[2] + 0.03), (0.11, 0.09, 0.03))
    parent.add_geom(
        name="link0",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[*FOOT[:2], FOOT[2] + 0.05, *FOOT[:2], FOOT[2] + 0.14],
        size=[0.06, 0, 0],
        rgba=list(_WHITE),
    )
    for (name, pos, quat, limits, mass), joint, servo in zip(LINKS, JOINTS, _SERVOS, strict=True):
        parent = parent.add_body(name=name, pos=list(pos), quat=list(quat), gravcomp=1)
        parent.add_joint(
            name=joint,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            range=list(limits),
            armature=servo[2],
        )
        _add_capsules(parent, name, mass)
        _add_servo(spec, joint, servo, limits)
    _add_hand(spec, parent)


def _add_hand(spec: mujoco.MjSpec, flange: Any) -> None:
    """Franka Hand on link 7: its frame is turned by -45 degrees, fingers open along its y."""
    frame = flange.add_frame(pos=[0, 0, 0.107], quat=[0.9238795, 0.0, 0.0, -0.3826834])
    add_box(flange, "palm", (0.0, 0.0, 0.03), (0.03, 0.1, 0.03), _DARK, mass=0.73).set_frame(frame)
    flange.add_site(name=TOOL, pos=[0, 0, 0.1034]).set_frame(frame)
    scene.add_camera_looking_at(
        flange, "wrist", (0.08, 0.0, 0.0), (0.0, 0.0, 0.2), 60.0, up=(1.0, 0.0, 0.0)
    )
    spec.camera("wrist").set_frame(frame)
    for joint, pad, side in zip(FINGER_JOINTS, PADS, (1.0, -1.0), strict=True):
        finger = flange.add_body(name=joint, pos=[0, 0, 0.0584], gravcomp=1)
        finger.set_frame(frame)
        finger.add_joint(
            name=joint,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, side, 0],
            range=[0, FINGER_OPEN],
            armature=_FINGER_SERVO[2],
        )
        # From 14 mm below the palm to the tip, 54 mm below it.
        add_box(finger, pad, (0.0, 0.006 * side, 0.034), (0.01, 0.006, 0.02), _DARK, mass=0.03)
        _add_servo(spec, joint, _FINGER_SERVO, (FINGER_CLOSED, FINGER_OPEN))


def _add_servo(
    spec: mujoco.MjSpec,
    joint: str,
    servo: tuple[float, float, float, float],
    limits: tuple[float, float],
) -> None:
    stiffness, damping, _, force = servo
    actuator = spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        ctrllimited=True,
        ctrlrange=list(limits),
        forcelimited=True,
        forcerange=[-force, force],
    )
    actuator.set_to_position(kp=stiffness, kv=damping)
