"""Forward kinematics against a real arm's own readings, and against the simulator's chain."""

import mujoco
import numpy as np
import pytest

from arp_jax.sim.mycobot.arm import add_arm
from robot_bridge import kinematics
from tests.golden_files import golden_path, load_golden


@pytest.fixture(scope="module")
def readings():
    return load_golden(golden_path("fk320_real", "act"))


def test_25_real_readings_to_a_tenth_of_a_millimeter(readings, capsys):
    found = np.array([kinematics.controller_coords(np.radians(a)) for a in readings["angles"]])
    errors = np.linalg.norm(found[:, :3] - readings["coords"][:, :3], axis=1)
    assert len(errors) == 25
    rms = float(np.sqrt((errors**2).mean()))
    with capsys.disabled():
        print(f"\nforward kinematics: {rms:.3f} mm rms, {errors.max():.3f} mm at most", end=" ")
    assert rms < 0.1


def test_25_real_orientations(readings):
    for angles, coords in zip(np.radians(readings["angles"]), readings["coords"], strict=True):
        theirs = kinematics.rotation(tuple(np.radians(coords[3:])))
        ours = kinematics.flange_pose(angles)[:3, :3]
        turn = np.arccos(np.clip((np.trace(theirs.T @ ours) - 1) / 2, -1, 1))
        assert np.degrees(turn) < 0.05


def test_reported_angles_give_the_orientation_back():
    angles = np.random.default_rng(0).uniform(-2, 2, 6)
    coords = kinematics.controller_coords(angles)
    pose = kinematics.flange_pose(angles)
    np.testing.assert_allclose(
        kinematics.rotation(tuple(np.radians(coords[3:]))), pose[:3, :3], atol=1e-12
    )
    np.testing.assert_allclose(coords[:3] / 1000, pose[:3, 3], atol=1e-12)


def test_links_are_where_the_simulator_has_them_but_for_the_fitted_millimeter():
    spec = mujoco.MjSpec()
    spec.add_material(name="matte")
    add_arm(spec)
    model = spec.compile()
    data = mujoco.MjData(model)
    turned = np.diag([-1.0, -1.0, 1.0])  # the simulator's x points to the front
    poses = np.random.default_rng(1).uniform(-2.3, 2.3, (20, 6))
    frames = kinematics.link_frames(poses)
    assert frames.shape == (20, 7, 4, 4)
    for angles, links in zip(poses, frames, strict=True):
        data.qpos[:6] = angles
        mujoco.mj_kinematics(model, data)
        for index in range(1, 7):
            body = data.body(f"link{index}")
            np.testing.assert_allclose(links[index, :3, 3], turned @ body.xpos, atol=2e-3)
            np.testing.assert_allclose(
                links[index, :3, :3], turned @ body.xmat.reshape(3, 3), atol=1e-9
            )
