"""Makes the `Status` of one tick out of the control loop and the parts; in the loop's thread.

Only what is at hand is gathered; nothing is asked of the arm.
"""

from collections.abc import Mapping
from typing import Any

from robot_bridge.log.recorder import Log
from robot_bridge.loop.control_loop import EPISODE, ControlLoop
from robot_bridge.loop.obey import possible
from robot_bridge.loop.status import CameraStatus, Status


def take_snapshot(
    loop: ControlLoop, recorder: Log, tick: int, timing: Mapping[str, Any], now_ns: int
) -> Status:
    """State of everything; `timing` as `clock.Timing.to_json`, `now_ns` monotonic."""
    parts, scene, source = loop.parts, loop.scene, loop.source
    frames = scene.frames
    return Status(
        time_ns=now_ns,
        tick=tick,
        mode=str(loop.mode),
        reason=loop.reason,
        rate_hz=parts.rate_hz,
        joints=parts.action.dims,
        reading=scene.reading,
        target=loop.target,
        plan=source.plan() if loop.mode in EPISODE else None,
        source=(source.name, source.kind),
        takeover=loop.takeover,
        source_health=source.health(),
        robot=parts.robot.name,
        robot_identity=loop.log.identity,
        robot_health=parts.robot.health(),
        cameras={
            camera.name: CameraStatus(
                camera.spec.height,
                camera.spec.width,
                frames[camera.name].time_ns if camera.name in frames else 0,
            )
            for camera in parts.cameras
        },
        interventions=dict(loop.counts),
        timing=timing,
        ages_ms=loop.ages_ms,
        recorder=recorder.status(),
        episode=loop.log.episode,
        instruction=loop.log.instruction,
        commands=possible(loop.mode, loop.takeover, loop.error),
    )
