"""What the web server needs of a bridge, with every value in the test's hand.

The status, the checks of commands, the state machine, the gate and the arm (the twin, on a clock
that stands still) are the real ones; only the loop between them is this file.
"""

import threading
import time

import numpy as np

from arp_jax.specs import CameraSpec
from robot_bridge.arm import HOME, action_spec
from robot_bridge.loop.operator import Gate, Operator
from robot_bridge.loop.status import CameraStatus, RecorderStatus, Status
from robot_bridge.observations import Frame
from robot_bridge.robots import Reading, RobotHealth
from robot_bridge.safety.modes import PERSONS, TABLE, Event, Mode, next_mode
from robot_bridge.sources import Plan, SourceHealth
from robot_bridge.twin.twin_robot import TwinRobot

HEIGHT, WIDTH = 48, 64
# Names are as long in life.
ROBOT = "serial:/dev/serial/by-id/usb-Silicon_Labs_CP2104_02A0E6F5-if00-port0"
SOURCE = ("figure at wss://policies.robots.example.org:44097", "policy")


class TestCamera:
    """A camera whose pictures are one color; `color` in the declared order."""

    __test__ = False

    def __init__(self, name="top", color_order="rgb", color=(200, 30, 40)):
        self.name, self.spec = name, CameraSpec(name, HEIGHT, WIDTH, color_order)
        self.image = np.full((HEIGHT, WIDTH, 3), color, np.uint8)

    def latest(self):
        return Frame(time.monotonic_ns(), self.image)

    def close(self):
        pass


class ShownBridge:
    """status, frame and command; `taken` is what was commanded."""

    def __init__(self, cameras=()):
        self.cameras = tuple(cameras)
        self.joints = action_spec(True).dims
        self.robot = TwinRobot(real_time=False, now_ns=lambda: 1)
        self.robot.connect()
        self.mode, self.reason, self.takeover = Mode.IDLE, "nothing was asked yet", False
        self.interventions, self.taken = {}, []
        self.frozen_ns = None  # the loop has hung at this time
        self.instruction = "reach"
        self._gate = Gate(self.robot)
        self._operator = Operator(self._gate, self.joints[:-1])
        self._lock, self._begun_ns = threading.Lock(), time.monotonic_ns()

    def status(self):
        now = time.monotonic_ns() if self.frozen_ns is None else self.frozen_ns
        moving = 0.3 * np.sin((now - self._begun_ns) / 1e9 + np.arange(6))
        plan_times = now + np.arange(20) * 100_000_000
        plan = np.concatenate([np.tile(HOME, (20, 1)), np.ones((20, 1))], 1)
        with self._lock:
            return Status(
                time_ns=now, tick=(now - self._begun_ns) // 100_000_000, mode=self.mode,
                reason=self.reason, rate_hz=10.0, joints=self.joints,
                reading=Reading(now, np.asarray(HOME) + moving, 0.7, True),
                target=np.append(HOME, 0.7), plan=Plan(plan_times, plan.astype(np.float32)),
                source=SOURCE, takeover=self.takeover,
                source_health=SourceHealth(ready=True, queries=3, chunks=3, latency_ms=21.0),
                robot=ROBOT, robot_identity={"firmware": "6.6"},
                robot_health=RobotHealth(connected=True, reads=120, failed_reads=2),
                cameras={c.name: CameraStatus(HEIGHT, WIDTH, now) for c in self.cameras},
                interventions=self.interventions,
                timing={"ticks": 120, "overruns": 1, "skipped": 0, "late_p50_ms": 0.1,
                        "late_p99_ms": 0.4, "late_max_ms": 1.25, "busy_p50_ms": 2.0,
                        "busy_p99_ms": 3.0, "busy_max_ms": 4.0},
                ages_ms={"reading": 12.0, "observation": 20.0, "policy": None},
                recorder=RecorderStatus(path="/logs/episode.arplog", recording=True, steps=120),
                episode=1, instruction=self.instruction, commands=self._commands(),
            ).to_json()  # fmt: skip

    def frame(self, camera):
        return {c.name: c for c in self.cameras}[camera].latest()

    def command(self, name, **arguments):
        self._operator.command(name, **arguments)
        with self._lock:
            for request in self._operator.take():
                self.taken.append((request.name, dict(request.arguments)))
                self._apply(request.name)

    def names(self):
        """Names of what was commanded."""
        return [name for name, _ in list(self.taken)]

    def set(self, **values):
        """Changes what is shown."""
        with self._lock:
            for name, value in values.items():
                setattr(self, name, value)

    def _apply(self, name):
        if name in ("takeover", "give_back"):
            self.takeover = name == "takeover"
        event = {"success": "finish", "failure": "finish", "stop": "finish"}.get(name, name)
        if event in list(Event):
            self.mode, self.reason = next_mode(self.mode, Event(event)), f"{name} by a person"
            if self.mode is Mode.APPROACH:
                self.mode = next_mode(self.mode, Event.ARRIVED)

    def _commands(self):
        possible = {event for mode, event in TABLE if mode is self.mode and event in PERSONS}
        names = {e.value for e in possible if e is not Event.FINISH} | {"note", "instruction"}
        if self.mode is Mode.RUNNING:
            names |= {"stop", "success", "failure"}
            names |= {"jog", "gripper", "give_back"} if self.takeover else {"takeover"}
        return sorted(names)
