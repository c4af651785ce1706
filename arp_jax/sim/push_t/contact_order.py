"""Which of the block's boxes Chipmunk collides first with an agent that a reset puts into both.

Sequential impulses depend on their order, and Chipmunk's order is that of its bounding-box tree.
gym-pusht builds the tree at fixed poses (agent at (256, 400), block at (256, 300), angle 0), then
moves the bodies; the step that follows re-inserts bar, stem and agent, in this order. Working
through the eight outcomes of those insertions (cpBBTree.c: a leaf joins the child whose area grows
less) leaves one comparison, made when the stem is re-inserted beside the bar's new box and the
agent's old one. Checked against pymunk: tests/sim/push_t/test_contact_order.py.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.push_t import geometry

AGENT_AT_SETUP = (256.0, 400.0)
# Leaves are boxes grown by this share of their size on each side (of resting bodies).
LEAF_MARGIN = 0.1


class Bounds(NamedTuple):
    """An axis-aligned box; every field has the batch shape."""

    x0: Array | float
    y0: Array | float
    x1: Array | float
    y1: Array | float


def bar_before_stem(block: Array) -> Array:
    """Whether the agent's contact with the bar comes before that with the stem.

    Args:
        block: [..., 3] block pose right after the reset, px and rad.

    Returns:
        bool [...].
    """
    agent_x, agent_y = AGENT_AT_SETUP
    radius = geometry.AGENT_RADIUS
    agent = _leaf(Bounds(agent_x - radius, agent_y - radius, agent_x + radius, agent_y + radius))
    bar, stem = _leaf(_bounds(block, geometry.BAR)), _leaf(_bounds(block, geometry.STEM))
    beside_bar = _area(agent) + _area(_merge(bar, stem))
    beside_agent = _area(bar) + _area(_merge(agent, stem))
    return jnp.less(beside_agent, beside_bar)


def _bounds(block: Array, box: tuple[tuple[float, float], tuple[float, float]]) -> Bounds:
    corners = geometry.transform(block, geometry.box_corners(box))  # [..., 4, 2]
    x, y = corners[..., 0], corners[..., 1]
    return Bounds(x.min(-1), y.min(-1), x.max(-1), y.max(-1))


def _leaf(b: Bounds) -> Bounds:
    dx, dy = LEAF_MARGIN * (b.x1 - b.x0), LEAF_MARGIN * (b.y1 - b.y0)
    return Bounds(b.x0 - dx, b.y0 - dy, b.x1 + dx, b.y1 + dy)


def _merge(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(
        jnp.minimum(a.x0, b.x0),
        jnp.minimum(a.y0, b.y0),
        jnp.maximum(a.x1, b.x1),
        jnp.maximum(a.y1, b.y1),
    )


def _area(b: Bounds) -> Array | float:
    return (b.x1 - b.x0) * (b.y1 - b.y0)
