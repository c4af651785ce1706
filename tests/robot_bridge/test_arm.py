"""The bridge's numbers of the arm against those of the simulator, and readings as vectors."""

import numpy as np
import pytest

from arp_jax.sim.mycobot import arm as simulated
from arp_jax.sim.mycobot import joints
from robot_bridge import arm
from robot_bridge.robots import Reading


@pytest.mark.parametrize("name", ["JOINTS", "LIMITS", "COMMAND_LIMITS", "HOME", "HOME_DEGREES"])
def test_bridge_and_simulator_have_the_same_numbers(name):
    assert getattr(arm, name) == getattr(simulated, name)


@pytest.mark.parametrize("with_gripper", [False, True])
def test_bridge_and_simulator_have_the_same_specs(with_gripper):
    assert arm.action_spec(with_gripper) == joints.action_spec(with_gripper)
    assert arm.state_spec(with_gripper) == joints.state_spec(with_gripper)
    assert arm.action_spec(with_gripper, rate_hz=20.0).rate_hz == 20.0


def test_command_limits_are_inside_every_published_table():
    tables = ([168, 135, 145, 145, 168, 180], np.degrees([2.93, 2.35, 2.53, 2.58, 2.93, 3.14]))
    for table in tables:
        assert (np.degrees(arm.COMMAND_LIMITS) <= np.array(table) - 1.99).all()


def test_a_reading_becomes_the_state_in_the_order_of_the_spec():
    reading = Reading(0, np.arange(6) / 10, gripper=0.75)
    for with_gripper in (False, True):
        state = arm.state_vector(reading, with_gripper)
        assert state.dtype == np.float32
        assert state.shape == (arm.state_spec(with_gripper).size,)
        np.testing.assert_allclose(state[:6], reading.angles, rtol=1e-7)
    assert state[6] == 0.75


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, ""), (3, "joint3 is beyond"), (17, "collision"), (32, "inverse"), (99, "error 99")],
)
def test_error_codes_in_words(code, words):
    assert words in arm.describe_error(code)
    assert bool(arm.describe_error(code)) == (code != 0)
