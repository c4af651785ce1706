"""Forward and inverse kinematics of a serial chain, in JAX: no simulator state, no task.

In: a MuJoCo model and a site (read once, `chain_of`), then joint positions or target poses. Out:
poses, Jacobians, joint positions. Everything is a pure function of one chain; callers vmap.
Inverse kinematics is damped least squares (Wampler 1986; Nakamura & Hanafusa 1986):
dq = J' (J J' + damping I)^-1 e, clipped to the joint limits after each iteration.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim import rotations


@dataclasses.dataclass(frozen=True)
class Link:
    """One body on the way from the world to the site; plain tuples, so that chains hash.

    Attributes:
        pos, quat: pose in the parent body's frame, m and (w, x, y, z).
        joint: place of the body's joint in the chain's `q`, or -1 for a rigid link.
        slide: whether the joint slides (else it turns).
        axis, anchor: of the joint, in the body's frame.
    """

    pos: tuple[float, ...]
    quat: tuple[float, ...]
    joint: int
    slide: bool = False
    axis: tuple[float, ...] = (0.0, 0.0, 1.0)
    anchor: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Chain:
    """A serial chain ending in a site.

    Attributes:
        links: from the world outwards.
        tip_pos, tip_quat: the site in the last body's frame.
        low, high: joint limits, rad or m; infinite for unlimited joints.
        qpos: place of each joint in the model's qpos.
    """

    links: tuple[Link, ...]
    tip_pos: tuple[float, ...]
    tip_quat: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    qpos: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of joints n."""
        return len(self.qpos)


@struct.dataclass
class Solution:
    """Joint positions [n] and what is left of the error, m and rad, both float32 []."""

    q: Array
    position_error: Array
    rotation_error: Array


def chain_of(model: mujoco.MjModel, site: str, joints: Sequence[str]) -> Chain:
    """Reads the chain from the world to a site.

    Args:
        model: the compiled model.
        site: name of the tip.
        joints: names of the joints that may move, in the order of `q`; others stay at zero.

    Raises:
        ValueError: a joint that is not between the world and the site, or is no hinge or slide.
    """
    tip = model.site(site)
    order = {model.joint(name).id: place for place, name in enumerate(joints)}
    links: list[Link] = []
    body, seen = int(tip.bodyid[0]), set()
    while body != 0:
        moving = [j for j in _joints_of(model, body) if j in order]
        if len(moving) > 1:
            raise ValueError(f"chain to {site!r}: body {model.body(body).name!r} has two joints")
        link = Link(_floats(model.body_pos[body]), _floats(model.body_quat[body]), -1)
        if moving:
            joint = moving[0]
            kind = mujoco.mjtJoint(int(model.jnt_type[joint]))
            if kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
                raise ValueError(f"chain to {site!r}: {model.joint(joint).name!r} is no hinge")
            seen.add(joint)
            link = dataclasses.replace(
                link,
                joint=order[joint],
                slide=kind == mujoco.mjtJoint.mjJNT_SLIDE,
                axis=_floats(model.jnt_axis[joint]),
                anchor=_floats(model.jnt_pos[joint]),
            )
        links.append(link)
        body = int(model.body_parentid[body])
    absent = [model.joint(j).name for j in order if j not in seen]
    if absent:
        raise ValueError(f"chain to {site!r}: joint {absent[0]!r} does not move it")
    ids = list(order)
    limited = model.jnt_limited[ids].astype(bool)
    low = np.where(limited, model.jnt_range[ids, 0], -np.inf)
    high = np.where(limited, model.jnt_range[ids, 1], np.inf)
    return Chain(
        links=tuple(reversed(links)),
        tip_pos=_floats(tip.pos),
        tip_quat=_floats(tip.quat),
        low=_floats(low),
        high=_floats(high),
        qpos=tuple(int(model.jnt_qposadr[j]) for j in ids),
    )


def _joints_of(model: mujoco.MjModel, body: int) -> range:
    first = int(model.body_jntadr[body])
    return range(first, first + int(model.body_jntnum[body]))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _walk(chain: Chain, q: Array) -> tuple[Array, Array, Array, Array]:
    """Tip position [3] and quaternion [4]; joint axes and anchors in the world, [n, 3] each.

    Rotations are composed as matrices: XLA fuses a chain of quaternion products into one kernel
    that computes shared terms again and again, and takes 10 s to compile for seven joints.
    """
    pos, turn = jnp.zeros(3), jnp.eye(3)
    axes, anchors = [jnp.zeros(3)] * chain.size, [jnp.zeros(3)] * chain.size
    for link in chain.links:
        pos = pos + turn @ jnp.array(link.pos)
        turn = turn @ _matrix(link.quat)
        if link.joint < 0:
            continue
        axis, anchor = jnp.array(link.axis), jnp.array(link.anchor)
        axes[link.joint], anchors[link.joint] = turn @ axis, pos + turn @ anchor
        if link.slide:
            pos = pos + axes[link.joint] * q[link.joint]
        else:
            turn = turn @ _turn(link.axis, q[link.joint])
            pos = anchors[link.joint] - turn @ anchor
    tip = pos + turn @ jnp.array(chain.tip_pos)
    quat = rotations.multiply(rotations.from_matrix(turn), jnp.array(chain.tip_quat))
    return tip, quat, jnp.stack(axes), jnp.stack(anchors)


