"""The digital twin: a `Robot` that is MuJoCo's model of arm and gripper (`--robot=sim:`).

In: the commands that the real arm gets. Out: readings like the real arm's, with the simulated
arm's speed and lag. Time is real, kept by a thread of its own, or a clock's that tests and the
pre-flight move by hand. MuJoCo is imported when a twin is made, not before. Pictures of it:
`synthetic_camera.py`.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_bridge.arm import HOME
from robot_bridge.robots import Reading, RobotError, RobotHealth

if TYPE_CHECKING:
    from robot_bridge.twin.twin_physics import TwinPhysics

READING_HZ = 50.0  # the real controller answers no faster
# After a longer pause (a suspended computer) time goes on from now, instead of all being made up.
_CATCH_UP_NS = 1_000_000_000
_JOIN_S = 5.0


class TwinRobot:
    """An arm that exists in MuJoCo only; see `robots.Robot`. All methods may be called by any
    thread.

    Args:
        tool: "adaptive", "force" (grippers), "rod" or "none".
        start: where the arm stands at first [6], rad.
        opening: of the gripper at first, 0 ... 1.
        real_time: a thread keeps the arm in step with `now_ns` from `connect` to `close`; else
            nothing moves but by `advance` and by what `now_ns` says when a command comes.
        now_ns: monotonic clock.

    Raises:
        RobotError: MuJoCo is not installed.
        ValueError: unknown tool.
    """

    name = "mycobot320-twin"

    def __init__(
        self,
        tool: str = "adaptive",
        start: Sequence[float] = HOME,
        opening: float = 1.0,
        real_time: bool = True,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.tool = tool
        self._physics = _make_physics(tool, start, opening)
        self._now_ns = now_ns
        self._lock = threading.RLock()
        self._reading: Reading | None = None
        self._connected, self._closed, self._time_ns = False, False, 0
        self._reads, self._writes = 0, 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="twin", daemon=True)
        self._real_time = real_time

    def connect(self) -> Mapping[str, Any]:
        """See `Robot`; time begins to run."""
        import mujoco

        with self._lock:
            if self._closed:
                raise RobotError("sim: this twin is closed; make another")
            if not self._physics.powered:
                raise RobotError("sim: power is off; switch it on (set_power)")
            if not self._connected:
                self._connected, self._time_ns = True, self._now_ns()
                self._observe()
                if self._real_time:
                    self._thread.start()
        return {
            "name": self.name,
            "port": "sim:",
            "firmware": f"MuJoCo {mujoco.__version__}",
            "tool": self.tool,
        }

    def read(self) -> Reading | None:
        """See `Robot`."""
        return self._reading

    def write(self, angles: np.ndarray, gripper: float | None) -> None:
        """See `Robot`; raises ValueError unless the target is six finite numbers."""
        with self._lock:
            self.advance(self._now_ns())
            self._physics.aim(angles, gripper)
            self._writes += 1

    def hold(self) -> None:
        """See `Robot`."""
        with self._lock:
            self.advance(self._now_ns())
            if self._physics.powered and not self._physics.free:
                self._physics.stop()

    def set_power(self, on: bool) -> None:
        """See `Robot`; switched on again, errors are forgotten and the arm is gripped."""
        with self._lock:
            self.advance(self._now_ns())
            self._physics.set_power(on)
            self._observe()

    def set_free(self, free: bool) -> None:
        """See `Robot`; a free arm stays where it is until `push`."""
        with self._lock:
            self.advance(self._now_ns())
            if not self._physics.powered:
                raise RobotError("sim: power is off, the arm has fallen free already")
            if free:
                self._physics.let_go()
            else:
                self._physics.grip()

    def clear_error(self) -> None:
        """See `Robot`."""
        with self._lock:
            self.hold()
            self._physics.error = 0
            self._observe()

    def push(self, angles: np.ndarray) -> None:
        """A hand moves the free joints to `angles` [6], rad; raises ValueError unless free."""
        with self._lock:
            self.advance(self._now_ns())
            self._physics.push(angles)

    def place(self, angles: np.ndarray, opening: float) -> None:
        """Puts the arm at `angles` [6] (rad), at rest: where another arm, whose twin it is, is."""
        with self._lock:
            self.advance(self._now_ns())
            self._physics.place(angles, opening)
            self._observe()

    def advance(self, until_ns: int) -> None:
        """Simulates up to this monotonic time (in whole physics steps); never back."""
        from robot_bridge.twin.twin_physics import STEP_NS

        with self._lock:
            ahead = until_ns - self._time_ns
            if not self._connected or ahead < STEP_NS:
                return
            steps = min(ahead, _CATCH_UP_NS) // STEP_NS
            self._physics.step(steps)
            self._time_ns = until_ns - ahead % STEP_NS
            self._observe()

    def health(self) -> RobotHealth:
        """See `Robot`; reads are the readings since `connect`."""
        with self._lock:
            return RobotHealth(self._connected, self._reads, writes=self._writes)

    def close(self) -> None:
        """See `Robot`."""
        with self._lock:
            if self._connected:
                self.hold()
            self._connected, self._closed = False, True
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def positions(self) -> np.ndarray:
        """float64 [nq]: the model's positions now, for a renderer."""
        with self._lock:
            return self._physics.positions

    def speeds(self) -> np.ndarray:
        """float64 [6]: of the joints now, rad/s."""
        with self._lock:
            return self._physics.speeds

    def touching(self) -> tuple[str, ...]:
        """Names of the bodies that touch the table now."""
        with self._lock:
            return self._physics.touching()

    @property
    def model(self) -> Any:
        """MuJoCo's model, for a renderer's copy; not to be changed."""
        return self._physics.model

    def _observe(self) -> None:
        """Makes the state now the newest reading."""
        arm = self._physics
        self._reads += 1
        self._reading = Reading(
            time_ns=self._time_ns,
            angles=arm.angles,
            gripper=arm.opening,
            gripper_measured=arm.gripper is not None,
            powered=arm.powered,
            error=arm.error,
        )

    def _keep_time(self) -> None:
        while not self._ending.wait(1.0 / READING_HZ):
            self.advance(self._now_ns())


def _make_physics(tool: str, start: Sequence[float], opening: float) -> "TwinPhysics":
    try:
        from robot_bridge.twin.twin_physics import TwinPhysics
    except ImportError as error:
        raise RobotError(
            f"sim: the twin needs MuJoCo ({error}); pip install 'robot-bridge[twin]'"
        ) from error
    return TwinPhysics(tool, np.asarray(start, np.float64), opening)
