"""The arm: kinematics of the vendor's chain, real readings, limits, servos."""

import mujoco
import numpy as np
import pytest

from arp_jax.sim.mycobot import arm, tools
from arp_jax.sim.mycobot.bench_scene import new_bench
from tests.golden_files import golden_path, load_golden

# The vendor's URDF (320 M5 2022): xyz m, rpy rad, written down here a second time on purpose.
URDF = (
    ((0, 0, 0.1739), (0, 0, 0)),
    ((0, -0.08878, 0), (0, -np.pi / 2, np.pi / 2)),
    ((0.135, 0, -0.08878), (0, 0, 0)),
    ((0.120, 0, 0.08878), (0, 0, np.pi / 2)),
    ((0, -0.095, 0), (np.pi / 2, 0, 0)),
    ((0, 0.0655, 0), (-np.pi / 2, 0, 0)),
)


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll)."""
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return z @ y @ x


def urdf_flange(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] and rotation [3, 3] of link 6 in the vendor's base frame."""
    position, turn = np.zeros(3), np.eye(3)
    for (xyz, rpy), angle in zip(URDF, angles, strict=True):
        position = position + turn @ np.array(xyz)
        turn = turn @ rotation(*rpy) @ rotation(0, 0, angle)
    return position, turn


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    spec, flange = new_bench("peg")
    tools.add_peg(flange, 0.006, 0.012)
    return spec.compile()


def flange(model: mujoco.MjModel, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flange pose of the model in the controller's base frame."""
    data = mujoco.MjData(model)
    data.qpos[:] = angles
    mujoco.mj_kinematics(model, data)
    half_turn = np.diag([-1.0, -1.0, 1.0])
    return half_turn @ data.body("link6").xpos, half_turn @ data.body("link6").xmat.reshape(3, 3)


def test_kinematics_equal_the_vendors_chain(model):
    rng = np.random.default_rng(0)
    for angles in rng.uniform(-1, 1, (100, 6)) * arm.LIMITS:
        found, turn = flange(model, angles)
        expected, expected_turn = urdf_flange(angles)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(turn, expected_turn, atol=1e-6)
    np.testing.assert_allclose(flange(model, np.zeros(6))[0], [0, -0.1543, 0.5239], atol=1e-4)


def test_kinematics_agree_with_a_real_arm(model):
    """Readings of a real arm: 1.06 mm rms with the nominal lengths, turned by < 0.05 degrees."""
    data = load_golden(golden_path("fk320_real", "act"))
    errors, turns = [], []
    for angles, coords in zip(data["angles"], data["coords"], strict=True):
        position, turn = flange(model, np.radians(angles))
        errors.append(np.linalg.norm(position * 1e3 - coords[:3]))
        left = turn.T @ rotation(*np.radians(coords[3:]))
        turns.append(np.degrees(np.arccos(np.clip((np.trace(left) - 1) / 2, -1, 1))))
    assert len(errors) == 25
    assert np.sqrt(np.mean(np.square(errors))) < 1.1
    assert max(turns) < 0.05


def test_limits_are_the_smallest_published_ones(model):
    sdk = np.radians([168, 135, 145, 145, 168, 180])
    urdf = np.array([2.93, 2.35, 2.53, 2.58, 2.93, 3.14])
    expected = np.minimum(sdk, urdf)
    np.testing.assert_allclose(model.jnt_range[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(model.jnt_range[:, 0], -expected, atol=1e-6)
    np.testing.assert_allclose(model.actuator_ctrlrange[:, 1], expected - np.radians(2), atol=1e-6)
    assert (np.abs(arm.HOME) < arm.COMMAND_LIMITS).all()


def test_the_arm_weighs_what_the_vendor_says():
    total = arm.BASE_MASS + sum(segment.mass for segment in arm.SEGMENTS)
    assert total == pytest.approx(3.3)


def test_servos_follow_a_ramp_a_fifth_of_a_second_late(model):
    data = mujoco.MjData(model)
    data.qpos[:] = arm.HOME
    speed = 0.4  # rad/s, every joint at once
    steps = 200
    for step in range(steps):
        data.ctrl[:] = np.array(arm.HOME) + speed * model.opt.timestep * step
        mujoco.mj_step(model, data)
    lag = (data.ctrl - data.qpos) / speed
    assert ((lag > 0.1) & (lag < 0.3)).all(), lag


def test_servos_hold_against_gravity_and_are_limited_in_speed(model):
    data = mujoco.MjData(model)
    data.qpos[:] = arm.HOME
    data.ctrl[:] = arm.HOME
    for _ in range(200):
        mujoco.mj_step(model, data)
    np.testing.assert_allclose(data.qpos, arm.HOME, atol=1e-4)
    data.ctrl[0] = arm.HOME[0] + 2.5
    fastest = 0.0
    for _ in range(400):
        mujoco.mj_step(model, data)
        fastest = max(fastest, data.qvel[0])
    assert 0.9 * arm.SERVOS[0].max_speed < fastest < 1.05 * arm.SERVOS[0].max_speed
    assert data.qpos[0] == pytest.approx(data.ctrl[0], abs=2e-3)
