"""The `analytic` engine of Push-T: Chipmunk's sequential impulses, written out for one rigid body.

`reset` turns an initial condition into a `Physics`, `step` advances it by one control step (10
substeps of 0.01 s), `pose` reads it. Every array is elementwise over the batch shape, so one
environment has scalars, `vmap` gives structure of arrays, and arrays [E] work without vmap.
float32 or float64, whichever flows in. Not a general engine: no friction, no elasticity (Push-T has
none). Order of operations as in Chipmunk 7 `cpSpaceStep`: positions, collision, velocities, cached
impulses, 10 iterations; the block therefore lags the agent by one substep.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.contact_order import bar_before_stem
from arp_jax.sim.push_t.contacts import (
    AGENT_SLOTS,
    NO_CONTACT,
    WALL_SLOTS,
    BlockFrame,
    Contact,
    agent_contacts,
    wall_contacts,
)

ITERATIONS = 10
SLOP = 0.1  # px of overlap that is left uncorrected
# Share of the overlap that one substep corrects (cpSpace.collisionBias leaves 0.9^60 per second).
OVERLAP_CORRECTION = 1.0 - (0.9**60) ** geometry.SUBSTEP_SECONDS
# An arbiter without contact is remembered for fewer than this many substeps.
PERSISTENCE = 3
FORGOTTEN = 9


class Twist(NamedTuple):
    """Planar velocity of the block at its centre of gravity: px/s, px/s, rad/s."""

    x: Array
    y: Array
    spin: Array


@struct.dataclass
class Physics:
    """State of one environment; every leaf has the batch shape.

    Attributes:
        agent_x, agent_y: px.
        agent_vx, agent_vy: px/s.
        x, y: the block's centre of gravity, px.
        angle: the block's angle, rad, not wrapped.
        velocity: from impulses; it moves the block in the next substep and is then forgotten.
        bias: velocity that only removes overlap (it carries no momentum).
        wall_keys, wall_impulses: warm start of the wall slots, matched by contact key.
        bar_first: bool, order of the agent slots, as the reset left it in Chipmunk's tree.
        agent_impulses, agent_ages: warm start of the agent slots; substeps since last contact.
    """

    agent_x: Array
    agent_y: Array
    agent_vx: Array
    agent_vy: Array
    x: Array
    y: Array
    angle: Array
    velocity: Twist
    bias: Twist
    wall_keys: tuple[Array, ...]
    wall_impulses: tuple[Array, ...]
    bar_first: Array
    agent_impulses: tuple[Array, ...]
    agent_ages: tuple[Array, ...]


class _Row(NamedTuple):
    """One contact as a constraint row of the iterations."""

    contact: Contact
    lever: Array  # arm x normal
    mass: Array  # effective mass along the normal, 0 when inactive
    push_out: Array  # velocity that corrects the overlap, px/s
    impulse: Array  # initial value of the accumulated impulse
    apply_cached: Array  # whether that initial value is also applied to the block


def reset(initial: ArrayLike) -> Physics:
    """The state after gym-pusht's reset.

    The reference sets the block's position at angle 0 and then its angle, which turns it about the
    centre of gravity (so the body origin moves), and runs one substep.

    Args:
        initial: [..., 5] agent x, y, block x, y (px), angle (rad).

    Returns:
        A resting state of batch shape [...].
    """
    initial = jnp.asarray(initial)
    initial = initial.astype(jnp.promote_types(initial.dtype, jnp.float32))
    zero = jnp.zeros_like(initial[..., 0])
    resting = Twist(zero, zero, zero)
    physics = Physics(
        agent_x=initial[..., 0],
        agent_y=initial[..., 1],
        agent_vx=zero,
        agent_vy=zero,
        x=initial[..., 2],
        y=initial[..., 3] + geometry.CENTER_OF_GRAVITY_Y,
        angle=initial[..., 4],
        velocity=resting,
        bias=resting,
        wall_keys=(jnp.full_like(zero, NO_CONTACT, jnp.int32),) * WALL_SLOTS,
        wall_impulses=(zero,) * WALL_SLOTS,
        bar_first=zero < 0,
        agent_impulses=(zero,) * AGENT_SLOTS,
        agent_ages=(jnp.full_like(zero, FORGOTTEN, jnp.int32),) * AGENT_SLOTS,
    )
    physics = dataclasses.replace(physics, bar_first=bar_before_stem(pose(physics)[1]))
    return substep(physics)


def step(physics: Physics, action: ArrayLike) -> Physics:
    """One control step (0.1 s).

    Args:
        physics: batch shape [...].
        action: [..., 2] target position of the agent, px. Not clipped.

    Returns:
        The state 10 substeps later.
    """
    action = jnp.asarray(action, physics.x.dtype)

    def advance(physics: Physics, _: None) -> tuple[Physics, None]:
        physics = _accelerate_agent(physics, action[..., 0], action[..., 1])
        return substep(physics), None

    return jax.lax.scan(advance, physics, None, length=geometry.SUBSTEPS)[0]


def pose(physics: Physics) -> tuple[Array, Array]:
    """Agent position [..., 2] (px) and block pose [..., 3] (origin px, unwrapped angle rad)."""
    sin, cos = jnp.sin(physics.angle), jnp.cos(physics.angle)
    offset = geometry.CENTER_OF_GRAVITY_Y
    agent = jnp.stack([physics.agent_x, physics.agent_y], -1)
    block = jnp.stack([physics.x + sin * offset, physics.y - cos * offset, physics.angle], -1)
    return agent, block


def substep(physics: Physics) -> Physics:
    """One `cpSpaceStep` of 0.01 s with the agent's velocity as it stands."""
    physics = _move(physics)
    block = BlockFrame(physics.x, physics.y, jnp.cos(physics.angle), jnp.sin(physics.angle))
    # Chipmunk's order of arbiters depends on its collision tree; walls first agrees most often.
    walls = wall_contacts(block)
    agents = agent_contacts(
        block,
        (physics.agent_x, physics.agent_y),
        (physics.agent_vx, physics.agent_vy),
        physics.bar_first,
    )
    rows = [_wall_row(c, physics) for c in walls]
    rows += [
        _agent_row(c, impulse, age)
        for c, impulse, age in zip(agents, physics.agent_impulses, physics.agent_ages, strict=True)
    ]
    velocity, bias, impulses = _solve(rows)
    agent_impulses = impulses[WALL_SLOTS:]
    return dataclasses.replace(
        physics,
        velocity=velocity,
        bias=bias,
        wall_keys=tuple(c.key for c in walls),
        wall_impulses=impulses[:WALL_SLOTS],
        agent_impulses=tuple(
            jnp.where(c.active, new, old)
            for c, new, old in zip(agents, agent_impulses, physics.agent_impulses, strict=True)
        ),
        agent_ages=tuple(
            jnp.where(c.active, 0, jnp.minimum(age + 1, FORGOTTEN))
            for c, age in zip(agents, physics.agent_ages, strict=True)
        ),
    )


