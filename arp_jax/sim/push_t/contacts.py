"""Contact geometry of Push-T: where the block touches the agent and the walls, and how deep.

The block's pose flows in, a fixed number of contact slots flows out: `WALL_SLOTS` for the walls and
one per box for the agent. All fields are elementwise over any batch shape; a slot without contact
is inactive. Impulses and time are `dynamics.py`'s business.
Follows Chipmunk 7 (`cpCollision.c`): circle against polygon, segment against polygon.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.push_t import geometry

# The block can make 16 wall contacts (2 boxes x 4 walls x 2 ends of an edge), but hardly ever more
# than 4 at once. Solving 4 slots instead of 16 is what makes the solver fast (8x).
WALL_SLOTS = 4
AGENT_SLOTS = len(geometry.BOXES)
NO_CONTACT = -1


class Contact(NamedTuple):
    """One contact on the block. Every field has the batch shape.

    Attributes:
        active: bool.
        key: int32, tells contacts apart from step to step; `NO_CONTACT` in an empty slot.
        arm_x, arm_y: contact point relative to the block's centre of gravity, world axes, px.
        normal_x, normal_y: unit vector that points into the block.
        distance: gap, px; negative when the shapes overlap.
        approach: speed of the other body along the normal, px/s.
    """

    active: Array
    key: Array
    arm_x: Array
    arm_y: Array
    normal_x: Array
    normal_y: Array
    distance: Array
    approach: Array


class BlockFrame(NamedTuple):
    """The block's centre of gravity and orientation, each field of the batch shape."""

    x: Array
    y: Array
    cos: Array
    sin: Array

    def to_world(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Rotates a body-frame vector into world axes."""
        return self.cos * x - self.sin * y, self.sin * x + self.cos * y


def agent_contacts(
    block: BlockFrame,
    agent: tuple[Array, Array],
    agent_velocity: tuple[Array, Array],
    bar_first: Array,
) -> tuple[Contact, ...]:
    """Contacts of the agent with the two boxes.

    Args:
        block: where the block is.
        agent: position, px.
        agent_velocity: px/s.
        bar_first: bool, order of the two (see `contact_order.py`).

    Returns:
        Two contacts in the order in which they are to be solved.
    """
    bar, stem = (
        _agent_contact(block, agent, agent_velocity, index) for index in range(AGENT_SLOTS)
    )
    first = Contact(*(jnp.where(bar_first, b, s) for b, s in zip(bar, stem, strict=True)))
    second = Contact(*(jnp.where(bar_first, s, b) for b, s in zip(bar, stem, strict=True)))
    return first, second


def _agent_contact(
    block: BlockFrame, agent: tuple[Array, Array], agent_velocity: tuple[Array, Array], index: int
) -> Contact:
    """Contact of the agent with box `index`: a circle's centre clamped to the box."""
    dx, dy = agent[0] - block.x, agent[1] - block.y
    local_x = block.cos * dx + block.sin * dy
    local_y = -block.sin * dx + block.cos * dy + geometry.CENTER_OF_GRAVITY_Y
    normal, depth = _point_to_box(local_x, local_y, geometry.BOXES[index])
    normal_x, normal_y = block.to_world(*normal)
    arm_x, arm_y = block.to_world(
        local_x + normal[0] * depth,
        local_y + normal[1] * depth - geometry.CENTER_OF_GRAVITY_Y,
    )
    return Contact(
        active=depth <= geometry.AGENT_RADIUS,
        key=jnp.full(jnp.shape(depth), index, jnp.int32),
        arm_x=arm_x,
        arm_y=arm_y,
        normal_x=normal_x,
        normal_y=normal_y,
        distance=depth - geometry.AGENT_RADIUS,
        approach=agent_velocity[0] * normal_x + agent_velocity[1] * normal_y,
    )


def _point_to_box(
    x: Array, y: Array, box: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[tuple[Array, Array], Array]:
    """Direction from a point into a box and signed distance to its surface (negative inside)."""
    (x0, y0), (x1, y1) = box
    gap_x, gap_y = jnp.clip(x, x0, x1) - x, jnp.clip(y, y0, y1) - y
    squared = gap_x * gap_x + gap_y * gap_y
    outside = squared > 1e-12
    length = jnp.sqrt(jnp.where(outside, squared, 1.0))
    # Inside: leave through the nearest face.
    left, right, bottom, top = x - x0, x1 - x, y - y0, y1 - y
    through_x = jnp.minimum(left, right) <= jnp.minimum(bottom, top)
    face_x = jnp.where(through_x, jnp.where(left <= right, 1.0, -1.0), 0.0)
    face_y = jnp.where(through_x, 0.0, jnp.where(bottom <= top, 1.0, -1.0))
    nearest = jnp.minimum(jnp.minimum(left, right), jnp.minimum(bottom, top))
    normal = (
        jnp.where(outside, gap_x / length, face_x),
        jnp.where(outside, gap_y / length, face_y),
    )
    return normal, jnp.where(outside, length, -nearest)


def wall_contacts(block: BlockFrame) -> tuple[Contact, ...]:
    """Contacts between the block and the four walls, compacted to `WALL_SLOTS`.

    A box touches a wall with the edge that faces it most, so with up to two corners. Each possible
    contact is an integer key (box, wall, side, corner); only keys are sorted into slots, and the
    geometry is computed again from the key, because that is cheaper than moving eight fields.

    Args:
        block: where the block is.

    Returns:
        `WALL_SLOTS` contacts, active ones first, ordered by box, then wall. A fifth simultaneous
        contact is dropped.
    """
    slots = [jnp.full(jnp.shape(block.x), NO_CONTACT, jnp.int32)] * WALL_SLOTS
    used = jnp.zeros(jnp.shape(block.x), jnp.int32)
    for box in range(2):
        for wall in range(4):
            for key in _edge_keys(block, box, wall):
                touching = _contact_from_key(block, key).distance <= 0.0
                for index in range(WALL_SLOTS):
                    slots[index] = jnp.where(touching & (used == index), key, slots[index])
                used = used + touching.astype(jnp.int32)
    return tuple(_contact_from_key(block, key) for key in slots)


def _edge_keys(block: BlockFrame, box: int, wall: int) -> tuple[Array, Array]:
    """Keys of the two corners of the box's edge that faces the wall, in Chipmunk's order."""
    along_x, level = wall % 2 == 0, (geometry.WALL_LOW, geometry.WALL_HIGH)[wall // 2]
    (_, y0), (_, y1) = geometry.BOXES[box]
    center_x, center_y = block.to_world(
        jnp.zeros_like(block.x),
        jnp.full_like(block.x, (y0 + y1) / 2 - geometry.CENTER_OF_GRAVITY_Y),
    )
    center = (block.x + center_x) if along_x else (block.y + center_y)
    # A box whose centre has crossed the wall is pushed out on the far side, as in Chipmunk.
    positive = center >= level
    # The wall's normal in the body frame: the facing edge lies opposite to its larger component.
    sign = jnp.where(positive, 1.0, -1.0)
    normal_x = sign * (block.cos if along_x else block.sin)
    normal_y = sign * (-block.sin if along_x else block.cos)
    right, top = normal_x < 0.0, normal_y < 0.0
    vertical_edge = jnp.abs(normal_x) > jnp.abs(normal_y)
    # Edges run (lo,lo) -> (hi,lo) -> (hi,hi) -> (lo,hi); the end of the edge comes first.
    end_right = jnp.where(vertical_edge, right, ~top)
    end_top = jnp.where(vertical_edge, right, top)
    start_right = jnp.where(vertical_edge, right, top)
    start_top = jnp.where(vertical_edge, ~right, top)
    base = (box * 32 + wall * 8 + 4 * positive).astype(jnp.int32)
    end = base + 2 * end_right.astype(jnp.int32) + end_top.astype(jnp.int32)
    start = base + 2 * start_right.astype(jnp.int32) + start_top.astype(jnp.int32)
    return end, start


def _contact_from_key(block: BlockFrame, key: Array) -> Contact:
    """The contact of one box corner with one wall; inactive for `NO_CONTACT`."""
    is_stem, far_wall, along_y = (key & 32) > 0, (key & 16) > 0, (key & 8) > 0
    positive, right, top = (key & 4) > 0, (key & 2) > 0, (key & 1) > 0
    dtype = block.x.dtype
    half_width = jnp.where(is_stem, geometry.STEM[1][0], geometry.BAR[1][0]).astype(dtype)
    low = jnp.where(is_stem, geometry.STEM[0][1], geometry.BAR[0][1])
    high = jnp.where(is_stem, geometry.STEM[1][1], geometry.BAR[1][1])
    corner_y = jnp.where(top, high, low).astype(dtype) - geometry.CENTER_OF_GRAVITY_Y
    arm_x, arm_y = block.to_world(jnp.where(right, half_width, -half_width), corner_y)
    sign = jnp.where(positive, 1.0, -1.0).astype(dtype)
    level = jnp.where(far_wall, geometry.WALL_HIGH, geometry.WALL_LOW).astype(dtype)
    position = jnp.where(along_y, block.y + arm_y, block.x + arm_x)
    return Contact(
        active=key >= 0,
        key=key,
        arm_x=arm_x,
        arm_y=arm_y,
        normal_x=jnp.where(along_y, 0.0, sign),
        normal_y=jnp.where(along_y, sign, 0.0),
        distance=sign * (position - level) - geometry.WALL_RADIUS,
        approach=jnp.zeros_like(arm_x),
    )