def _matrix(quat: tuple[float, ...]) -> Array:
    """Constant rotation matrix [3, 3]."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.array(quat))
    return jnp.array(matrix.reshape(3, 3), jnp.float32)


def _turn(axis: tuple[float, ...], angle: Array) -> Array:
    """Rotation matrix [3, 3] about a constant unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], np.float32)
    return jnp.eye(3) + jnp.sin(angle) * cross + (1.0 - jnp.cos(angle)) * (cross @ cross)


def forward(chain: Chain, q: ArrayLike) -> tuple[Array, Array]:
    """Pose of the tip in the world: q [n] rad or m -> position [3] m, quaternion [4] wxyz."""
    tip, quat, _, _ = _walk(chain, jnp.asarray(q, jnp.float32))
    return tip, quat


def _columns(chain: Chain, tip: Array, axes: Array, anchors: Array) -> Array:
    slides = [False] * chain.size
    for link in chain.links:
        if link.joint >= 0:
            slides[link.joint] = link.slide
    slide = jnp.array(slides)[:, None]
    linear = jnp.where(slide, axes, jnp.cross(axes, tip - anchors))
    angular = jnp.where(slide, 0.0, axes)
    return jnp.concatenate([linear, angular], -1).T  # [6, n]


def jacobian(chain: Chain, q: ArrayLike) -> Array:
    """Geometric Jacobian [6, n] of the tip: linear velocity (m), then angular velocity (rad)."""
    tip, _, axes, anchors = _walk(chain, jnp.asarray(q, jnp.float32))
    return _columns(chain, tip, axes, anchors)


def solve(
    chain: Chain,
    pos: ArrayLike,
    quat: ArrayLike,
    start: ArrayLike,
    iterations: int = 20,
    damping: float = 1e-3,
) -> Solution:
    """Joint positions that bring the tip to a pose, by damped least squares.

    Args:
        chain: the arm.
        pos: target position [3], m, world.
        quat: target rotation [4], wxyz, unit.
        start: where the search begins [n]; the solution stays near it when it can.
        iterations: fixed number of steps.
        damping: added to the diagonal of J J', in m^2 and rad^2.

    Returns:
        The last iterate, within the joint limits, with its errors: an unreachable target gives the
        nearest pose that the search found, never a NaN.
    """
    target, turn = jnp.asarray(pos, jnp.float32), jnp.asarray(quat, jnp.float32)
    low, high = jnp.array(chain.low), jnp.array(chain.high)

    def error(tip: Array, now: Array) -> Array:
        rotation = rotations.to_vector(rotations.multiply(turn, rotations.conjugate(now)))
        return jnp.concatenate([target - tip, rotation])  # [6]

    def step(q: Array, _: None) -> tuple[Array, None]:
        tip, now, axes, anchors = _walk(chain, q)
        columns = _columns(chain, tip, axes, anchors)
        gram = columns @ columns.T + damping * jnp.eye(6)
        # A 6 x 6 positive matrix: Cholesky is the cheapest stable way.
        weights = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(gram), error(tip, now))
        return jnp.clip(q + columns.T @ weights, low, high), None

    q, _ = jax.lax.scan(step, jnp.asarray(start, jnp.float32), None, length=iterations)
    tip, now = forward(chain, q)
    left = error(tip, now)
    return Solution(q, jnp.linalg.norm(left[:3]), jnp.linalg.norm(left[3:]))


def track(
    chain: Chain,
    pos: ArrayLike,
    quat: ArrayLike,
    start: ArrayLike,
    iterations: int = 20,
    damping: float = 1e-3,
) -> Array:
    """Joint positions [T, n] along a path of poses [T, 3], [T, 4]; each starts from the last."""

    def follow(q: Array, pose: tuple[Array, Array]) -> tuple[Array, Array]:
        q = solve(chain, *pose, q, iterations, damping).q
        return q, q

    path = (jnp.asarray(pos, jnp.float32), jnp.asarray(quat, jnp.float32))
    return jax.lax.scan(follow, jnp.asarray(start, jnp.float32), path)[1]
