"""Signed gaps of boxes against MuJoCo's distance of the same boxes."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from arp_jax.sim.boxes import separation

XML = """
<mujoco><worldbody>
<body name="a"><freejoint/><geom name="a" type="box" size=".3 .2 .1"/></body>
<body name="b"><freejoint/><geom name="b" type="box" size=".1 .15 .25"/></body>
</worldbody></mujoco>
"""
HALF = (np.array([0.3, 0.2, 0.1]), np.array([0.1, 0.15, 0.25]))


def test_the_sign_agrees_with_mujoco():
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    gap = jax.jit(separation)
    signs = []
    for _ in range(200):
        data.qpos[:] = rng.normal(size=14) * np.tile([0.2] * 3 + [1.0] * 4, 2)
        mujoco.mj_kinematics(model, data)
        distance = mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None)
        ours = float(
            gap(
                data.geom_xpos[0],
                data.geom_xmat[0].reshape(3, 3),
                HALF[0],
                data.geom_xpos[1],
                data.geom_xmat[1].reshape(3, 3),
                HALF[1],
            )
        )
        if abs(distance) > 1e-4:
            assert (ours > 0) == (distance > 0), (ours, distance)
        # A separating axis never overstates the distance.
        assert ours <= max(distance, 0.0) + 1e-5
        signs.append(distance > 0)
    assert 20 < sum(signs) < 180


def test_faces_that_look_at_each_other_give_the_exact_gap():
    eye = jnp.eye(3)
    for shift, expected in ((0.41, 0.01), (0.39, -0.01)):
        offset = jnp.array([shift, 0.02, 0.03])
        found = separation(jnp.zeros(3), eye, HALF[0], offset, eye, HALF[1])
        np.testing.assert_allclose(found, expected, atol=1e-6)
