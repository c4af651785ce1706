"""Which policies may move which robot; a refusal names the field."""

import dataclasses

import pytest

from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec, SpecMismatch
from robot_bridge.arm import action_spec, state_spec
from robot_bridge.safety.compatibility import check_compatible

ACTION, STATE = action_spec(True), state_spec(True)
WRIST, TOP = CameraSpec("wrist", 480, 640), CameraSpec("top", 480, 640)
ROBOT = ObservationSpec((STATE,), (WRIST, TOP))


def policy(action=ACTION, state=STATE, cameras=(TOP,)):
    return PolicySpec(ObservationSpec((state,), tuple(cameras)), action, window=2, horizon=16)


def test_the_same_specs_are_fine_and_unused_cameras_no_harm():
    check_compatible(policy(), ACTION, ROBOT, "artifact a")
    check_compatible(policy(cameras=()), ACTION, ROBOT, "artifact a")


def test_a_spec_that_went_through_json_still_fits():
    returned = PolicySpec.from_json(policy().to_json())
    check_compatible(returned, ACTION, ROBOT, "artifact a")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unit": "deg"}, "action unit"),
        ({"frame": "base"}, "action frame"),
        ({"rate_hz": 20.0}, "action rate_hz"),
        ({"gripper": "open=0"}, "action gripper"),
        ({"absolute": (False,) * 7}, "action absolute"),
        ({"dims": ("joint2", "joint1", *ACTION.dims[2:])}, "action dims"),
        ({"high": (168.0, *ACTION.high[1:])}, "limits of joint1"),
        ({"low": (*ACTION.low[:5], -4.0, 0.0)}, "limits of joint6"),
    ],
)
def test_actions_that_mean_something_else_are_refused(changes, named):
    changed = policy(dataclasses.replace(ACTION, **changes))
    with pytest.raises(SpecMismatch, match=named) as refusal:
        check_compatible(changed, ACTION, ROBOT, "artifact runs/a")
    assert "artifact runs/a" in str(refusal.value)


def test_a_gripper_too_many_or_too_few_is_refused():
    for mine, robots in ((action_spec(False), ACTION), (ACTION, action_spec(False))):
        with pytest.raises(SpecMismatch, match="action dims"):
            check_compatible(policy(mine), robots, ROBOT, "artifact a")


def test_narrower_limits_are_fine():
    narrow = dataclasses.replace(ACTION, low=(-1.0,) * 6 + (0.0,), high=(1.0,) * 6 + (1.0,))
    check_compatible(policy(narrow), ACTION, ROBOT, "artifact a")


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (dataclasses.replace(STATE, unit="deg"), "feature 'state' unit"),
        (dataclasses.replace(STATE, frame="base"), "feature 'state' frame"),
        (state_spec(False), "feature 'state' dims"),
        (dataclasses.replace(STATE, name="velocity"), "feature 'velocity': the robot has only"),
    ],
)
def test_states_that_mean_something_else_are_refused(state, named):
    changed = policy(state=state)
    with pytest.raises(SpecMismatch, match=named):
        check_compatible(changed, ACTION, ROBOT, "artifact a")


def test_limits_of_the_state_are_no_meaning():
    wide = dataclasses.replace(STATE, low=(-9.0,) * 7, high=(9.0,) * 7)
    check_compatible(policy(state=wide), ACTION, ROBOT, "artifact a")


@pytest.mark.parametrize(
    ("camera", "named"),
    [
        (CameraSpec("front", 480, 640), r"camera 'front': the robot has only \['top', 'wrist'\]"),
        (CameraSpec("top", 240, 640), "camera 'top' height"),
        (CameraSpec("top", 480, 320), "camera 'top' width"),
        (CameraSpec("top", 480, 640, "bgr"), "camera 'top' color_order"),
    ],
)
def test_cameras_that_differ_are_refused(camera, named):
    with pytest.raises(SpecMismatch, match=named):
        check_compatible(policy(cameras=(WRIST, camera)), ACTION, ROBOT, "artifact a")


def test_every_difference_is_named_at_once():
    changed = policy(dataclasses.replace(ACTION, unit="deg", rate_hz=50.0), cameras=())
    changed = dataclasses.replace(
        changed, observation=ObservationSpec((), (CameraSpec("x", 1, 1),))
    )
    with pytest.raises(SpecMismatch) as refusal:
        check_compatible(changed, ACTION, ROBOT, "artifact a")
    for named in ("unit", "rate_hz", "camera 'x'"):
        assert named in str(refusal.value)
