"""The Panda's kinematics against its published parameters, and that it holds its pose."""

import mujoco
import numpy as np
import pytest

from arp_jax.sim.tabletop import arm

# Franka's Denavit-Hartenberg parameters in Craig's convention: a (m), d (m), alpha (rad).
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
    (0.0, 0.107, 0.0),
)
TOOL_OFFSET = 0.1034  # flange to the middle of the finger tips, published for the Franka Hand


@pytest.fixture(scope="module")
def model():
    return arm.new_tabletop().compile()


def published_tool_position(joints):
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(DH, (*joints, -np.pi / 4), strict=True):
        c, s, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [c, -s, 0, a],
                [s * ca, c * ca, -sa, -d * sa],
                [s * sa, c * sa, ca, d * ca],
                [0, 0, 0, 1],
            ]
        )
    return (pose @ [0, 0, TOOL_OFFSET, 1])[:3] + arm.FOOT


def test_forward_kinematics_are_the_published_ones(model):
    data = mujoco.MjData(model)
    limits = model.jnt_range[:7]
    for q in np.random.default_rng(0).uniform(limits[:, 0], limits[:, 1], (50, 7)):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site(arm.TOOL).xpos, published_tool_position(q), atol=1e-6)


def test_limits_are_the_published_ones(model):
    low = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    high = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    np.testing.assert_allclose(model.jnt_range[:7], np.stack([low, high], 1))
    np.testing.assert_allclose(model.actuator_forcerange[:7, 1], [87] * 4 + [12] * 3)


def test_gravity_is_compensated(model):
    data = mujoco.MjData(model)
    data.qpos[:9] = *arm.HOME, arm.FINGER_OPEN, arm.FINGER_OPEN
    data.ctrl[:] = data.qpos[:9]
    mujoco.mj_step(model, data, 400)
    np.testing.assert_allclose(data.qpos[:7], arm.HOME, atol=1e-4)


def test_cameras_of_the_spec_exist(model):
    names = [model.camera(i).name for i in range(model.ncam)]
    assert names == [camera.name for camera in arm.CAMERAS]
    assert {(camera.height, camera.width) for camera in arm.CAMERAS} == {(128, 128)}
