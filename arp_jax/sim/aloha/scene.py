"""ALOHA's table with one or two ViperX arms, its cameras, and free objects.

In: what stands on the table. Out: an `MjSpec` to which a task adds its objects, and the pairs of
geoms that may touch. Contacts are few on purpose: pads, table and objects; the arms themselves pass
through everything. No reward, no start state: that is the tasks' part.
"""

from collections.abc import Sequence
from typing import Any

import mujoco

from arp_jax.sim import scene
from arp_jax.sim.aloha import arm, viperx

TIMESTEP = 0.004  # s
SUBSTEPS = 5
# The waist's large friction loss needs a longer line search than other scenes: 8 leave it 7 % off.
LS_ITERATIONS = 12
CONTROL_HZ = 50.0

TABLE = "table"
TABLE_HALF = (0.6096, 0.381, 0.015)
TABLE_CENTER = (0.0, 0.6, -0.015)  # its top is the plane z = 0

OBJECT_MASS = 0.05  # kg
# Published: far above that of a real cube, so that objects do not spin in the hand.
OBJECT_INERTIA = (0.002, 0.002, 0.002)
OBJECT_FRICTION_LOSS = 0.01

RED, BLUE, YELLOW = (1.0, 0.0, 0.0, 1.0), (0.1, 0.2, 1.0, 1.0), (0.9, 0.8, 0.1, 1.0)
TABLE_COLOR = (0.2, 0.2, 0.2, 1.0)

FOVY = 78.0
# Where a hand's focus point is in the start pose (the left one; the right one has x mirrored).
HAND_FOCUS = (-0.168937, 0.5, 0.320176)


def table_scene(sides: Sequence[str]) -> mujoco.MjSpec:
    """Table, light, cameras and the arms of the given sides, in that order.

    Cameras: "top", "angle", "front_close" (looks at the focus of the first hand) and "left_wrist"
    or "right_wrist" for each arm. All are fixed to what carries them; the published ones turn to
    keep their target in the middle, which is the same in the start pose. With the environment
    variable `ARP_JAX_ALOHA_MESHES` naming a folder of vx300s_*.stl files, arms look like those in
    MuJoCo's own renderer.
    """
    spec = scene.new_scene(TIMESTEP, ls_iterations=LS_ITERATIONS)
    world = spec.worldbody
    world.add_geom(
        name=TABLE,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=TABLE_HALF,
        pos=TABLE_CENTER,
        rgba=TABLE_COLOR,
        material="matte",
    )
    middle = (0.0, 0.6, 0.0)
    x, y, z = HAND_FOCUS
    focus = (x if sides[0] == "left" else -x, y, z)
    scene.add_camera_looking_at(world, "top", (0, 0.6, 0.8), middle, FOVY)
    scene.add_camera_looking_at(world, "angle", (0, 0, 0.6), middle, FOVY)
    scene.add_camera_looking_at(world, "front_close", (0, 0.2, 0.4), focus, FOVY)
    folder = arm.mesh_folder()
    if folder is not None:
        arm.add_meshes(spec, folder)
    for side in sides:
        arm.add_arm(spec, side, meshes=folder is not None)
    return spec


def add_free_body(spec: mujoco.MjSpec, name: str) -> Any:
    """A free body with the published mass, inertia and friction loss; returns the MjSpec body."""
    body = spec.worldbody.add_body(
        name=name,
        mass=OBJECT_MASS,
        ipos=[0, 0, 0],  # without it MuJoCo takes the body's own place for the centre of mass
        inertia=OBJECT_INERTIA,
        explicitinertial=True,
    )
    joint = body.add_freejoint(name=name)
    joint.frictionloss = OBJECT_FRICTION_LOSS
    return body


def add_box(
    body: Any,
    name: str,
    half: Sequence[float],
    color: Sequence[float],
    pos: Sequence[float] = (0.0, 0.0, 0.0),
) -> None:
    """A box geom on a body; half sizes and place in m."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=list(half),
        pos=list(pos),
        rgba=list(color),
        mass=0,
    )


def pads(sides: Sequence[str]) -> list[str]:
    """Names of the finger pads of the given arms."""
    return [f"{side}/{finger}_pad" for side in sides for finger in viperx.FINGERS]


def add_object_pairs(spec: mujoco.MjSpec, sides: Sequence[str], objects: Sequence[str]) -> None:
    """Lets geoms of free objects touch the table and the pads, and the pads the table."""
    for pad in pads(sides):
        scene.add_pair(spec, TABLE, pad, condim=1)
        for geom in objects:
            scene.add_pair(spec, pad, geom)
    for geom in objects:
        scene.add_pair(spec, TABLE, geom)
