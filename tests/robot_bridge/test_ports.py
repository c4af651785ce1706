"""Addresses of arms, as people write them."""

import pytest

from robot_bridge.wire.mycobot import MyCobot
from robot_bridge.wire.mycobot_config import MyCobotConfig
from robot_bridge.wire.ports import arm_driver, open_robot


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("serial:/dev/ttyACM0", "serial:/dev/ttyACM0"),
        ("serial:COM11", "serial:COM11"),
        ("tcp:192.168.1.7", "tcp:192.168.1.7:9000"),
        ("tcp:arm.local:9001", "tcp:arm.local:9001"),
        ("tcp:[fe80::1]:9002", "tcp:fe80::1:9002"),
        ("tcp:[fe80::1]", "tcp:fe80::1:9000"),
    ],
)
@pytest.mark.parametrize("driver", ["wire", "pymycobot"])
def test_addresses(url, port, driver):
    if driver == "pymycobot":
        pytest.importorskip("pymycobot")
    robot = open_robot(url, driver, MyCobotConfig(with_gripper=False))
    assert isinstance(robot, MyCobot)
    assert robot.name == arm_driver(url, driver).port == port
    assert not robot.config.with_gripper
    robot.close()  # never connected: nothing was opened


@pytest.mark.parametrize(
    "url",
    [
        "",
        "serial:",
        "/dev/ttyACM0",
        "sim",
        "sim:x",
        "tcp:",
        "tcp::9000",
        "tcp:host:0",
        "tcp:host:x",
        "tcp:host:99999",
        "tcp:[fe80::1",
        "tcp:[fe80::1]9000",
        "usb:1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match="expected"):
        open_robot(url)


def test_an_unknown_driver_is_refused():
    with pytest.raises(ValueError, match="wire or pymycobot"):
        open_robot("serial:/dev/ttyACM0", "magic")


@pytest.mark.parametrize(("with_gripper", "tool"), [(True, "adaptive"), (False, "none")])
def test_the_twin_has_an_address_too(with_gripper, tool):
    pytest.importorskip("mujoco")
    from robot_bridge.twin.twin_robot import TwinRobot

    robot = open_robot("sim:", config=MyCobotConfig(with_gripper=with_gripper))
    try:
        assert isinstance(robot, TwinRobot)
        assert robot.tool == tool
    finally:
        robot.close()


@pytest.mark.parametrize(
    ("field", "value"), [("speed", 0), ("gripper_speed", 101), ("lost_after", 0)]
)
def test_a_configuration_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        MyCobotConfig(**{field: value})
