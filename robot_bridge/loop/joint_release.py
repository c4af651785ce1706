"""Frees, grips and powers the joints, clears errors, in a thread of its own: it takes seconds.

In: whether the joints should be free now, whether they need power, whether the arm's error is to be
cleared. Out: whether they are, and it is. The control loop writes no target unless they are
gripped. Whatever fails with the joints leaves "gripped" false, which keeps the loop silent.
"""

import threading
from collections.abc import Callable

from robot_bridge.robots import Robot, RobotError


class JointRelease:
    """Brings the joints to the wanted state; all but `close` return at once.

    Args:
        robot: whose slow methods are called, in this class's thread only.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._change = threading.Condition()
        self._wanted = self._power_due = self._clear_due = False
        self._uncleared: str | None = None
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

    @property
    def uncleared(self) -> str | None:
        """Why the arm's error was not cleared, "" when it was; None until that is known."""
        return self._uncleared

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

    def clear_error(self) -> None:
        """Clears the arm's error, once; the thread does it, `uncleared` tells how it went."""
        with self._change:
            self._uncleared, self._clear_due = None, True
            self._change.notify_all()

    def forget_clearing(self) -> None:
        """It is not meant any more; one that is under way goes on."""
        with self._change:
            self._clear_due = False

    def close(self) -> None:
        """Grips the joints and stops; waits for it."""
        self.forget_clearing()
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
                free, power = self._wanted, self._power_due
                clear = not power and not self._move_due()
                self._power_due, self._clear_due = False, self._clear_due and not clear
                self._busy = True
            if power:
                failure = _failure_of(lambda: self._robot.set_power(True), "switched on")
            elif clear:
                failure = _failure_of(self._robot.clear_error, "cleared", "the arm's error")
            else:
                failure = self._attempt(free)
            with self._change:
                self._busy = False
                self._note(failure, free, power, clear)
                if self._failure and self._closing:
                    return

    def _note(self, failure: str, free: bool, power: bool, clear: bool) -> None:
        """What became of it, with the lock."""
        if clear:
            # One that was asked for meanwhile has its own end.
            self._uncleared = None if self._clear_due else failure
            return
        if not power:
            self._is_free = None if failure else free
        self._failure = failure

    def _due(self) -> bool:
        return self._power_due or self._clear_due or self._move_due()

    def _move_due(self) -> bool:
        return self._wanted is not self._is_free and not self._failure

    def _attempt(self, free: bool) -> str:
        what = "freed" if free else "gripped"
        return _failure_of(lambda: self._robot.set_free(free), what)


def _failure_of(action: Callable[[], None], what: str, whose: str = "the joints") -> str:
    try:
        action()
    except (RobotError, OSError) as error:
        return f"{whose} could not be {what}: {error}"
    except Exception as error:  # the thread must live to grip again
        return f"{whose} could not be {what}: {type(error).__name__}: {error}"
    return ""