def _accelerate_agent(physics: Physics, target_x: Array, target_y: Array) -> Physics:
    """The controller: a critically damped spring towards the target."""

    def next_speed(target: Array, position: Array, speed: Array) -> Array:
        force = geometry.AGENT_STIFFNESS * (target - position) - geometry.AGENT_DAMPING * speed
        return speed + force * geometry.SUBSTEP_SECONDS

    return dataclasses.replace(
        physics,
        agent_vx=next_speed(target_x, physics.agent_x, physics.agent_vx),
        agent_vy=next_speed(target_y, physics.agent_y, physics.agent_vy),
    )


def _move(physics: Physics) -> Physics:
    """Integrates positions with last substep's velocities."""
    dt = geometry.SUBSTEP_SECONDS
    velocity, bias = physics.velocity, physics.bias
    return dataclasses.replace(
        physics,
        agent_x=physics.agent_x + physics.agent_vx * dt,
        agent_y=physics.agent_y + physics.agent_vy * dt,
        x=physics.x + (velocity.x + bias.x) * dt,
        y=physics.y + (velocity.y + bias.y) * dt,
        angle=physics.angle + (velocity.spin + bias.spin) * dt,
    )


def _wall_row(contact: Contact, physics: Physics) -> _Row:
    """Row of a wall contact; its warm start is the impulse of last substep's equal key."""
    cached = jnp.zeros_like(contact.distance)
    for key, impulse in zip(physics.wall_keys, physics.wall_impulses, strict=True):
        cached = jnp.where(key == contact.key, impulse, cached)
    return _row(contact, cached, contact.active)


