"""Push-T's board on the myCobot's table: px <-> metres, and the T and walls as MuJoCo bodies.

In: Push-T's pixel world (x right, y down, angle clockwise in the picture). Out: metres in the
arm's world (x to the front, y to the left), seen from above with the far edge on top. 512 px are
0.2048 m, so that the arm reaches every target of the board with its tool upright. The T slides on
three planar joints at its centre of gravity. No arm, no task.
"""

import jax.numpy as jnp
import mujoco
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.push_t import geometry
from arp_jax.sim.scene import add_pair

SCALE = 4e-4  # m per px
CENTER = (0.226, 0.0)  # m, where px (256, 256) is
THICKNESS = 0.02  # m, of the T; the tool's sphere runs at half of it
TOOL_HEIGHT = THICKNESS / 2
BLOCK = ("block_x", "block_y", "block_yaw")
# The public engine forgets the T's velocity every 10 ms: it coasts v * 0.01 s. Damping of 1/10 ms
# in every direction, in proportion to mass and inertia, gives the same way and the same turning
# under a frictionless push. It is light, so that the arm's servos do not feel it.
BLOCK_MASS = 0.005  # kg
BLOCK_INERTIA = BLOCK_MASS * geometry.BLOCK_INERTIA * SCALE**2  # kg m^2, shape of the public T
DAMPING_RATE = 1.0 / geometry.SUBSTEP_SECONDS  # 1/s
_GOAL_COLOR, _BLOCK_COLOR, _WALL_COLOR = (
    (0.56, 0.93, 0.56, 1.0),
    (0.47, 0.53, 0.6, 1.0),
    (0.83, 0.83, 0.83, 1.0),
)
_MIDDLE = geometry.WORLD_SIZE / 2


def to_world(px: ArrayLike) -> Array:
    """Board points [..., 2] px -> x, y [..., 2] m."""
    px = jnp.asarray(px)
    forward = (_MIDDLE - px[..., 1]) * SCALE + CENTER[0]
    left = (_MIDDLE - px[..., 0]) * SCALE + CENTER[1]
    return jnp.stack([forward, left], -1)


def to_px(world: ArrayLike) -> Array:
    """x, y [..., 2] m -> board points [..., 2] px; inverse of `to_world`."""
    world = jnp.asarray(world)
    right = _MIDDLE - (world[..., 1] - CENTER[1]) / SCALE
    downwards = _MIDDLE - (world[..., 0] - CENTER[0]) / SCALE
    return jnp.stack([right, downwards], -1)


def block_pose(joints: Array) -> Array:
    """The T's three joints [3] (m, m, rad) -> Push-T's pose [3]: body origin px, angle rad."""
    center, angle = to_px(joints[:2]), -joints[2]
    arm = geometry.CENTER_OF_GRAVITY_Y
    offset = arm * jnp.stack([jnp.sin(angle), -jnp.cos(angle)])
    return jnp.append(center + offset, angle)


def block_joints(initial: Array) -> Array:
    """The T's joints [3] at a raw Push-T draw [5]: see `push_t/dynamics.reset`."""
    center = jnp.stack([initial[2], initial[3] + geometry.CENTER_OF_GRAVITY_Y])
    return jnp.append(to_world(center), -initial[4])


def add_board(spec: mujoco.MjSpec, tool: str) -> None:
    """Adds the T, its goal mark and four walls; geom `tool` and the walls push the T."""
    world = spec.worldbody
    goal = world.add_body(
        name="goal",
        pos=[*_world(geometry.GOAL_POSE[:2]), 0.0],
        quat=_turn(-geometry.GOAL_POSE[2]),
    )
    _add_boxes(goal, "goal_", 0.001, 0.0, 0.0, _GOAL_COLOR)
    block = world.add_body(name="block", pos=[0, 0, 0])
    for name, axis, kind, damping in zip(
        BLOCK,
        ([1, 0, 0], [0, 1, 0], [0, 0, 1]),
        ("SLIDE", "SLIDE", "HINGE"),
        (BLOCK_MASS, BLOCK_MASS, BLOCK_INERTIA),
        strict=True,
    ):
        block.add_joint(
            name=name,
            type=getattr(mujoco.mjtJoint, f"mjJNT_{kind}"),
            axis=axis,
            damping=damping * DAMPING_RATE,
        )
    block.explicitinertial = True
    block.mass, block.inertia = BLOCK_MASS, [BLOCK_INERTIA] * 3
    cog = geometry.CENTER_OF_GRAVITY_Y
    _add_boxes(block, "", THICKNESS / 2, THICKNESS / 2, cog, _BLOCK_COLOR)
    for part in ("bar", "stem"):
        _add_contact(spec, tool, part)
    _add_walls(spec)


def _add_boxes(body, prefix: str, half: float, height: float, origin_y: float, color) -> None:
    """Bar and stem in a body whose origin is px (0, origin_y) of the T's own frame."""
    for name, ((x0, y0), (x1, y1)) in zip(("bar", "stem"), geometry.BOXES, strict=True):
        middle = ((x0 + x1) / 2, (y0 + y1) / 2 - origin_y)
        body.add_geom(
            name=prefix + name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[-middle[1] * SCALE, -middle[0] * SCALE, height],
            size=[(y1 - y0) / 2 * SCALE, (x1 - x0) / 2 * SCALE, half],
            mass=0.0,
            material="matte",
            rgba=list(color),
        )


def _add_walls(spec: mujoco.MjSpec) -> None:
    """Four planes that only the T meets (the agent goes through them, as in Push-T)."""
    low = geometry.WALL_LOW + geometry.WALL_RADIUS
    high = geometry.WALL_HIGH - geometry.WALL_RADIUS
    along, tall = 0.5 * geometry.WORLD_SIZE * SCALE, 0.01
    # A plane's own x and y axes follow from its normal: one of them is the vertical.
    lying, standing = [along, tall, 0.01], [tall, along, 0.01]
    walls = (
        ("left", (low, _MIDDLE), [0, -1, 0], lying),
        ("right", (high, _MIDDLE), [0, 1, 0], lying),
        ("far", (_MIDDLE, low), [-1, 0, 0], standing),
        ("near", (_MIDDLE, high), [1, 0, 0], standing),
    )
    for name, place, normal, size in walls:
        spec.worldbody.add_geom(
            name=f"wall_{name}",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            pos=[*_world(place), 0.0],
            zaxis=normal,
            size=size,
            material="matte",
            rgba=list(_WALL_COLOR),
        )
        for part in ("bar", "stem"):
            _add_contact(spec, f"wall_{name}", part)


def _add_contact(spec: mujoco.MjSpec, one: str, part: str) -> None:
    """Frictionless: neither the public T nor this one sticks to what pushes it."""
    add_pair(spec, one, part, condim=1, solref=(0.0125, 1.0), solimp=(0.98, 0.999, 0.0002, 0.5, 2))


def _world(px: tuple[float, ...]) -> tuple[float, float]:
    return (
        (_MIDDLE - px[1]) * SCALE + CENTER[0],
        (_MIDDLE - px[0]) * SCALE + CENTER[1],
    )


def _turn(yaw: float) -> list[float]:
    half = float(yaw) / 2
    return [float(jnp.cos(half)), 0.0, 0.0, float(jnp.sin(half))]
