"""A control loop on simulated time: the digital twin as the arm, parts that fail when told to."""

import dataclasses
import time

import numpy as np

from arp_jax.specs import ObservationSpec
from robot_bridge.arm import HOME, JOINTS, action_spec, state_spec
from robot_bridge.log.recorder import Recorder
from robot_bridge.log.run_log import RunLog
from robot_bridge.loop.control_loop import ControlLoop
from robot_bridge.loop.joint_release import JointRelease
from robot_bridge.loop.operator import Gate, Operator
from robot_bridge.loop.parts import Parts
from robot_bridge.safety.modes import Mode
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.sources import PlannedAction, SourceHealth
from robot_bridge.twin.twin_robot import TwinRobot

RATE_HZ = 20.0
PERIOD_NS = round(1e9 / RATE_HZ)
START = np.array([*HOME, 1.0])
PATIENCE_S = 20.0


class Fallible:
    """Passes everything on to a real part, except that `broken` methods raise, and counts calls."""

    def __init__(self, part):
        self.part, self.broken, self.calls = part, {}, {}
        self.targets = []

    def __getattr__(self, name):
        found = getattr(self.part, name)
        if not callable(found):
            return found

        def call(*arguments):
            self.calls[name] = self.calls.get(name, 0) + 1
            if name in self.broken:
                raise self.broken[name]
            if name == "write":
                self.targets.append(arguments)
            return found(*arguments)

        return call


class Waving:
    """A source: a slow wave of one joint round home; says nothing while `silent`."""

    name, kind = "wave", "policy"

    def __init__(self):
        self.offset = np.zeros(7)
        self.silent = self.finished = False
        self.ready = True
        self.seen = []
        self.resets = 0

    def reset(self):
        self.resets += 1

    def observe(self, observation):
        self.seen = [*self.seen[-99:], observation]

    def action(self, time_ns):
        if self.silent:
            return None
        wish = START + self.offset
        wish[0] += 0.2 * np.sin(2 * np.pi * time_ns / 4e9)
        return PlannedAction(wish.astype(np.float32), self.seen[-1].time_ns, self.finished)

    def plan(self):
        return None

    def health(self):
        return SourceHealth(ready=self.ready)

    def close(self):
        pass


class Rig:
    """Everything that `daemon.Bridge` assembles, driven tick by tick.

    Args:
        folder: for logs.
        parts: changes of the parts.
    """

    def __init__(self, folder, **parts):
        self.now = 1_000_000_000
        self.twin = TwinRobot(real_time=False, now_ns=self.now_ns)
        self.robot, self.source = Fallible(self.twin), Fallible(Waving())
        self.robot.connect()
        spec = ObservationSpec((state_spec(True),))
        self.parts = Parts(self.robot, self.source, Limits(), spec, action_spec(True))
        self.parts = dataclasses.replace(self.parts, rate_hz=RATE_HZ, **parts)
        self.gate = Gate(self.robot)
        self.operator = Operator(self.gate, JOINTS)
        self.recorder = Fallible(Recorder(folder, 50_000_000))
        self.release = JointRelease(self.robot)
        log = RunLog(self.parts, self.recorder)
        arguments = (self.parts, self.operator, self.gate, log, self.release, self.now_ns)
        self.loop = ControlLoop(*arguments)

    def now_ns(self):
        return self.now

    def tick(self, count=1):
        """Ticks after one period each; the twin moves meanwhile."""
        for _ in range(count):
            self.now += PERIOD_NS
            self.twin.advance(self.now)
            self.loop.tick()

    def freeze(self, frozen=True):
        """The arm's readings stop, or go on; it moves all the same."""
        reading = self.twin.read()
        if frozen:
            self.twin.read = lambda: reading
        else:
            self.twin.__dict__.pop("read", None)

    def ask(self, name, **arguments):
        """One command and the tick that obeys it."""
        self.operator.command(name, **arguments)
        self.tick()

    def start(self):
        """Into mode running."""
        self.tick(2)
        self.ask("start")
        self.tick(200 if self.parts.approach is not None else 2)
        assert self.mode is Mode.RUNNING, self.loop.reason

    @property
    def mode(self):
        return self.loop.mode

    @property
    def writes(self):
        return len(self.robot.targets)

    def angles(self):
        return self.twin.read().angles

    def wait(self, condition):
        """Real time for a real thread, with simulated ticks."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, (self.mode, self.loop.reason)
            time.sleep(0.002)
            self.tick()

    def close(self):
        """As `Bridge.close`."""
        for part in (self.robot, self.source, self.recorder):
            part.broken.clear()
        self.loop.end("the test is over")
        self.release.close()
        self.recorder.close()
        self.robot.close()
