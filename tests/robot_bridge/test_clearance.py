"""Clearances against brute force, the real arm's poses, and MuJoCo's own distances."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from robot_bridge.arm import COMMAND_LIMITS, HOME
from robot_bridge.kinematics import flange_pose
from robot_bridge.safety import clearance
from robot_bridge.safety.clearance import SIMULATED_LENGTH, Box, Clearance
from tests.golden_files import golden_path, load_golden
from tests.robot_bridge.arm_in_mujoco import ArmInMujoco

TOOLS = (
    clearance.NO_TOOL,
    clearance.adaptive_gripper(),
    clearance.force_gripper(),
    clearance.rod(0.18, 0.01),
)
POINT = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)


def around(tool=TOOLS[1], box=None, table_z=0.0):
    return Clearance(tool, box or Box(), table_z, table_distance=0.01, self_distance=0.01)


def lacking(model, angles):
    """Names of what a pose is too close to."""
    distances = model.distances(np.atleast_2d(angles))[0]
    return {model.names[index] for index in np.flatnonzero(distances < model.required)}


@settings(max_examples=100, deadline=None)
@given(POINT, POINT, POINT, POINT)
def test_distances_between_segments(a0, a1, b0, b1):
    assume(min(np.linalg.norm(a1 - a0), np.linalg.norm(b1 - b0)) > 1e-3)
    found = float(clearance.segment_distances(a0, a1, b0, b1))
    shares = np.linspace(0, 1, 51)[:, None]
    way_a, way_b = a0 + shares * (a1 - a0), b0 + shares * (b1 - b0)
    sampled = np.linalg.norm(way_a[:, None] - way_b[None], axis=-1).min()
    spacing = (np.linalg.norm(a1 - a0) + np.linalg.norm(b1 - b0)) / 100
    assert sampled - spacing - 1e-9 <= found <= sampled + 1e-6


def test_parallel_and_crossing_segments():
    a0, a1 = np.zeros(3), np.array([1.0, 0, 0])
    beside = np.array([0, 0.5, 0])
    assert clearance.segment_distances(a0, a1, a0 + beside, a1 + beside) == pytest.approx(0.5)
    far = np.array([3.0, 0, 0])
    assert clearance.segment_distances(a0, a1, a0 + far, a1 + far) == pytest.approx(2.0)
    assert clearance.segment_distances(a0, a1, a1 - beside, a1 + beside) == pytest.approx(0.0)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_poses_of_the_real_arm_are_free(tool):
    poses = np.radians(load_golden(golden_path("fk320_real", "act"))["angles"])
    model = around(tool)
    for pose in (*poses, HOME, np.zeros(6)):
        assert lacking(model, pose) == set()


@pytest.mark.parametrize(
    ("degrees", "part"),
    [
        # Bent over to the front until the named part would be in the table.
        ((0, 100, 60, 0, 0, 0), "table:forearm"),
        ((0, 125, 0, 0, 0, 0), "table:wrist"),
        ((0, 80, 0, 0, -90, 0), "table:finger"),
        # Folded back onto itself.
        ((0, 0, 143, 0, 0, 0), "self:"),
        ((0, -60, 142, 90, 0, 0), "self:wrist"),
        ((0, 60, -140, -130, 0, 0), "self:"),
    ],
)
def test_poses_that_touch_are_named(degrees, part):
    found = lacking(around(), np.radians(degrees))
    assert any(name.startswith(part) for name in found), found


@pytest.mark.parametrize(("side", "sign"), [("low", 1.0), ("high", -1.0)])
@pytest.mark.parametrize(("column", "axis"), enumerate("xyz"))
def test_the_box_bounds_flange_and_tool_on_every_side(column, axis, side, sign):
    pose = flange_pose(np.array(HOME))
    tip = pose[:3, 3] + clearance.ADAPTIVE_LENGTH * pose[:3, 2]
    corners = {
        "low": np.minimum(pose[:3, 3], tip) - 0.002,
        "high": np.maximum(pose[:3, 3], tip) + 0.002,
    }
    assert lacking(around(box=Box(*map(tuple, corners.values()))), HOME) == set()
    corners[side][column] += sign * 0.003
    assert lacking(around(box=Box(*map(tuple, corners.values()))), HOME) == {
        f"workspace:{axis}_{side}"
    }


def test_a_higher_table_and_a_longer_tool_are_closer():
    pose = np.array([HOME])
    low, high = around().distances(pose), around(table_z=0.1).distances(pose)
    tables = [i for i, name in enumerate(around().names) if name.startswith("table:")]
    np.testing.assert_allclose(low[0, tables] - high[0, tables], 0.1)
    short = around(clearance.adaptive_gripper(SIMULATED_LENGTH))
    finger = around().names.index("table:finger_left")
    assert short.distances(pose)[0, finger] > low[0, finger] + 0.02


@pytest.mark.parametrize("kind", ["adaptive", "force"])
def test_what_is_free_here_does_not_touch_in_mujoco(kind):
    judge = ArmInMujoco(kind)
    make = clearance.adaptive_gripper if kind == "adaptive" else clearance.force_gripper
    model = around(make(SIMULATED_LENGTH))
    poses = np.random.default_rng(3).uniform(-1, 1, (400, 6)) * COMMAND_LIMITS
    free = (model.distances(poses) >= model.required).all(axis=1)
    assert 100 < free.sum() < 300  # both happen often
    for pose in poses[free]:
        table, itself = judge.distances(pose)
        assert table > 0
        assert itself > 0


def test_what_touches_in_mujoco_is_refused_for_the_right_reason():
    judge = ArmInMujoco()
    model = around(clearance.adaptive_gripper(SIMULATED_LENGTH))
    poses = np.random.default_rng(4).uniform(-1, 1, (150, 6)) * COMMAND_LIMITS
    touched = [0, 0]
    for pose in poses:
        names = lacking(model, pose)
        for index, kind in enumerate(("table", "self")):
            if judge.distances(pose)[index] < 0:
                touched[index] += 1
                assert any(name.startswith(kind) for name in names)
    assert min(touched) > 10


@pytest.mark.parametrize(
    ("low", "high"),
    [((0, 0, 0), (0, 1, 1)), ((0, 0, 0), (np.nan, 1, 1)), ((-np.inf, 0, 0), (1, 1, 1))],
)
def test_a_box_without_sides_is_refused(low, high):
    with pytest.raises(ValueError, match="workspace x"):
        Box(low, high)


def test_a_gripper_without_length_is_refused():
    with pytest.raises(ValueError, match="tool length"):
        clearance.adaptive_gripper(0.0)
