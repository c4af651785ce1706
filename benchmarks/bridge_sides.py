"""The two sides of bridge_jitter.py: the bridge, and the same tick paced by `time.sleep`."""

import time

import numpy as np
from bridge_policy import CAMERA

from arp_jax.specs import ObservationSpec
from robot_bridge.actions.policy import RemotePolicy
from robot_bridge.arm import HOME, action_spec, state_spec
from robot_bridge.log.recorder import Recorder
from robot_bridge.log.run_log import RunLog
from robot_bridge.loop.clock import Clock
from robot_bridge.loop.control_loop import ControlLoop
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.joint_release import JointRelease
from robot_bridge.loop.operator import Gate, Operator
from robot_bridge.loop.parts import Parts
from robot_bridge.loop.real_time import Priorities, quiet_interpreter
from robot_bridge.loop.snapshot import take_snapshot
from robot_bridge.observations import Frame
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.safety.watchdog import AgeLimits, WatchdogLimits
from robot_bridge.wire.ports import open_robot

_CAMERA_HZ = 30
_READY_S = 60.0
_APPROACH_S = 3.0


class MovingPicture:
    """A camera of 30 pictures a second that were made before."""

    name, spec = CAMERA.name, CAMERA

    def __init__(self):
        x, y = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
        self._images = [
            np.stack([x + 5 * t, y - 7 * t, x + y], axis=-1).astype(np.uint8) for t in range(30)
        ]

    def latest(self):
        """The picture of now."""
        number = time.monotonic_ns() * _CAMERA_HZ // 1_000_000_000
        time_ns = number * 1_000_000_000 // _CAMERA_HZ
        return Frame(time_ns, self._images[number % len(self._images)])

    def close(self):
        """Nothing is open."""


def make_parts(robot, policy, folder, rate_hz):
    """What both sides are made of."""
    source = RemotePolicy(policy)
    source.wait_ready(_READY_S)
    return Parts(
        robot=open_robot(robot),
        source=source,
        limits=Limits(),
        observation=ObservationSpec((state_spec(True),), (CAMERA,)),
        action=action_spec(True),
        cameras=(MovingPicture(),),
        rate_hz=rate_hz,
        approach=np.array(HOME),
        log_folder=folder,
        # A chunk is 4 s long, and a policy without a free core takes its time.
        watchdog=WatchdogLimits(policy=AgeLimits(wait_s=4.0, hold_s=8.0)),
    )


def run_bridge(robot, policy, folder, flags, look):
    """`daemon.Bridge` for the time; `look` is called now and then."""
    parts = make_parts(robot, policy, folder, flags.rate_hz)
    with Bridge(parts) as bridge:
        bridge.command("start")
        time.sleep(_APPROACH_S)
        bridge.restart_timing()
        end = time.monotonic() + 60 * flags.minutes
        while time.monotonic() < end:
            time.sleep(1.0)
            look()
        status = bridge.status()
        timing, scheduling = bridge.timing.to_json(), bridge.scheduling
    return row_of(status, timing, scheduling, bridge.lost_steps)


def run_naive(robot, policy, folder, flags, look):
    """The tick in a loop with `time.sleep(period - elapsed)`."""
    parts = make_parts(robot, policy, folder, flags.rate_hz)
    gate = Gate(parts.robot)
    operator, release = Operator(gate, parts.joints), JointRelease(parts.robot)
    recorder = Recorder(folder, parts.queue_bytes)
    loop = ControlLoop(parts, operator, gate, RunLog(parts, recorder), release)
    timing, period = Clock(flags.rate_hz).timing, 1 / flags.rate_hz
    parts.robot.connect()
    while loop.scene.reading is None:
        time.sleep(0.1)
        loop.tick()
    operator.command("start")
    end = time.monotonic() + 60 * flags.minutes
    due, number = time.monotonic(), 0
    while due < end:
        start = time.monotonic()
        timing.late.add(round((start - due) * 1e9))
        timing.very_late += start - due > 0.02
        loop.tick()
        status = take_snapshot(loop, recorder, number, {}, time.monotonic_ns())
        number += 1
        if number % round(flags.rate_hz) == 0:
            look()
        busy = time.monotonic() - start
        timing.busy.add(round(busy * 1e9))
        time.sleep(max(0.0, period - busy))
        due = start + period
    loop.end("the time is over")
    release.close()
    lost = recorder.close()
    parts.source.close()
    parts.robot.close()
    return row_of(status.to_json(), timing.to_json(), "none", lost)


def run_bare(robot, policy, folder, flags, look):
    """`clock.Clock` with nothing to do: the machine's own lateness."""
    clock, priorities = Clock(flags.rate_hz), Priorities()
    end = time.monotonic() + 60 * flags.minutes
    with quiet_interpreter():
        while time.monotonic() < end:
            if clock.wait().number % round(flags.rate_hz) == 0:
                look()
    nothing = {"recorder": {"steps": 0}, "source": {"chunks": 0}, "mode": "-", "reason": "-"}
    return row_of(nothing, clock.timing.to_json(), priorities.reached, 0)


def row_of(status, timing, scheduling, lost):
    """Fields of a row from the last status."""
    names = ("ticks", "very_late", "skipped", "late_p50_ms", "late_p99_ms", "late_max_ms")
    return {
        **{name: timing[name] for name in (*names, "busy_p50_ms", "busy_p99_ms", "busy_max_ms")},
        "steps": status["recorder"]["steps"],
        "lost_steps": lost,
        "chunks": status["source"]["chunks"],
        "mode": status["mode"],
        "reason": status["reason"],
        "scheduling": scheduling,
    }
