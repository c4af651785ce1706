"""Which boxes of a model touch? Tests on readings, so that every engine gives the same answer.

In: a model, names of box geoms, a margin. Out: a pure function of readings. Contacts are never
read; `boxes.py` has the geometry.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from arp_jax.sim import boxes
from arp_jax.sim.task import Readings


def touch_test(
    model: mujoco.MjModel, geom: str, others: Sequence[str], margin: float
) -> Callable[[Readings], Array]:
    """A function readings -> bool [len(others)]: which of `others` does `geom` touch?

    Args:
        model: where names and sizes are read; all geoms must be boxes.
        geom, others: names.
        margin: boxes at most that far apart touch, m.
    """
    one, many = model.geom(geom).id, np.array([model.geom(name).id for name in others])
    half, halves = jnp.array(model.geom_size[one]), jnp.array(model.geom_size[many])

    def touches(readings: Readings) -> Array:
        pos, mat = readings["geom_xpos"], readings["geom_xmat"]
        gaps = jax.vmap(lambda p, m, h: boxes.separation(pos[one], mat[one], half, p, m, h))(
            pos[many], mat[many], halves
        )
        return gaps <= margin

    return touches
