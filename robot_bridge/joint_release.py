"""Frees and grips the joints, switches them on, in a thread of its own: it takes the arm seconds.

In: whether the joints should be free now, and whether they need power. Out: whether they are. The
control loop writes no target unless they are gripped. Whatever fails here leaves "gripped" false,
which keeps the loop silent.
"""

import threading
from collections.abc import Callable

from robot_bridge.robots import Robot, RobotError


class JointRelease:
    """Brings the joints to the wanted state; `want` and the properties return at once.

    Args:
        robot: whose `set_free` is called, in this class's thread only.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._change = threading.Condition()
        self._wanted = self._power_due = False
        self._is_free: bool | None = False  # None: an attempt failed, nobody knows
        self._busy = self._closing = False
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="bridge-release", daemon=True)
        self._thread.start()

    @property
    def free(self) -> bool:
        """The joints can be moved by hand, and nothing else is asked for."""
        return self._is_free is True and self._wanted and not self._busy

    @property
    def gripped(self) -> bool:
        """The joints are held by their servos, and nothing else is asked for."""
        return self._is_free is False and not self._wanted and not self._busy

    @property
    def failure(self) -> str:
        """Why the last attempt failed, "" for none; forgotten by the next `want`."""
        return self._failure

    def want(self, free: bool) -> None:
        """Free or gripped; the thread does it. A repeated wish is tried again after a failure."""
        with self._change:
            self._failure = ""
            self._wanted = free
            self._change.notify_all()

    def power_on(self) -> None:
        """Switches the servos on, where they stand; the thread does it."""
        with self._change:
            self._failure = ""
            self._power_due = True
            self._change.notify_all()

    def close(self) -> None:
        """Grips the joints and stops; waits for it."""
        self.want(False)
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._due() or self._closing)
                if not self._due():
                    return
                free, power, self._busy = self._wanted, self._power_due, True
                self._power_due = False
            failure = self._attempt_power() if power else self._attempt(free)
            with self._change:
                self._busy = False
                if not power:
                    self._is_free = None if failure else free
                self._failure = failure
                if failure and self._closing:
                    return

    def _due(self) -> bool:
        return self._power_due or (self._wanted is not self._is_free and not self._failure)

    def _attempt(self, free: bool) -> str:
        what = "freed" if free else "gripped"
        return _failure_of(lambda: self._robot.set_free(free), what)

    def _attempt_power(self) -> str:
        return _failure_of(lambda: self._robot.set_power(True), "switched on")


def _failure_of(action: Callable[[], None], what: str) -> str:
    try:
        action()
    except (RobotError, OSError) as error:
        return f"the joints could not be {what}: {error}"
    except Exception as error:  # the thread must live to grip again
        return f"the joints could not be {what}: {type(error).__name__}: {error}"
    return ""
