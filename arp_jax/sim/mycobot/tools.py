"""What the myCobot 320 carries at its flange: one of two grippers, or a peg.

In: the scene and the flange body of `arm.py`. Out: bodies, slides, servos and a site "tip" where
the tool works (between the finger pads, or the peg's end); the site's z axis points away from the
flange and the fingers close along its x axis. Nothing of a task.
Sources: URDF of the adaptive gripper (finger 70 x 25 x 20 mm, base at .042 m); strokes, forces and
masses are estimates.
"""

import dataclasses
from typing import Any

import mujoco

from arp_jax.sim.mycobot.arm import add_servo, add_visual, set_inertia

TOOLS = ("adaptive", "force", "peg")
TIP = "tip"
FINGERS = ("finger_left", "finger_right")
PADS = ("pad_left", "pad_right")
_BLACK, _DARK = (0.15, 0.15, 0.16, 1.0), (0.25, 0.25, 0.27, 1.0)


@dataclasses.dataclass(frozen=True)
class Gripper:
    """A two-finger gripper whose fingers slide.

    Attributes:
        base: half sizes of the housing, m; it starts at the flange.
        base_mass, finger_mass: kg.
        stroke: way of one finger from closed to open, m.
        pad: half sizes of the pad (closing direction, width, along the finger), m.
        tip: height of the pads' middle above the flange, m.
        coupled: whether a linkage forces both fingers to move alike.
        max_force: of each finger, N.
        max_speed: of each finger, m/s.
    """

    base: tuple[float, float, float]
    base_mass: float
    finger_mass: float
    stroke: float
    pad: tuple[float, float, float]
    tip: float
    coupled: bool
    max_force: float
    max_speed: float


GRIPPERS = {
    # One motor and a linkage: the fingers mirror each other. Opens to 45 mm.
    "adaptive": Gripper(
        base=(0.032, 0.018, 0.035),
        base_mass=0.2,
        finger_mass=0.02,
        stroke=0.0225,
        pad=(0.004, 0.0125, 0.015),
        tip=0.118,
        coupled=True,
        max_force=6.0,
        max_speed=0.06,
    ),
    # Parallel jaws that push with a set force and find the object's middle. Opens to 100 mm.
    "force": Gripper(
        base=(0.055, 0.025, 0.032),
        base_mass=0.3,
        finger_mass=0.03,
        stroke=0.05,
        pad=(0.006, 0.012, 0.018),
        tip=0.115,
        coupled=False,
        max_force=12.0,
        max_speed=0.12,
    ),
}
FINGER_ARMATURE = 1.0  # kg, reflected inertia of a finger's drive (estimate)
FULL_FORCE_ERROR = 0.01  # m: from here on a finger pushes with all its force

PEG_LENGTH = 0.18  # m; so long that the elbow stays above the wrist all over a table-top board
PEG_MASS = 0.1


def add_gripper(spec: mujoco.MjSpec, flange: Any, kind: str) -> Gripper:
    """Adds "adaptive" or "force"; joints and servos are `FINGERS`, 0 = closed, `stroke` = open.

    Both fingers have a servo of their own, to be given the same command. Pads are the box geoms
    `PADS`; contacts are up to the task.

    Raises:
        ValueError: for another name.
    """
    if kind not in GRIPPERS:
        raise ValueError(f"gripper={kind!r} is unknown; choose one of {sorted(GRIPPERS)}")
    gripper = GRIPPERS[kind]
    half_x, half_y, half_z = gripper.base
    base = flange.add_body(name="gripper", gravcomp=1.0)
    base.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0, 0, half_z],
        size=list(gripper.base),
        mass=0.0,
        material="matte",
        rgba=list(_DARK),
    )
    set_inertia(base, gripper.base_mass, (-half_x, -half_y, 0.0), (half_x, half_y, 2 * half_z))
    base.add_site(name=TIP, pos=[0, 0, gripper.tip], size=[0.002, 0, 0], group=4)
    for side, joint, pad in zip((1.0, -1.0), FINGERS, PADS, strict=True):
        _add_finger(spec, base, gripper, side, joint, pad)
    if gripper.coupled:
        spec.add_equality(
            name="linkage",
            type=mujoco.mjtEq.mjEQ_JOINT,
            name1=FINGERS[0],
            name2=FINGERS[1],
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            data=[0.0, 1.0] + [0.0] * 10,
        )
    return gripper


def _add_finger(
    spec: mujoco.MjSpec, base: Any, gripper: Gripper, side: float, joint: str, pad: str
) -> None:
    """One finger on its slide; `side` is +1 or -1 along the closing axis."""
    thick, wide, tall = gripper.pad
    finger = base.add_body(name=joint, pos=[side * thick, 0, gripper.tip], gravcomp=1.0)
    finger.add_joint(
        name=joint,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[side, 0, 0],
        limited=True,
        # A little beyond closed, so that the stop carries no load when the servo is at zero.
        range=[-0.001, gripper.stroke + 0.001],
        armature=FINGER_ARMATURE,
        damping=gripper.max_force / gripper.max_speed,
    )
    finger.add_geom(
        name=pad,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=list(gripper.pad),
        mass=0.0,
        material="matte",
        rgba=list(_BLACK),
    )
    # The finger behind the pad, up to the housing.
    height = gripper.tip - 2 * gripper.base[2] + tall
    finger.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[side * (thick + 0.004), 0, tall - height / 2],
        size=[0.004, wide * 0.8, height / 2],
        mass=0.0,
        material="matte",
        rgba=list(_DARK),
    )
    set_inertia(finger, gripper.finger_mass, (-0.01, -wide, -0.05), (0.01, wide, tall))
    gain = gripper.max_force / FULL_FORCE_ERROR
    add_servo(spec, joint, gain, (0.0, gripper.stroke), gripper.max_force)


def add_peg(flange: Any, radius: float, thick: float) -> None:
    """Adds a rod of `PEG_LENGTH` that ends in a disc; the site "tip" is the disc's middle.

    Args:
        flange: the arm's last body.
        radius: of the disc and of the sphere geom "peg" in it, which is what touches, m.
        thick: height of the disc, m.
    """
    peg = flange.add_body(name="peg", gravcomp=1.0)
    for z0, z1, r, color in (
        (0.0, PEG_LENGTH, 0.6 * radius, _DARK),
        (PEG_LENGTH - thick / 2, PEG_LENGTH + thick / 2, radius, (0.25, 0.41, 0.88, 1.0)),
    ):
        add_visual(peg, mujoco.mjtGeom.mjGEOM_CYLINDER, ((0, 0, z0), (0, 0, z1), r), color)
    # A sphere inside the disc: against upright faces it is the same, and the cheapest to collide.
    peg.add_geom(
        name="peg",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=[0, 0, PEG_LENGTH],
        size=[radius, 0, 0],
        mass=0.0,
        material="matte",
        rgba=[0.25, 0.41, 0.88, 1.0],
    )
    peg.add_site(name=TIP, pos=[0, 0, PEG_LENGTH], size=[0.002, 0, 0], group=4)
    set_inertia(peg, PEG_MASS, (-radius, -radius, 0.0), (radius, radius, PEG_LENGTH))
