"""The digital twin: it is the simulated arm, and it behaves like the real one at its plug."""

import subprocess
import sys
import threading
import time
from contextlib import closing

import mujoco
import numpy as np
import pytest

from arp_jax.sim.mycobot import bench_scene
from robot_bridge.arm import HOME, LIMITS
from robot_bridge.kinematics import flange_pose
from robot_bridge.robots import RobotError
from robot_bridge.twin.twin_physics import STEP_NS, TOOLS, TwinPhysics
from robot_bridge.twin.twin_robot import TwinRobot

TICK_NS = 20_000_000
POSE = np.array([0.5, 0.2, 0.3, 0.0, -1.5, 0.3])


def read(twin):
    """The newest reading, of a twin that has one."""
    reading = twin.read()
    assert reading is not None
    return reading


class Bench:
    """A twin whose time is moved by hand."""

    def __init__(self, **options):
        self.now = 5_000_000_000
        self.twin = TwinRobot(real_time=False, now_ns=lambda: self.now, **options)
        self.twin.connect()

    def pass_time(self, seconds):
        end = self.now + round(seconds * 1e9)
        while self.now < end:
            self.now += TICK_NS
            self.twin.advance(self.now)
        return read(self.twin)


@pytest.fixture
def bench():
    bench = Bench()
    with closing(bench.twin):
        yield bench


def test_it_moves_like_the_simulated_tasks_arm(bench):
    """The same commands through the tasks' own model, step for step; only the table differs."""
    model = bench_scene.new_gripper_bench("adaptive")[0].compile()
    data = mujoco.MjData(model)
    data.qpos[:] = bench.twin.positions()
    for tick in range(20):
        command = np.array(HOME) + 0.1 * np.sin(0.3 * tick * np.arange(1, 7))
        opening = 0.5 + 0.5 * np.cos(tick)
        bench.twin.write(command, opening)
        data.ctrl[:] = [*command, 0.0225 * opening, 0.0225 * opening]
        mujoco.mj_step(model, data, nstep=20)
        bench.pass_time(20 * STEP_NS / 1e9)
        np.testing.assert_allclose(bench.twin.positions(), data.qpos, atol=1e-12)


def test_a_ramp_is_followed_a_fifth_of_a_second_late(bench):
    for tick in range(150):
        target = np.array(HOME)
        target[0] += 0.2 * tick * TICK_NS / 1e9
        bench.twin.write(target, None)
        bench.pass_time(TICK_NS / 1e9)
    behind = target[0] - read(bench.twin).angles[0]
    # A target that stands for a tick is on average half of it old.
    assert behind / 0.2 == pytest.approx(0.2 - TICK_NS / 2e9, abs=0.01)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_reaches_its_target(tool):
    bench = Bench(tool=tool)
    bench.twin.write(POSE, 0.25)
    reading = bench.pass_time(3.0)
    np.testing.assert_allclose(reading.angles, POSE, atol=1e-3)
    assert reading.gripper == pytest.approx(0.25, abs=1e-3)
    assert reading.gripper_measured == (tool in ("adaptive", "force"))
    assert (reading.powered, reading.error) == (True, 0)


def test_kinematics_agree_up_to_the_fitted_lengths():
    """Nominal lengths here, those of 25 readings there: 1 mm apart in each link, no angle."""
    rng = np.random.default_rng(0)
    physics = TwinPhysics("none", np.zeros(6))
    distances = []
    for angles in rng.uniform(-1, 1, (200, 6)) * LIMITS:
        physics._data.qpos[:] = angles
        position, rotation = physics.flange()
        pose = flange_pose(angles)
        distances.append(np.linalg.norm(position - pose[:3, 3]))
        np.testing.assert_allclose(rotation, pose[:3, :3], atol=1e-9)
    # d4 is 1.05 mm shorter, the others at most 0.04 mm.
    assert max(distances) < 1.15e-3
    assert np.mean(distances) > 0.9e-3


def test_kinematics_agree_with_the_real_arm(shared_dir):
    readings = np.load(shared_dir / "golden/act/fk320_real.npz")
    physics = TwinPhysics("none", np.zeros(6))
    squares = []
    for degrees, coords in zip(readings["angles"], readings["coords"], strict=True):
        physics._data.qpos[:] = np.radians(degrees)
        squares.append(np.sum((1000 * physics.flange()[0] - coords[:3]) ** 2))
    assert np.sqrt(np.mean(squares)) < 1.2  # mm


def test_a_hold_brakes_without_turning_back(bench):
    bench.twin.write(np.add(HOME, [1.0, -0.5, -0.5, 0.5, 1.0, 0.5]), None)
    before = bench.pass_time(0.2).angles
    speed = bench.twin.speeds()
    bench.twin.hold()
    places = [bench.pass_time(0.02).angles for _ in range(100)]
    way = (places[-1] - before) * np.sign(speed)
    assert np.abs(speed).max() > 0.5
    # Exponential braking with the servos' 10 rad/s.
    np.testing.assert_allclose(way, np.abs(speed) / 10.0, rtol=0.05, atol=1e-3)
    steps = np.diff([before, *places], axis=0) * np.sign(speed)
    assert steps.min() > -1e-4


