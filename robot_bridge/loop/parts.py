"""What a bridge is put together from: an arm, a source of actions, cameras, limits, where to log.

The command line (`commands/`), tests and demos build a `Parts`; `daemon.Bridge` runs it and owns
what is in it from then on (it closes robot, source and cameras). Checked here: what can be checked
without touching the arm.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.specs import ActionSpec, ObservationSpec
from robot_bridge.arm import STATE
from robot_bridge.observations import Camera
from robot_bridge.robots import Robot
from robot_bridge.safety.approach import ApproachLimits
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.safety.watchdog import WatchdogLimits
from robot_bridge.sources import ActionSource


@dataclasses.dataclass(frozen=True)
class Parts:
    """A bridge's parts.

    Attributes:
        robot: the arm, not yet connected.
        source: who chooses actions.
        limits: of `safety_filter.py`; `Limits()` is safe.
        observation: what the source sees and the log holds: the feature "state" (the reading,
            like `arm.state_spec`) and the cameras.
        action: what is commanded, like `arm.action_spec`; a gripper is commanded if it names one.
        cameras: one for each camera of `observation`, same name, size and color order; more are
            shown but neither logged nor given to the source.
        rate_hz: of the control loop.
        approach: float [J] rad, pose that is driven to slowly before a run; None: a run begins
            where the arm stands. approach_gripper: opening there; None: as it is.
        approach_limits: how slowly.
        watchdog: how old may be what the loop acts on.
        log_folder: episodes are written here; None: nothing is recorded.
        queue_bytes: of the episode log waiting for the disk; above it the arm holds.
        instruction: the task in words, for source and log.
        versions: of packages and artifact, for the log.
        remarks: about the arm, beside what it says of itself; for log and status, plain JSON.
    """

    robot: Robot
    source: ActionSource
    limits: Limits
    observation: ObservationSpec
    action: ActionSpec
    cameras: tuple[Camera, ...] = ()
    rate_hz: float = 10.0
    approach: np.ndarray | None = None
    approach_gripper: float | None = None
    approach_limits: ApproachLimits = dataclasses.field(default_factory=ApproachLimits)
    watchdog: WatchdogLimits = dataclasses.field(default_factory=WatchdogLimits)
    log_folder: Path | None = None
    queue_bytes: int = 256 * 1024**2
    instruction: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.rate_hz <= 200:
            raise ValueError(f"rate_hz: {self.rate_hz} is not in 1 ... 200 Hz")
        names = [feature.name for feature in self.observation.features]
        if names != [STATE] or self.observation.feature(STATE).size != self.action.size:
            raise ValueError(
                f"observation: vector features {names}; the bridge delivers exactly {STATE!r} "
                f"with the {self.action.size} dimensions of the action"
            )
        if not all(self.action.absolute):
            raise ValueError("action: the bridge takes absolute joint targets only")
        if self.approach is not None and np.shape(self.approach) != (len(self.joints),):
            raise ValueError(
                f"approach: shape {np.shape(self.approach)}, expected ({len(self.joints)},)"
            )
        self._check_cameras()

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the arm's joints, without the gripper."""
        return self.action.dims[:-1] if self.with_gripper else self.action.dims

    @property
    def with_gripper(self) -> bool:
        """Whether the last dimension of an action is an opening."""
        return self.action.gripper is not None

    def _check_cameras(self) -> None:
        given = {camera.name: camera.spec for camera in self.cameras}
        for spec in self.observation.cameras:
            if spec.name not in given:
                raise ValueError(
                    f"cameras: the observation needs {spec.name!r}, there are {sorted(given)}"
                )
            if given[spec.name] != spec:
                raise ValueError(
                    f"camera {spec.name!r}: {given[spec.name]}, the observation needs {spec}"
                )
