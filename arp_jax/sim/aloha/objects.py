"""ALOHA's objects: how they start, and whether two shapes touch.

In: a model, names. Out: the `start` of a task, and tests "a touches b" that are computed from
poses, never from contacts.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from arp_jax.sim.aloha.joints import START_JOINTS
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.task import Readings, Start
from arp_jax.sim.touch import touch_test

START_HEIGHT = 0.05  # m: objects fall a little at first, as published
# Two boxes nearer than this touch, m. Resting and gripped ones overlap by some hundredths of this.
TOUCH_MARGIN = 5e-4


def start_with(model: mujoco.MjModel, objects: Sequence[str]) -> Callable[[Array], Start]:
    """The `start` function of a task whose initial condition is x, y of each object in turn.

    Arms are in their start pose, objects level at `START_HEIGHT`; other bodies stand where the
    model has them.
    """
    qpos = np.array(model.qpos0)
    for joint in range(0, model.nu, len(START_JOINTS)):
        qpos[joint : joint + len(START_JOINTS)] = START_JOINTS
    places = [qpos_place(model, name) for name in objects]
    for place in places:
        qpos[place : place + 7] = (0, 0, START_HEIGHT, 1, 0, 0, 0)
    base = qpos.astype(np.float32)
    index = np.array([place + axis for place in places for axis in (0, 1)])

    def start(initial: Array) -> Start:
        return Start(qpos=jnp.asarray(base).at[index].set(initial))

    return start


def touches_any(
    model: mujoco.MjModel, geom: str, others: Sequence[str]
) -> Callable[[Readings], Array]:
    """A function readings -> bool [], whether a box touches any of the others."""
    touches = touch_test(model, geom, others, TOUCH_MARGIN)
    return lambda readings: jnp.any(touches(readings))
