"""What the control loop sees at one tick: the arm's newest reading, the cameras' newest pictures.

Nothing is waited for and nothing is judged: how old it may be is `watchdog.py`'s business.
"""

import dataclasses
from collections.abc import Mapping

from robot_bridge.arm import STATE, state_vector
from robot_bridge.loop.parts import Parts
from robot_bridge.observations import Frame, Observation
from robot_bridge.robots import Reading
from robot_bridge.safety.watchdog import Ages, age_s


@dataclasses.dataclass(frozen=True)
class Scene:
    """One look.

    Attributes:
        time_ns: monotonic time of the look.
        reading: the arm's newest, None before its first.
        frames: camera -> newest picture, all cameras that have one.
        observation: for the source; None while something of it is missing.
        missing: what, in words; "" for nothing.
    """

    time_ns: int
    reading: Reading | None
    frames: Mapping[str, Frame]
    observation: Observation | None
    missing: str = ""


def look(parts: Parts, now_ns: int) -> Scene:
    """Gathers what there is now."""
    reading = parts.robot.read()
    newest = {camera.name: camera.latest() for camera in parts.cameras}
    frames = {name: frame for name, frame in newest.items() if frame is not None}
    if reading is None:
        return Scene(now_ns, None, frames, None, "no reading from the arm yet")
    absent = [spec.name for spec in parts.observation.cameras if spec.name not in frames]
    if absent:
        return Scene(now_ns, reading, frames, None, f"no picture from camera {absent[0]!r} yet")
    observation = Observation(
        time_ns=reading.time_ns,
        vectors={STATE: state_vector(reading, parts.with_gripper)},
        frames={spec.name: frames[spec.name] for spec in parts.observation.cameras},
    )
    return Scene(now_ns, reading, frames, observation)


def ages(scene: Scene, policy_s: float | None) -> Ages:
    """How old what was seen is; the age of the policy's answer is handed through."""
    observed = None if scene.observation is None else scene.observation.oldest_ns
    read = None if scene.reading is None else scene.reading.time_ns
    now = scene.time_ns
    return Ages(age_s(observed, now), policy_s, age_s(read, now))
