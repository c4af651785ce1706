"""What real ALOHA robots see and command, for policies that come without their data.

Out: observation and action specs by the robot's name, as `config.eval.env` has it. A dataset
carries specs of its own (with measured limits); these are for importing and for building a policy
from a config alone. The simulated robot is in `arp_jax/sim/aloha`.
"""

import dataclasses
import math
from collections.abc import Callable

from arp_jax.policies.arp_aloha_config import published_aloha_spec
from arp_jax.specs import ActionSpec, CameraSpec, ObservationSpec

HEIGHT, WIDTH = 480, 640
BASE_DIMS = ("base_linear", "base_turning")
# Nothing that a base does is faster; commands are clipped to these. m/s, rad/s.
BASE_LIMITS = (2.0, math.pi)

Specs = tuple[ObservationSpec, ActionSpec]


def aloha(*cameras: str) -> Specs:
    """Two arms: 14 joint values in rad (grippers 0 .. 1) at 50 Hz, and these cameras."""
    published = published_aloha_spec()
    pictures = tuple(CameraSpec(name, HEIGHT, WIDTH) for name in cameras)
    return dataclasses.replace(published.observation, cameras=pictures), published.action


def static_aloha() -> Specs:
    """ALOHA on a table, with four cameras."""
    return aloha("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")


def mobile_aloha() -> Specs:
    """Mobile ALOHA: three cameras, and two velocities of the base behind the joints: 16 values."""
    observation, arms = aloha("cam_high", "cam_left_wrist", "cam_right_wrist")
    action = dataclasses.replace(
        arms,
        dims=arms.dims + BASE_DIMS,
        unit="rad, base m/s and rad/s",
        absolute=arms.absolute + (True,) * len(BASE_DIMS),
        low=arms.low + tuple(-limit for limit in BASE_LIMITS),
        high=arms.high + BASE_LIMITS,
    )
    return observation, action


ROBOTS: dict[str, Callable[[], Specs]] = {"aloha": static_aloha, "mobile_aloha": mobile_aloha}
