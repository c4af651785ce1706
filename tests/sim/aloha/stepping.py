"""Steps an ALOHA task in plain MuJoCo: what tests hold our readings against."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from arp_jax.sim.task import Task
from tests.sim.readings import read


def started(task: Task, initial: np.ndarray) -> mujoco.MjData:
    """MuJoCo's state at the start of an episode."""
    data = mujoco.MjData(task.load_model())
    data.qpos[:] = np.asarray(task.start(jnp.asarray(initial, jnp.float32)).qpos)
    mujoco.mj_forward(task.load_model(), data)
    return data


def roll_out(
    task: Task, initial: np.ndarray, actions: np.ndarray
) -> Iterator[tuple[mujoco.MjData, Any]]:
    """(MuJoCo's state, Outcome) after each action; the state is one object that moves on."""
    model, data = task.load_model(), started(task, initial)
    readings = read(task, data)
    memory = task.start_memory(jnp.asarray(initial), readings)
    control, remember = jax.jit(task.control), jax.jit(task.remember)
    outcome = jax.jit(task.outcome)
    for action in actions:
        data.ctrl[:] = np.asarray(control(action, readings, memory))[0]
        mujoco.mj_step(model, data, task.substeps)
        # Positions of bodies and contacts of this very time.
        mujoco.mj_forward(model, data)
        readings = read(task, data)
        memory = remember(memory, readings, action)
        yield data, outcome(readings, memory)
