"""Push primitives for Push-T: "go round the block on a circle, then push at a perimeter point".

In: the agent's last target, the block pose and the parameters of a primitive. Out: a way (polyline
with two speeds) and the agent targets along it at given control steps. Everything is for one
primitive and unbatched; the planner vmaps. No physics and no cost here: `push_t_planner` rolls the
targets out and compares.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from arp_jax.sim.push_t import geometry

PERIMETER_SPACING = 6.0  # px between candidate contact points
CORNER_MARGIN = 3.0  # px kept from a corner, where the contact normal is ambiguous
CIRCLE_RADIUS = 105.0  # px; the block reaches 76 px from its centre of gravity, the agent 15 more
CIRCLE_POINTS = 6  # vertices of the polyline that stands for the arc
STRAIGHT_ANGLE = 0.6  # rad; a nearer contact point is approached straight
APPROACH_GAP = 7.0  # px between the agent's rim and the block before the push
TARGET_MARGIN = 5.0  # px kept from the border of the action range


def _perimeter() -> tuple[np.ndarray, np.ndarray]:
    """Contact points [P, 2] on the block's outline and their outward normals [P, 2], body frame."""
    outline = np.asarray(geometry.OUTLINE, np.float64)
    points, normals = [], []
    for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        edge = end - start
        length = float(np.linalg.norm(edge))
        fractions = np.linspace(0.0, 1.0, max(2, int(length // PERIMETER_SPACING)))
        fractions = np.clip(fractions, CORNER_MARGIN / length, 1.0 - CORNER_MARGIN / length)
        points.append(start + fractions[:, None] * edge)
        normals.append(np.tile(np.array([edge[1], -edge[0]]) / length, (len(fractions), 1)))
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
    )


POINTS, NORMALS = _perimeter()


@struct.dataclass
class Primitive:
    """Parameters of a push; every field is a float32 scalar (or an array of them under vmap).

    contact: index into POINTS (its integer part counts). angle: rad between the inward normal and
    the push. length: px from touching to the end of the push. speed: px per step while pushing.
    detour: above 0.8 the agent goes round the longer way.
    """

    contact: Array
    angle: Array
    length: Array
    speed: Array
    detour: Array


def sample(key: Array, travel_speed: Array) -> Primitive:
    """Draws a primitive; the push is at most as fast as the way round (`travel_speed`, px/step)."""
    contact, angle, length, speed, detour = jax.random.split(key, 5)
    return Primitive(
        contact=jax.random.uniform(contact, maxval=len(POINTS) - 0.01),
        angle=0.35 * jax.random.normal(angle),
        # Most useful pushes are short; an exponential still proposes a few across the whole board.
        length=1.0 + 30.0 * jax.random.exponential(length),
        speed=jax.random.uniform(speed, minval=5.0, maxval=travel_speed),
        detour=jax.random.uniform(detour),
    )


def perturb(key: Array, primitive: Primitive) -> Primitive:
    """A primitive near another one, for the second round of the search."""
    noise = jax.random.normal(key, (4,))
    return dataclasses.replace(
        primitive,
        contact=jnp.clip(primitive.contact + noise[0], 0.0, len(POINTS) - 0.01),
        angle=primitive.angle + 0.1 * noise[1],
        length=jnp.maximum(primitive.length + 4.0 * noise[2], 0.5),
        speed=jnp.maximum(primitive.speed + 2.0 * noise[3], 2.0),
    )


def _rotate(angle: Array, vector: Array) -> Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = vector[..., 0], vector[..., 1]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _wrap(angle: Array) -> Array:
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi


@struct.dataclass
class Way:
    """The polyline that an agent's target follows, and how fast.

    vertices: [CIRCLE_POINTS + 3, 2] px: start, arc, approach point, end of the push. travel_speed,
    push_speed: px per control step before and after the approach point.
    """

    vertices: Array
    travel_speed: Array
    push_speed: Array


def way_of(start: Array, block: Array, primitive: Primitive, travel_speed: Array) -> Way:
    """The way of a primitive.

    Args:
        start: [2] px, the target commanded last (so that consecutive plans join without a jump).
        block: [3] block pose: body origin px, angle rad.
        primitive: what to do.
        travel_speed: px per step on the way to the approach point.
    """
    index = primitive.contact.astype(jnp.int32)
    origin, angle = block[:2], block[2]
    point = origin + _rotate(angle, jnp.asarray(POINTS)[index])
    normal = _rotate(angle, jnp.asarray(NORMALS)[index])
    touch = point + geometry.AGENT_RADIUS * normal
    approach = touch + APPROACH_GAP * normal
    end = touch - primitive.length * _rotate(primitive.angle, normal)

    centre = geometry.center_of_gravity(block)
    from_centre, to_centre = start - centre, approach - centre
    first = jnp.arctan2(from_centre[1], from_centre[0])
    turn = _wrap(jnp.arctan2(to_centre[1], to_centre[0]) - first)
    turn = jnp.where(primitive.detour > 0.8, turn - jnp.sign(turn) * 2 * jnp.pi, turn)
    fractions = jnp.linspace(0.0, 1.0, CIRCLE_POINTS)
    directions = first + fractions * turn
    arc = centre + CIRCLE_RADIUS * jnp.stack([jnp.cos(directions), jnp.sin(directions)], axis=-1)
    straight = start + fractions[:, None] * (approach - start)
    middle = jnp.where(jnp.abs(turn) > STRAIGHT_ANGLE, arc, straight)
    vertices = jnp.concatenate([start[None], middle, approach[None], end[None]])
    return Way(
        vertices=jnp.clip(vertices, TARGET_MARGIN, geometry.WORLD_SIZE - TARGET_MARGIN),
        travel_speed=travel_speed,
        push_speed=primitive.speed,
    )


def _edge_lengths(way: Way) -> tuple[Array, list[Array]]:
    """Lengths [V-1] of the edges and the distances along the way at which each vertex lies."""
    edges = way.vertices[1:] - way.vertices[:-1]
    lengths = jnp.sqrt(edges[:, 0] ** 2 + edges[:, 1] ** 2) + 1e-3
    # A scalar running sum: jnp.cumsum may associate differently when batch shapes change.
    offsets = [jnp.zeros_like(lengths[0])]
    for index in range(lengths.shape[0]):
        offsets.append(offsets[-1] + lengths[index])
    return lengths, offsets


def arrival(way: Way) -> Array:
    """Control steps (float) after which the target reaches the approach point."""
    return _edge_lengths(way)[1][-2] / way.travel_speed


def targets(way: Way, times: Array) -> Array:
    """Agent targets [T, 2] (px) at the control steps `times` [T]; time 0 is the start."""
    lengths, offsets = _edge_lengths(way)
    before_push, total = offsets[-2], offsets[-1]
    travelled = times * way.travel_speed
    pushed = before_push + (times - before_push / way.travel_speed) * way.push_speed
    along = jnp.clip(jnp.where(travelled < before_push, travelled, pushed), 0.0, total)  # [T]
    result = jnp.broadcast_to(way.vertices[0], (times.shape[0], 2))
    for index in range(lengths.shape[0]):
        fraction = jnp.clip((along - offsets[index]) / lengths[index], 0.0, 1.0)[:, None]
        on_edge = way.vertices[index] + fraction * (way.vertices[index + 1] - way.vertices[index])
        result = jnp.where((along >= offsets[index])[:, None], on_edge, result)
    return result
