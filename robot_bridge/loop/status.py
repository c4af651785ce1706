"""What the bridge tells about itself: one frozen snapshot per tick, plain JSON on request.

The control loop builds a `Status` each tick from what it already has at hand; turning it into JSON
(`to_json`) is the reader's cost, in the reader's thread. The web page and the command line show
nothing else. No decisions here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_bridge.robots import Reading, RobotHealth
from robot_bridge.sources import Plan, SourceHealth


@dataclasses.dataclass(frozen=True)
class RecorderStatus:
    """State of the episode log.

    Attributes:
        path: file of the running episode or of the last one, "" for none.
        recording: an episode is running.
        steps: of this episode, taken over from the loop.
        queued_bytes: not yet with the operating system.
        trouble: why nothing more may be commanded now, "" for none.
        lost_steps: that could not be written before the recorder closed; 0 in a healthy life.
        episodes: log files finished since the bridge started.
    """

    path: str = ""
    recording: bool = False
    steps: int = 0
    queued_bytes: int = 0
    trouble: str = ""
    lost_steps: int = 0
    episodes: int = 0


@dataclasses.dataclass(frozen=True)
class CameraStatus:
    """State of one camera.

    Attributes:
        height, width: of its pictures, pixels.
        frame_ns: monotonic time of the newest picture, 0 before the first.
    """

    height: int
    width: int
    frame_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Status:
    """Everything that is shown of one tick.

    Attributes:
        time_ns: monotonic, of this tick; tick: number since the loop began.
        mode: of `modes.Mode`; reason: why it is in this mode, in words.
        rate_hz: of the loop.
        joints: names of the action's dimensions, the gripper included.
        reading: of the arm, None before the first.
        target: float [A], last command that passed safety in this run; None before the first.
        plan: what the source intends.
        source: name and kind of whoever chooses now; takeover: a person instead of the source.
        interventions: name -> how often safety changed or refused a command, since the start.
        timing: of the clock, see `clock.Timing.to_json`.
        ages_ms: "reading", "observation" (its oldest part) and "policy", None where there is none.
        commands: names that `Bridge.command` accepts now.
        robot_identity: what `Robot.connect` returned.
    """

    time_ns: int
    tick: int
    mode: str
    reason: str
    rate_hz: float
    joints: Sequence[str]
    reading: Reading | None
    target: np.ndarray | None
    plan: Plan | None
    source: tuple[str, str]
    takeover: bool
    source_health: SourceHealth
    robot: str
    robot_identity: Mapping[str, Any]
    robot_health: RobotHealth
    cameras: Mapping[str, CameraStatus]
    interventions: Mapping[str, int]
    timing: Mapping[str, Any]
    ages_ms: Mapping[str, float | None]
    recorder: RecorderStatus
    episode: int
    instruction: str
    commands: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: dict, list, str, int, finite float, bool, None."""
        name, kind = self.source
        return {
            "time_ns": self.time_ns,
            "tick": self.tick,
            "mode": self.mode,
            "reason": self.reason,
            "rate_hz": self.rate_hz,
            "joints": list(self.joints),
            "reading": _reading_json(self.reading, self.time_ns),
            "target": None if self.target is None else _numbers(self.target),
            "plan": _plan_json(self.plan, self.time_ns),
            "source": {
                "name": name,
                "kind": kind,
                "takeover": self.takeover,
                **dataclasses.asdict(self.source_health),
            },
            "robot": {
                "name": self.robot,
                "identity": dict(self.robot_identity),
                **dataclasses.asdict(self.robot_health),
            },
            "cameras": {
                name: {
                    "height": camera.height,
                    "width": camera.width,
                    "age_ms": _age_ms(camera.frame_ns, self.time_ns),
                }
                for name, camera in self.cameras.items()
            },
            "interventions": dict(self.interventions),
            "timing": dict(self.timing),
            "ages_ms": {name: _finite(age) for name, age in self.ages_ms.items()},
            "recorder": dataclasses.asdict(self.recorder),
            "episode": {"number": self.episode, "instruction": self.instruction},
            "commands": list(self.commands),
        }


def _reading_json(reading: Reading | None, now_ns: int) -> dict[str, Any] | None:
    if reading is None:
        return None
    return {
        "angles": _numbers(reading.angles),
        "gripper": _finite(float(reading.gripper)),
        "gripper_measured": reading.gripper_measured,
        "powered": reading.powered,
        "error": reading.error,
        "age_ms": _age_ms(reading.time_ns, now_ns),
    }


def _plan_json(plan: Plan | None, now_ns: int) -> dict[str, Any] | None:
    """Times become seconds from now: a browser has no monotonic clock of ours."""
    if plan is None:
        return None
    offsets = (np.asarray(plan.times_ns, np.int64) - now_ns) / 1e9
    return {"offsets_s": _numbers(offsets), "actions": [_numbers(row) for row in plan.actions]}


def _age_ms(time_ns: int, now_ns: int) -> float | None:
    return None if time_ns == 0 else round((now_ns - time_ns) / 1e6, 3)


def _numbers(values: Any) -> list[float | None]:
    return [_finite(float(value)) for value in np.asarray(values).ravel()]


def _finite(value: float | None) -> float | None:
    """JSON has no NaN; what is not a number is shown as absent."""
    return round(value, 6) if value is not None and np.isfinite(value) else None
