"""Touch tests on a tiny scene, and the count of steps that tasks keep of them."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.step_count import step_count
from arp_jax.sim.touch import touch_test

MARGIN = 1e-3


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    """Three cubes of 2 cm in a row along x: 0.5 mm and 3 mm between them."""
    spec = mujoco.MjSpec()
    for name, x in (("a", 0.0), ("b", 0.0205), ("c", 0.0435)):
        spec.worldbody.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.01] * 3, pos=[x, 0, 0]
        )
    return spec.compile()


def readings_of(model: mujoco.MjModel) -> dict[str, jax.Array]:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mat = jnp.asarray(data.geom_xmat.reshape(-1, 3, 3), jnp.float32)
    return {"geom_xpos": jnp.asarray(data.geom_xpos, jnp.float32), "geom_xmat": mat}


def test_each_of_the_others_is_judged(model):
    readings = readings_of(model)
    for geom, others, expected in (
        ("a", ["b", "c"], [True, False]),
        ("b", ["a", "c"], [True, False]),
        ("c", ["b"], [False]),
    ):
        touches = touch_test(model, geom, others, MARGIN)(readings)
        np.testing.assert_array_equal(touches, expected)
    assert touch_test(model, "c", ["b"], 4e-3)(readings).all()


def test_steps_are_counted_in_all():
    start_memory, remember = step_count("high", lambda readings: readings["qpos"][0] > 1)
    memory = start_memory(jnp.zeros(2), {"qpos": jnp.full(1, 2.0)})
    counts = []
    for height in (2.0, 0.0, 3.0, 3.0):
        memory = remember(memory, {"qpos": jnp.full(1, height)}, jnp.zeros(7))
        counts.append(int(memory["high"]))
    assert counts == [1, 1, 2, 3]
