"""Where ALOHA's objects start, and whether two shapes touch.

In: a rectangle on the table, keys, readings. Out: start positions [2], qpos with objects placed,
the factor "quadrant", and tests "a touches b" that are computed from poses, never from contacts.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from arp_jax.sim import boxes
from arp_jax.sim.aloha.joints import START_JOINTS
from arp_jax.sim.task import Factor, Readings, Start

START_HEIGHT = 0.05  # m: objects fall a little at first, as published
# Two boxes nearer than this touch, m. Resting and gripped ones overlap by some hundredths of this.
TOUCH_MARGIN = 5e-4


@dataclasses.dataclass(frozen=True)
class Area:
    """A rectangle on the table, world x and y in m."""

    x: tuple[float, float]
    y: tuple[float, float]

    def draw(self, rng: Array) -> Array:
        """A point [2], uniform."""
        low = jnp.array([self.x[0], self.y[0]])
        high = jnp.array([self.x[1], self.y[1]])
        return jax.random.uniform(rng, (2,), jnp.float32, low, high)

    def quadrant(self, name: str, place: int) -> Factor:
        """The factor that says in which quarter the point `initial[place : place + 2]` lies."""
        middle = jnp.array([sum(self.x) / 2, sum(self.y) / 2])

        def classify(initial: Array) -> Array:
            right, far = (initial[place : place + 2] >= middle).astype(jnp.int32)
            return right + 2 * far

        return Factor(name, ("near left", "near right", "far left", "far right"), classify)


def start_with(model: mujoco.MjModel, objects: Sequence[str]) -> Callable[[Array], Start]:
    """The `start` function of a task whose initial condition is x, y of each object in turn.

    Arms are in their start pose, objects level at `START_HEIGHT`; other bodies stand where the
    model has them.
    """
    qpos = np.array(model.qpos0)
    for joint in range(0, model.nu, len(START_JOINTS)):
        qpos[joint : joint + len(START_JOINTS)] = START_JOINTS
    places = [object_place(model, name) for name in objects]
    for place in places:
        qpos[place : place + 7] = (0, 0, START_HEIGHT, 1, 0, 0, 0)
    base = qpos.astype(np.float32)
    index = np.array([place + axis for place in places for axis in (0, 1)])

    def start(initial: Array) -> Start:
        return Start(qpos=jnp.asarray(base).at[index].set(initial))

    return start


def object_place(model: mujoco.MjModel, name: str) -> int:
    """Where in qpos the seven numbers of a free body begin."""
    return int(model.joint(name).qposadr[0])


def touch_test(
    model: mujoco.MjModel, geom: str, others: Sequence[str]
) -> Callable[[Readings], Array]:
    """A function readings -> bool [], whether a box touches any of the others.

    Args:
        model: where names and sizes are read; all geoms must be boxes.
        geom, others: names.
    """
    one, many = model.geom(geom).id, np.array([model.geom(name).id for name in others])
    half, halves = jnp.array(model.geom_size[one]), jnp.array(model.geom_size[many])

    def touches(readings: Readings) -> Array:
        pos, mat = readings["geom_xpos"], readings["geom_xmat"]
        gaps = jax.vmap(lambda p, m, h: boxes.separation(pos[one], mat[one], half, p, m, h))(
            pos[many], mat[many], halves
        )
        return jnp.any(gaps <= TOUCH_MARGIN)

    return touches
