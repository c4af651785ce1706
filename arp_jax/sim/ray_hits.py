"""Where rays enter MuJoCo's primitive shapes, and the surface's normal there. Pure JAX.

In: for one shape, the rays' common origin [3] and their directions (x, y, z), each [P], in the
shape's own frame; the shape's MuJoCo `size` [3]. Out: how many directions away each ray enters it
[P], infinity where it misses. Only entries from outside count, as back faces are not drawn.
Coordinates are separate arrays: no [P, 3] in the inner loop.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from mujoco import mjtGeom

Vector = tuple[Array, Array, Array]

# Keeps divisions finite; a direction's component this small never reaches a shape of our scenes.
_TINY = 1e-12


def dot(a: Vector, b: Vector) -> Array:
    """Inner products [P]."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(a: Vector) -> Vector:
    """Vectors of length 1; 0 stays 0."""
    scale = 1.0 / jnp.sqrt(jnp.maximum(dot(a, a), _TINY))
    return a[0] * scale, a[1] * scale, a[2] * scale


def _along(origin: Vector, direction: Vector, distance: Array) -> Vector:
    x, y, z = (o + distance * d for o, d in zip(origin, direction, strict=True))
    return x, y, z


def _nonzero(x: Array) -> Array:
    return jnp.where(jnp.abs(x) < _TINY, _TINY, x)


def _enter_round(o: Vector, d: Vector, radius: Array) -> Array:
    """Entry into a ball, or into an endless cylinder when z is given as 0.

    Measured from the point nearest to the centre: the usual quadratic formula loses half the digits
    of float32 for a small ball far away.
    """
    length = _nonzero(dot(d, d))
    nearest = -dot(o, d) / length
    q = _along(o, d, nearest)
    gap = radius * radius - dot(q, q)
    return jnp.where(gap > 0, nearest - jnp.sqrt(jnp.maximum(gap, 0) / length), jnp.inf)


def enter_plane(o: Vector, d: Vector, size: Array) -> Array:
    """Rectangle of half sizes size[0], size[1] (0: endless) in z = 0, seen from above only."""
    t = -o[2] / _nonzero(d[2])
    x, y, _ = _along(o, d, t)
    inside = ((size[0] <= 0) | (jnp.abs(x) <= size[0])) & ((size[1] <= 0) | (jnp.abs(y) <= size[1]))
    return jnp.where(inside & (d[2] < 0), t, jnp.inf)


def enter_sphere(o: Vector, d: Vector, size: Array) -> Array:
    """Ball of radius size[0]."""
    return _enter_round(o, d, size[0])


def enter_ellipsoid(o: Vector, d: Vector, size: Array) -> Array:
    """Ellipsoid of semi-axes size."""
    scaled_o = (o[0] / size[0], o[1] / size[1], o[2] / size[2])
    scaled_d = (d[0] / size[0], d[1] / size[1], d[2] / size[2])
    return _enter_round(scaled_o, scaled_d, jnp.ones(()))


def _enter_side(o: Vector, d: Vector, size: Array) -> Array:
    """The round side |z| <= size[1] of a cylinder of radius size[0]."""
    zero = jnp.zeros_like(d[2])
    t = _enter_round((o[0], o[1], jnp.zeros_like(o[2])), (d[0], d[1], zero), size[0])
    z = o[2] + jnp.where(jnp.isfinite(t), t, 0.0) * d[2]
    return jnp.where(jnp.abs(z) <= size[1], t, jnp.inf)


def enter_cylinder(o: Vector, d: Vector, size: Array) -> Array:
    """Cylinder of radius size[0] and half length size[1] along z."""
    # Only the cap that faces the rays' origin can be entered.
    t = (-jnp.sign(d[2]) * size[1] - o[2]) / _nonzero(d[2])
    x, y, _ = _along(o, d, t)
    cap = jnp.where(x * x + y * y <= size[0] * size[0], t, jnp.inf)
    return jnp.minimum(_enter_side(o, d, size), cap)


