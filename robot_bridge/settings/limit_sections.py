"""The configuration's sections about limits: [safety], [approach] and [watchdog], for people.

In: degrees, meters, seconds and a tool's name. Out: `safety.Limits`, `ApproachLimits` and
`WatchdogLimits`, whose own ranges refuse what would no longer limit anything. Nothing can be
switched off here either: what is absent has the default.
"""

import dataclasses
from typing import Literal

from robot_bridge.arm import COMMAND_LIMITS
from robot_bridge.safety import clearance
from robot_bridge.safety.approach import ApproachLimits
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.safety.watchdog import AgeLimits, WatchdogLimits

ToolName = Literal["adaptive", "force", "rod", "none"]
_BOX = clearance.Box()
_AGES = WatchdogLimits()


@dataclasses.dataclass(frozen=True)
class SafetySection:
    """See `safety.Limits`; lengths in m, of the controller's base frame.

    Attributes:
        tool_length_m: flange to the tool's farthest point; 0: as published for the tool.
        tool_radius_m: of a rod.
        box_low_m, box_high_m: corners of the workspace of flange and tool.
    """

    low_rad: tuple[float, ...] = tuple(-limit for limit in COMMAND_LIMITS)
    high_rad: tuple[float, ...] = COMMAND_LIMITS
    speed_rad_s: float = Limits.speed
    acceleration_rad_s2: float = Limits.acceleration
    gripper_speed: float = Limits.gripper_speed
    jump_rad: float = Limits.jump
    lag_rad: float = Limits.lag
    hold_s: float = Limits.hold_s
    tool_length_m: float = 0.0
    tool_radius_m: float = 0.01
    box_low_m: tuple[float, float, float] = _BOX.low
    box_high_m: tuple[float, float, float] = _BOX.high
    table_z_m: float = Limits.table_z
    table_distance_m: float = Limits.table_distance
    self_distance_m: float = Limits.self_distance

    def __post_init__(self) -> None:
        for name in ("low_rad", "high_rad"):
            if len(getattr(self, name)) != len(COMMAND_LIMITS):
                raise ValueError(f"{name[:-4]}_deg needs {len(COMMAND_LIMITS)} angles")
        self.limits("none")  # refuses here what nobody may set, not when the arm is connected

    def limits(self, tool: ToolName) -> Limits:
        """The limits for an arm that carries `tool`."""
        return Limits(
            low=self.low_rad,
            high=self.high_rad,
            speed=self.speed_rad_s,
            acceleration=self.acceleration_rad_s2,
            gripper_speed=self.gripper_speed,
            jump=self.jump_rad,
            lag=self.lag_rad,
            hold_s=self.hold_s,
            tool=self._tool(tool),
            box=clearance.Box(self.box_low_m, self.box_high_m),
            table_z=self.table_z_m,
            table_distance=self.table_distance_m,
            self_distance=self.self_distance_m,
        )

    def _tool(self, name: ToolName) -> clearance.Tool:
        if name == "none":
            return clearance.NO_TOOL
        if name == "rod":
            if not self.tool_length_m > 0:
                raise ValueError("tool_length_m: a rod needs its length")
            return clearance.rod(self.tool_length_m, self.tool_radius_m)
        make = clearance.adaptive_gripper if name == "adaptive" else clearance.force_gripper
        return make(self.tool_length_m) if self.tool_length_m else make()


@dataclasses.dataclass(frozen=True)
class ApproachSection:
    """See `approach.ApproachLimits`: how slowly to the start pose, and what counts as there."""

    speed_rad_s: float = ApproachLimits.speed
    tolerance_rad: float = ApproachLimits.tolerance
    timeout_s: float = ApproachLimits.timeout_s

    def __post_init__(self) -> None:
        self.limits()

    def limits(self) -> ApproachLimits:
        """The limits that these settings mean."""
        return ApproachLimits(
            speed=self.speed_rad_s, tolerance=self.tolerance_rad, timeout_s=self.timeout_s
        )


@dataclasses.dataclass(frozen=True)
class WatchdogSection:
    """See `watchdog.WatchdogLimits`: ages in s, above which the loop waits and holds."""

    observation_s: tuple[float, float] = (_AGES.observation.wait_s, _AGES.observation.hold_s)
    policy_s: tuple[float, float] = (_AGES.policy.wait_s, _AGES.policy.hold_s)
    reading_s: tuple[float, float] = (_AGES.wire.wait_s, _AGES.wire.hold_s)
    reading_fault_s: float = _AGES.wire.fault_s

    def __post_init__(self) -> None:
        self.limits()

    def limits(self, chunk_s: float = 0.0) -> WatchdogLimits:
        """The limits; a policy whose chunks are executed for `chunk_s` may be that much older."""
        wait_s, hold_s = self.policy_s
        return WatchdogLimits(
            observation=AgeLimits(*self.observation_s),
            policy=AgeLimits(min(wait_s + chunk_s, 60.0), min(hold_s + chunk_s, 60.0)),
            wire=AgeLimits(*self.reading_s, self.reading_fault_s),
        )
