"""Puts one ViperX arm into a scene: bodies, joints, servos, grasp site and wrist camera.

In: an `MjSpec` and a side. Out: the same spec with the arm added; nothing is returned. Names are
"left/waist", "left/gripper_link", "left/left_finger_pad", "left/grasp", ... Only the pads may touch
anything, through pairs that the scene adds. No object, no table, no task.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from arp_jax.sim.aloha import viperx
from arp_jax.sim.scene import add_camera_looking_at

# Folder with the user's own vx300s_*.stl files: in pictures they replace the boxes.
MESH_VARIABLE = "ARP_JAX_ALOHA_MESHES"
LINK_COLOR, PAD_COLOR = (0.3, 0.3, 0.33, 1.0), (0.1, 0.1, 0.1, 1.0)
MILLIMETER = 1e-3


def mesh_folder() -> Path | None:
    """The folder named by `ARP_JAX_ALOHA_MESHES`, None when it is not set.

    Raises:
        ValueError: a mesh is missing there.
    """
    name = os.environ.get(MESH_VARIABLE, "")
    if not name:
        return None
    folder = Path(name).resolve()
    for stem in _mesh_stems():
        if not (folder / _file_name(stem)).is_file():
            raise ValueError(f"{MESH_VARIABLE}: {folder} has no {_file_name(stem)}; unset it")
    return folder


def add_meshes(spec: mujoco.MjSpec, folder: Path) -> None:
    """Makes the published meshes known to a scene; call once, before the arms."""
    for stem in _mesh_stems():
        path = str(folder / _file_name(stem))
        spec.add_mesh(name=stem, file=path, scale=[MILLIMETER] * 3)


def add_arm(spec: mujoco.MjSpec, side: str, meshes: bool = False) -> None:
    """Adds the arm of one side.

    Args:
        spec: the scene.
        side: "left" or "right".
        meshes: show the meshes of `add_meshes` instead of boxes.
    """
    x, angle = viperx.BASES[side]
    base = spec.worldbody.add_body(
        name=f"{side}/base",
        pos=[x, viperx.BASE_Y, 0],
        quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
    )
    _add_shapes(base, f"{side}/base", viperx.BASE_BOXES, (viperx.BASE_MESH,), meshes)
    bodies = {"base": base}
    for part in viperx.PARTS:
        body = bodies[part.parent].add_body(
            name=f"{side}/{part.body}",
            pos=part.pos,
            mass=part.mass,
            ipos=part.com,
            iquat=part.turn,
            inertia=part.inertia,
            explicitinertial=True,
        )
        bodies[part.body] = body
        _add_shapes(body, f"{side}/{part.body}", part.boxes, part.meshes, meshes)
        if part.joint:
            _add_joint(spec, body, f"{side}/{part.joint}", part)
    for finger, mirror in zip(viperx.FINGERS, (1, -1), strict=True):
        x, y, z = viperx.PAD_POS
        bodies[f"{finger}_link"].add_geom(
            name=f"{side}/{finger}_pad",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=viperx.PAD_HALF,
            pos=[x, mirror * y, z],
            rgba=PAD_COLOR,
            group=3 if meshes else 0,
        )
    hand = bodies["gripper_link"]
    hand.add_site(
        name=f"{side}/grasp", pos=viperx.GRASP_POINT, quat=viperx.GRASP_QUAT[side], group=4
    )
    add_camera_looking_at(
        hand,
        f"{side}_wrist",
        viperx.WRIST_CAMERA_POS,
        viperx.WRIST_CAMERA_TARGET,
        viperx.WRIST_CAMERA_FOVY,
    )


def _add_joint(spec: mujoco.MjSpec, body: Any, name: str, part: viperx.Part) -> None:
    kind = mujoco.mjtJoint.mjJNT_SLIDE if part.slide else mujoco.mjtJoint.mjJNT_HINGE
    body.add_joint(
        name=name,
        type=kind,
        axis=part.axis,
        limited=True,
        range=part.limits,
        frictionloss=part.friction,
        solref_friction=[part.friction_time, 1.0],
    )
    servo = spec.add_actuator(
        name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrllimited=True
    )
    servo.ctrlrange = part.limits
    servo.set_to_position(kp=part.gain)
    if part.force is not None:
        servo.forcelimited = True
        servo.forcerange = [-part.force, part.force]


def _add_shapes(
    body: Any,
    name: str,
    boxes: Sequence[tuple[viperx.Vector, viperx.Vector]],
    mesh_parts: Sequence[tuple[str, viperx.Vector, viperx.Vector]],
    meshes: bool,
) -> None:
    """What the link looks like; massless, inertias are given."""
    if meshes:
        for stem, pos, quat in mesh_parts:
            body.add_geom(
                name=f"{name}/{stem}",
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=stem,
                pos=pos,
                quat=quat,
                mass=0,
                rgba=LINK_COLOR,
            )
        return
    for index, (low, high) in enumerate(boxes):
        corner, other = np.array(low) * MILLIMETER, np.array(high) * MILLIMETER
        body.add_geom(
            name=f"{name}/{index}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(other - corner) / 2,
            pos=(other + corner) / 2,
            mass=0,
            rgba=LINK_COLOR,
        )


def _mesh_stems() -> list[str]:
    parts = [viperx.BASE_MESH] + [mesh for part in viperx.PARTS for mesh in part.meshes]
    return [stem for stem, _, _ in parts]


def _file_name(stem: str) -> str:
    return f"vx300s_{stem}.stl"
