"""How far a joint may go in one tick: speed, acceleration, and room to brake.

Everything is in units per tick (rad, or the opening of a gripper), so that no clock is needed: a
tick that comes late earns no longer step. Pure functions on arrays.
"""

import dataclasses

import numpy as np

_TOLERANCE = 1e-6  # rad; float32 actions at a limit are not a violation


def brakable_step(distance: np.ndarray, braking: float) -> np.ndarray:
    """The longest step after which a joint that brakes still stops within `distance`.

    With braking b, steps s, s - b, s - 2b ... until 0 follow, this one included; their sum is
    `distance`. 0 where no distance is left.

    Args:
        distance: [J] to where it must have stopped.
        braking: by how much a step may be shorter than the one before, > 0.
    """
    room = np.maximum(distance, 0.0)
    whole = np.floor((np.sqrt(1.0 + 8.0 * room / braking) - 1.0) / 2.0)
    return whole * braking + (room - braking * whole * (whole + 1.0) / 2.0) / (whole + 1.0)


@dataclasses.dataclass(frozen=True)
class StepLimits:
    """What holds for one tick.

    Attributes:
        low, high: [J] where targets may be.
        step: longest step.
        change: largest difference between a step and the one before.
    """

    low: np.ndarray
    high: np.ndarray
    step: float
    change: float


@dataclasses.dataclass(frozen=True)
class BoundedStep:
    """A step [J] and, per joint, what shortened it: masks [J] of limit, speed and acceleration."""

    step: np.ndarray
    limit: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray


def bounded_step(
    limits: StepLimits,
    position: np.ndarray,
    last_step: np.ndarray,
    goal: np.ndarray,
    last_goal: np.ndarray,
) -> BoundedStep:
    """The step from `position` toward `goal` that the limits allow.

    A goal that moves within the limits is followed exactly; one that jumps is approached without
    overshoot: the step's difference from the goal's own is kept brakable. Outside [low, high] the
    only way is back.

    Args:
        limits: of this tick.
        position: [J] target so far.
        last_step: [J] step that led to it.
        goal, last_goal: [J] where it should be now, and should have been a tick ago.
    """
    inside = np.clip(goal, limits.low, limits.high)
    wanted = inside - position
    moving = np.clip(
        inside - np.clip(last_goal, limits.low, limits.high), -limits.step, limits.step
    )
    behind = wanted - moving
    catch_up = np.copysign(brakable_step(np.abs(behind), limits.change), behind)
    fast = np.clip(moving + catch_up, -limits.step, limits.step)
    low = np.maximum(
        last_step - limits.change, -brakable_step(position - limits.low, limits.change)
    )
    high = np.minimum(
        last_step + limits.change, brakable_step(limits.high - position, limits.change)
    )
    # Both bounds contain 0 or brake toward it; at their meeting point rounding may swap them.
    step = np.clip(fast, np.minimum(low, high), np.maximum(low, high))
    step = np.clip(step, -limits.step, limits.step)
    step = (
        np.clip(
            position + step, np.minimum(limits.low, position), np.maximum(limits.high, position)
        )
        - position
    )
    speed = np.abs(wanted) > limits.step + _TOLERANCE
    return BoundedStep(
        step=step,
        limit=np.abs(goal - inside) > _TOLERANCE,
        speed=speed,
        acceleration=(np.abs(step - wanted) > _TOLERANCE) & ~speed,
    )