def enter_capsule(o: Vector, d: Vector, size: Array) -> Array:
    """Capsule of radius size[0]; its axis reaches from -size[1] to size[1] along z."""
    # The ball at the end that faces the origin, the other one, and the side between them.
    upper = _enter_round((o[0], o[1], o[2] - size[1]), d, size[0])
    lower = _enter_round((o[0], o[1], o[2] + size[1]), d, size[0])
    return jnp.minimum(jnp.minimum(upper, lower), _enter_side(o, d, size))


def enter_box(o: Vector, d: Vector, size: Array) -> Array:
    """Box of half sizes size."""
    first, last = jnp.full_like(d[0], -jnp.inf), jnp.full_like(d[0], jnp.inf)
    for axis in range(3):
        inverse = 1.0 / _nonzero(d[axis])
        a, b = (-size[axis] - o[axis]) * inverse, (size[axis] - o[axis]) * inverse
        first, last = jnp.maximum(first, jnp.minimum(a, b)), jnp.minimum(last, jnp.maximum(a, b))
    return jnp.where(first < last, first, jnp.inf)


ENTER: dict[int, Callable[[Vector, Vector, Array], Array]] = {
    int(mjtGeom.mjGEOM_PLANE): enter_plane,
    int(mjtGeom.mjGEOM_SPHERE): enter_sphere,
    int(mjtGeom.mjGEOM_CAPSULE): enter_capsule,
    int(mjtGeom.mjGEOM_ELLIPSOID): enter_ellipsoid,
    int(mjtGeom.mjGEOM_CYLINDER): enter_cylinder,
    int(mjtGeom.mjGEOM_BOX): enter_box,
}


def surface_normal(kind: Array, p: Vector, size: Vector, kinds: frozenset[int]) -> Vector:
    """Outward unit normals at surface points, in each shape's frame.

    Args:
        kind: int32 [P], mjtGeom of the shape that each point is on.
        p: the points. size: size of each point's shape, three [P].
        kinds: the values that `kind` can have.
    """
    zero, one = jnp.zeros_like(p[0]), jnp.ones_like(p[0])
    normal: Vector = (zero, zero, one)  # planes
    for shape in sorted(kinds & set(_NORMAL)):
        found = _NORMAL[shape](p, size)
        here = kind == shape
        x, y, z = (jnp.where(here, n, m) for n, m in zip(found, normal, strict=True))
        normal = x, y, z
    return unit(normal)


def _normal_box(p: Vector, size: Vector) -> Vector:
    x, y, z = (a / s for a, s in zip(p, size, strict=True))
    along_x = (jnp.abs(x) >= jnp.abs(y)) & (jnp.abs(x) >= jnp.abs(z))
    along_y = ~along_x & (jnp.abs(y) >= jnp.abs(z))
    along_z = ~along_x & ~along_y
    return jnp.sign(x) * along_x, jnp.sign(y) * along_y, jnp.sign(z) * along_z


def _normal_capsule(p: Vector, size: Vector) -> Vector:
    return p[0], p[1], p[2] - jnp.clip(p[2], -size[1], size[1])


def _normal_cylinder(p: Vector, size: Vector) -> Vector:
    radial = jnp.sqrt(p[0] * p[0] + p[1] * p[1]) - size[0]
    on_cap = jnp.abs(p[2]) - size[1] > radial
    zero = jnp.zeros_like(p[0])
    x, y = jnp.where(on_cap, zero, p[0]), jnp.where(on_cap, zero, p[1])
    return x, y, jnp.where(on_cap, jnp.sign(p[2]), zero)


def _normal_ellipsoid(p: Vector, size: Vector) -> Vector:
    return p[0] / (size[0] * size[0]), p[1] / (size[1] * size[1]), p[2] / (size[2] * size[2])


def _normal_sphere(p: Vector, size: Vector) -> Vector:
    del size
    return p


_NORMAL: dict[int, Callable[[Vector, Vector], Vector]] = {
    int(mjtGeom.mjGEOM_SPHERE): _normal_sphere,
    int(mjtGeom.mjGEOM_CAPSULE): _normal_capsule,
    int(mjtGeom.mjGEOM_ELLIPSOID): _normal_ellipsoid,
    int(mjtGeom.mjGEOM_CYLINDER): _normal_cylinder,
    int(mjtGeom.mjGEOM_BOX): _normal_box,
}
