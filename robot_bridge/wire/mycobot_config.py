"""How a myCobot is used: tool, speeds, pace of the wire. Plain values; `mycobot.py` obeys them."""

import dataclasses

from robot_bridge.wire.gripper_trust import TrustRule
from robot_bridge.wire.wire_schedule import Pace


@dataclasses.dataclass(frozen=True)
class MyCobotConfig:
    """How the arm is used.

    Attributes:
        with_gripper: an adaptive gripper is mounted.
        speed, gripper_speed: percent of the greatest, for each command.
        lost_after: so many exchanges in a row without an answer, and the arm counts as lost.
        pace: of the wire.
        trust: when the gripper's value is believed.
    """

    with_gripper: bool = True
    speed: int = 40
    gripper_speed: int = 50
    lost_after: int = 3
    pace: Pace = dataclasses.field(default_factory=Pace)
    trust: TrustRule = dataclasses.field(default_factory=TrustRule)

    def __post_init__(self) -> None:
        for name in ("speed", "gripper_speed"):
            if not 1 <= getattr(self, name) <= 100:
                raise ValueError(f"arm, {name}: {getattr(self, name)} is not in 1 ... 100 %")
        if self.lost_after < 1:
            raise ValueError(f"arm, lost_after: {self.lost_after} is not at least 1")
