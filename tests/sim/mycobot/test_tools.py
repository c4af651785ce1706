"""The two grippers: how far they open, how their fingers move, what they hold."""

import mujoco
import numpy as np
import pytest

from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.mycobot import arm, bench, bench_scene, tools
from arp_jax.sim.mycobot.move_cube import load_model


def settle(model: mujoco.MjModel, data: mujoco.MjData, finger: float, seconds: float) -> None:
    """Holds the arm at home and commands both fingers."""
    data.ctrl[:6], data.ctrl[6:] = arm.HOME, finger
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)


def gap(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Distance between the faces of the two pads, m."""
    left, right = (data.geom(name).xpos for name in tools.PADS)
    return float(np.linalg.norm(left - right)) - 2 * model.geom(tools.PADS[0]).size[0]


@pytest.mark.parametrize(("kind", "opening"), [("adaptive", 0.045), ("force", 0.1)])
def test_gripper_opens_and_closes(kind, opening):
    model = load_model(kind)
    data = mujoco.MjData(model)
    data.qpos[:6] = arm.HOME
    settle(model, data, tools.GRIPPERS[kind].stroke, 1.5)
    assert gap(model, data) == pytest.approx(opening, abs=1e-3)
    settle(model, data, 0.0, 1.5)
    assert gap(model, data) == pytest.approx(0.0, abs=1e-3)


def test_a_linkage_couples_the_adaptive_fingers_only():
    """A push on one finger moves the other one of the adaptive gripper alone."""
    moved = {}
    for kind in ("adaptive", "force"):
        model = load_model(kind)
        data = mujoco.MjData(model)
        data.qpos[:6] = arm.HOME
        settle(model, data, 0.5 * tools.GRIPPERS[kind].stroke, 1.0)
        before = data.qpos[6:8].copy()
        data.qfrc_applied[6] = 3.0
        settle(model, data, 0.5 * tools.GRIPPERS[kind].stroke, 1.0)
        moved[kind] = data.qpos[6:8] - before
    # The coupling is a soft constraint.
    assert moved["adaptive"][1] == pytest.approx(moved["adaptive"][0], rel=0.1)
    assert moved["adaptive"][0] > 1e-3
    assert abs(moved["force"][1]) < 1e-4 < moved["force"][0]


@pytest.mark.parametrize("kind", ["adaptive", "force"])
def test_gripper_holds_a_cube_against_gravity(kind):
    model = load_model(kind)
    data = mujoco.MjData(model)
    data.qpos[:6] = arm.HOME
    data.qpos[6:8] = 0.0148
    mujoco.mj_kinematics(model, data)
    place = qpos_place(model, "cube")
    data.qpos[place : place + 3] = data.site(tools.TIP).xpos
    data.qpos[place + 3 : place + 7] = np.zeros(4)
    mujoco.mju_mat2Quat(data.qpos[place + 3 : place + 7], data.site(tools.TIP).xmat)
    settle(model, data, 0.0, 2.0)
    held = np.linalg.norm(data.qpos[place : place + 3] - data.site(tools.TIP).xpos)
    assert held < 0.006
    assert gap(model, data) == pytest.approx(2 * bench.CUBE_HALF, abs=1e-3)


def test_unknown_tools_are_named():
    with pytest.raises(ValueError, match="tool='spoon' is unknown"):
        bench_scene.new_bench("spoon")
    spec, flange = bench_scene.new_bench("peg")
    with pytest.raises(ValueError, match="gripper='peg' is unknown"):
        tools.add_gripper(spec, flange, "peg")