def _agent_row(contact: Contact, impulse: Array, age: Array) -> _Row:
    """Row of an agent contact.

    Chipmunk keeps the accumulated impulse of an arbiter that lost contact for less than
    `PERSISTENCE` substeps, but does not apply it at the first touch after a gap.
    """
    cached = jnp.where(age < PERSISTENCE, impulse, 0.0)
    return _row(contact, cached, contact.active & (age == 0))


def _row(contact: Contact, cached: Array, apply_cached: Array) -> _Row:
    lever = contact.arm_x * contact.normal_y - contact.arm_y * contact.normal_x
    mass = 1.0 / (1.0 / geometry.BLOCK_MASS + lever * lever / geometry.BLOCK_INERTIA)
    push_out = -OVERLAP_CORRECTION * jnp.minimum(0.0, contact.distance + SLOP)
    return _Row(
        contact=contact,
        lever=lever,
        mass=jnp.where(contact.active, mass, 0.0),
        push_out=push_out / geometry.SUBSTEP_SECONDS,
        impulse=jnp.where(contact.active, cached, 0.0),
        apply_cached=apply_cached,
    )


def _speed(twist: Twist, row: _Row) -> Array:
    """Speed of the block's contact point along the normal."""
    contact = row.contact
    return twist.x * contact.normal_x + twist.y * contact.normal_y + twist.spin * row.lever


def _push(twist: Twist, row: _Row, impulse: Array) -> Twist:
    """The twist after an impulse along the row's normal."""
    return Twist(
        twist.x + impulse * row.contact.normal_x / geometry.BLOCK_MASS,
        twist.y + impulse * row.contact.normal_y / geometry.BLOCK_MASS,
        twist.spin + impulse * row.lever / geometry.BLOCK_INERTIA,
    )


def _solve(rows: list[_Row]) -> tuple[Twist, Twist, tuple[Array, ...]]:
    """Projected Gauss-Seidel over the rows; returns velocity, bias and accumulated impulses."""
    zero = jnp.zeros_like(rows[0].lever)
    # space.damping = 0: the block's velocity is zeroed each substep, so it only moves while pushed.
    velocity = bias = Twist(zero, zero, zero)
    for row in rows:
        velocity = _push(velocity, row, jnp.where(row.apply_cached, row.impulse, 0.0))

    def iterate(_: int, carry: tuple) -> tuple:
        velocity, bias, impulses, bias_impulses = carry
        new_impulses, new_bias_impulses = [], []
        for row, impulse, bias_impulse in zip(rows, impulses, bias_impulses, strict=True):
            # An inactive row has mass 0 and impulse 0, so it stays at 0.
            wanted = bias_impulse + (row.push_out - _speed(bias, row)) * row.mass
            new_bias_impulses.append(jnp.maximum(wanted, 0.0))
            bias = _push(bias, row, new_bias_impulses[-1] - bias_impulse)
            wanted = impulse - (_speed(velocity, row) - row.contact.approach) * row.mass
            new_impulses.append(jnp.maximum(wanted, 0.0))
            velocity = _push(velocity, row, new_impulses[-1] - impulse)
        return velocity, bias, tuple(new_impulses), tuple(new_bias_impulses)

    start = (velocity, bias, tuple(r.impulse for r in rows), (zero,) * len(rows))
    velocity, bias, impulses, _ = jax.lax.fori_loop(0, ITERATIONS, iterate, start)
    return velocity, bias, impulses
