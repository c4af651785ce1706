"""What an engine would report of a MuJoCo simulation."""

import jax
import jax.numpy as jnp
import mujoco

from arp_jax.sim.task import Task


def read(task: Task, data: mujoco.MjData) -> dict[str, jax.Array]:
    """The task's readings, float32, from what MuJoCo computed last."""
    values = {name: jnp.asarray(getattr(data, name), jnp.float32) for name in task.fields}
    return {n: v.reshape(-1, 3, 3) if n.endswith("xmat") else v for n, v in values.items()}