def test_the_newest_target_wins_and_a_hold_drops_it(bench):
    bench.twin.write(POSE, None)
    bench.twin.write(np.array(HOME), None)
    np.testing.assert_allclose(bench.pass_time(1.0).angles, HOME, atol=1e-6)
    bench.twin.write(POSE, None)
    bench.twin.hold()
    np.testing.assert_allclose(bench.pass_time(1.0).angles, HOME, atol=1e-6)


def test_beyond_a_limit_is_refused_with_the_joints_code(bench):
    beyond = np.array(HOME)
    beyond[2] = LIMITS[2] + 0.01
    bench.twin.write(beyond, None)
    reading = bench.pass_time(1.0)
    np.testing.assert_allclose(reading.angles, HOME, atol=1e-6)
    assert reading.error == 3
    bench.twin.write(HOME, None)
    assert bench.pass_time(0.1).error == 3  # kept, as by the controller
    bench.twin.clear_error()
    assert bench.twin.read().error == 0
    bench.twin.write(beyond, None)
    assert bench.pass_time(0.1).error == 3
    bench.twin.set_power(True)
    assert bench.pass_time(0.1).error == 0


@pytest.mark.parametrize("target", [np.zeros(5), np.full(6, np.nan)])
def test_what_is_no_target_is_an_error(bench, target):
    with pytest.raises(ValueError, match="6 finite angles"):
        bench.twin.write(target, None)
    with pytest.raises(ValueError, match="6 finite angles"):
        bench.twin.write(POSE, float("inf"))
    np.testing.assert_allclose(bench.pass_time(1.0).angles, HOME, atol=1e-6)


def test_without_power_it_sinks_onto_the_table_and_ignores_targets(bench):
    bench.twin.set_power(False)
    bench.twin.write(POSE, 0.0)
    reading = bench.pass_time(40.0)
    assert not reading.powered
    assert bench.twin.touching()
    lying = reading.angles
    assert flange_pose(lying)[2, 3] < flange_pose(np.array(HOME))[2, 3] - 0.05
    with pytest.raises(RobotError, match="power is off"):
        bench.twin.set_free(True)
    bench.twin.set_power(True)
    reading = bench.pass_time(1.0)
    assert reading.powered
    np.testing.assert_allclose(reading.angles, lying, atol=0.05)
    bench.twin.write(np.array(HOME), 1.0)
    np.testing.assert_allclose(bench.pass_time(4.0).angles, HOME, atol=1e-3)


def test_free_joints_follow_the_hand_only(bench):
    with pytest.raises(ValueError, match="gripped"):
        bench.twin.push(POSE)
    bench.twin.set_free(True)
    bench.twin.write(np.zeros(6), None)
    np.testing.assert_allclose(bench.pass_time(1.0).angles, HOME, atol=1e-6)
    bench.twin.push(POSE)
    np.testing.assert_allclose(bench.pass_time(3.0).angles, POSE, atol=1e-3)
    bench.twin.set_free(False)
    np.testing.assert_allclose(bench.pass_time(1.0).angles, POSE, atol=1e-3)
    with pytest.raises(ValueError, match="gripped"):
        bench.twin.push(np.array(HOME))


def test_times_counts_and_the_end(bench):
    twin = bench.twin
    reading = bench.pass_time(0.5)
    assert bench.now - STEP_NS < reading.time_ns <= bench.now
    twin.write(POSE, None)
    assert twin.health().writes == 1
    assert twin.health().reads == 26
    assert twin.health().connected
    twin.advance(bench.now - 10**9)  # time does not go back
    assert twin.read() is reading
    bench.now += 3600 * 10**9  # a suspended computer: no hour of physics
    began = time.monotonic()
    twin.advance(bench.now)
    assert time.monotonic() - began < 30
    assert read(twin).time_ns > bench.now - STEP_NS
    twin.close()
    twin.close()
    assert not twin.health().connected
    with pytest.raises(RobotError, match="closed"):
        twin.connect()


def test_what_cannot_be_connected_or_made():
    with pytest.raises(ValueError, match="tool 'spoon' is unknown"):
        TwinRobot("spoon")
    twin = TwinRobot(real_time=False, now_ns=lambda: 0)
    assert twin.read() is None
    twin.set_power(False)
    with pytest.raises(RobotError, match="power is off"):
        twin.connect()


def test_in_real_time_it_moves_by_itself():
    with closing(TwinRobot()) as twin:
        identity = twin.connect()
        assert identity["port"] == "sim:"
        twin.write(POSE, 0.5)
        deadline = time.monotonic() + 30
        while np.abs(read(twin).angles - POSE).max() > 0.01:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert time.monotonic_ns() - read(twin).time_ns < 20 * 10**9
    assert "twin" not in {thread.name for thread in threading.enumerate()}


def test_it_needs_no_jax():
    """Nor does importing its module need MuJoCo: the bridge starts without it."""
    script = (
        "import sys, robot_bridge.twin.twin_robot as t, robot_bridge.twin.preflight\n"
        "import robot_bridge.cameras.capture\n"
        "import robot_bridge.cameras.synthetic_camera, robot_bridge.twin.replay_check\n"
        "assert not {'mujoco', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "t.TwinRobot().connect()\n"
        "import robot_bridge.twin.twin_renderer\n"
        "assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
