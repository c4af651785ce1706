"""What every MJCF of this project has in common: options, cameras, explicit contact pairs.

In: an `MjSpec` that a task's builder fills. Out: the same spec with an element added. Geoms take
part in no contact unless a pair names them: that keeps C MuJoCo and MJX fast and their contacts the
same. No task, no compiled model.
"""

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

# Solver settings measured for these scenes: reference numbers of sim.md, section 4.
ITERATIONS, LS_ITERATIONS = 5, 8
# Impedance and time constant of contacts: stiff, critically damped.
SOLREF = (0.01, 1.0)
SOLIMP = (0.95, 0.99, 0.001, 0.5, 2.0)
FRICTION = (1.0, 1.0, 0.005, 0.0001, 0.0001)


def new_scene(
    timestep: float, iterations: int = ITERATIONS, ls_iterations: int = LS_ITERATIONS
) -> mujoco.MjSpec:
    """An empty scene in metres and radians with one light, without shadows.

    Args:
        timestep: of the physics, s.
        iterations, ls_iterations: of the Newton solver and its line search.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = timestep
    spec.option.iterations = iterations
    spec.option.ls_iterations = ls_iterations
    # MJX has no implicit damping in Euler steps; without it the engines agree.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
    getattr(spec.visual, "global").offwidth, getattr(spec.visual, "global").offheight = 1280, 960
    # From far away, so that a large face is lit alike by every renderer.
    sun = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.worldbody.add_light(pos=[0, 0, 3], dir=[0, 0, -1], type=sun, castshadow=False)
    spec.add_material(name="matte", rgba=[1, 1, 1, 1], specular=0, shininess=0)
    geom = spec.default.geom
    geom.contype, geom.conaffinity = 0, 0
    return spec


def add_pair(
    spec: mujoco.MjSpec,
    geom1: str,
    geom2: str,
    condim: int = 4,
    friction: Sequence[float] = FRICTION,
    solref: Sequence[float] = SOLREF,
    solimp: Sequence[float] = SOLIMP,
) -> None:
    """Lets two geoms touch.

    Args:
        spec: the scene.
        geom1, geom2: names.
        condim: 1 frictionless, 3 sliding friction, 4 also torsional.
        friction: two sliding, one torsional (m), two rolling coefficients.
        solref, solimp: see MuJoCo's solver parameters.
    """
    spec.add_pair(
        name=f"{geom1}--{geom2}",
        geomname1=geom1,
        geomname2=geom2,
        condim=condim,
        friction=list(friction),
        solref=list(solref),
        solimp=list(solimp),
    )


def add_camera_looking_at(
    body: Any,
    name: str,
    pos: Sequence[float],
    target: Sequence[float],
    fovy: float,
    up: Sequence[float] = (0.0, 0.0, 1.0),
) -> None:
    """A camera on a body, turned towards a point.

    Args:
        body: the MjSpec body that carries it (worldbody for a fixed camera).
        name: of the camera.
        pos, target: where it is and where it looks, both in the body's frame, m.
        fovy: vertical field of view, degrees.
        up: roughly upwards in the picture; another axis is taken when it looks along it.
    """
    back = np.asarray(pos, float) - np.asarray(target, float)
    back /= np.linalg.norm(back)
    right = np.cross(np.asarray(up, float), back)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], 1).ravel())
    body.add_camera(name=name, pos=list(pos), quat=quat, fovy=fovy)
