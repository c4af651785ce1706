"""Preparing an arm before it may move: open, stopped, powered, newest target wins, all verified.

In: a driver, a way to stop, a way to wait. Out: what is known about the arm's state. Used at the
start, after every loss, to switch power or joints, to clear an error; only in the thread that owns
the driver. An acknowledgement proves nothing here: every setting is read back.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from robot_bridge.arm import describe_error
from robot_bridge.robots import RobotError
from robot_bridge.wire.arm_driver import LATEST, ArmDriver

LOG = logging.getLogger(__name__)
TRIES = 3
TRY_AGAIN_S = 0.05
# Together longer than the drivers wait for late replies to die out (`reply_ledger.py`).
ANSWER_TRIES, ANSWER_AGAIN_S = 9, 0.15
POWER_TRIES, POWER_AGAIN_S = 25, 0.2  # servos need seconds to come up
T = TypeVar("T")


class ArmSession:
    """What is known about a driver's arm, and the sequences that establish it.

    Args:
        driver: of the arm.
        stop: transmits a stop, now; whether it is known to have arrived.
        pause: waits so many seconds; serves stops meanwhile; raises RobotError when all ends.

    Attributes:
        powered: the servos are on, as far as known.
        error: the controller's newest error code.
    """

    def __init__(
        self,
        driver: ArmDriver,
        stop: Callable[[], bool],
        pause: Callable[[float], None],
    ) -> None:
        self.powered = False
        self.error = 0
        self._driver = driver
        self._stop = stop
        self._pause = pause
        self._poll_turn = 0

    def prepare(self) -> None:
        """Opens the port if need be, stops the arm, verifies power and mode.

        Without power the mode is not touched, and this is no error: `powered` says so.

        Raises:
            RobotError: no port, no answer, or the mode cannot be set.
        """
        if not self._driver.is_open:
            self._driver.open()
        for _ in range(TRIES):
            if self._stop():
                break
        self.powered = self._answer(self._driver.is_powered, "whether it has power")
        self.error = self._answer(self._driver.get_error, "for its error code")
        if self.powered:
            self._set_mode()

    def identity(self) -> Mapping[str, Any]:
        """What identifies the arm, plain JSON values; None for what it does not tell."""
        for _ in range(TRIES):
            versions = self._driver.versions()
            if None not in versions.values():
                break
        return {"port": self._driver.port, "fresh_mode": LATEST, **versions}

    def switch_power(self, on: bool) -> None:
        """Raises RobotError unless the arm says itself that power is on, or off."""
        if not self._driver.is_open:
            self._driver.open()
        self._driver.set_power(on)  # its acknowledgement may be -1 although it worked
        for _ in range(POWER_TRIES):
            powered = self._driver.is_powered()
            if powered is on:
                self.powered = on
                return
            self._pause(POWER_AGAIN_S)
        raise RobotError(
            f"{self._driver.port}: power does not go {'on' if on else 'off'}; release the e-stop "
            f"button, check the supply, switch the arm off and on"
        )

    def set_free(self, free: bool) -> None:
        """Raises RobotError unless the arm acknowledges."""
        for _ in range(TRIES):
            if free and not self._stop():
                continue
            if self._driver.release() if free else self._driver.focus():
                if not free:
                    self._stop()  # servos that grip again must not go on to an old goal
                return
            self._pause(TRY_AGAIN_S)
        raise RobotError(
            f"{self._driver.port}: no acknowledgement for {'free' if free else 'gripped'} joints; "
            f"take care, they may be either"
        )

    def clear_error(self) -> None:
        """Stops, tells it once, reads back; raises RobotError unless the arm says: no error."""
        if not any(self._stop() for _ in range(TRIES)):
            raise RobotError(
                f"{self._driver.port}: no answer to the stop that must come before; reset again"
            )
        acknowledged = self._driver.clear_error()
        for _ in range(TRIES):
            self.error = self._answer(self._driver.get_error, "for its error code")
            if not self.error:
                return
            self._pause(TRY_AGAIN_S)
        what = "stays" if acknowledged else "stays (no acknowledgement for clearing it)"
        raise RobotError(
            f"{self._driver.port}: {describe_error(self.error)}; it {what}: press the e-stop, "
            f"move the arm away from there by hand, power on, reset again; or switch the arm off "
            f"and on"
        )

    def poll(self) -> str:
        """Asks for one of power, error and mode in turn; why the arm counts as lost, "" if not."""
        self._poll_turn = (self._poll_turn + 1) % 4
        if self._poll_turn in (0, 2):
            powered = self._driver.is_powered()
            if powered and not self.powered:
                return "its power came back"
            self.powered = self.powered if powered is None else powered
        elif self._poll_turn == 1:
            error = self._driver.get_error()
            self.error = self.error if error is None else error
        elif self.powered and self._driver.get_fresh_mode() == 1 - LATEST:
            return "it forgot the mode for streamed targets"
        return ""

    def _set_mode(self) -> None:
        for _ in range(TRIES):
            self._driver.set_fresh_mode(LATEST)
            if self._driver.get_fresh_mode() == LATEST:
                return
            self._pause(TRY_AGAIN_S)
        raise RobotError(
            f"{self._driver.port}: the mode for streamed targets (fresh mode 1) cannot be set; "
            f"update the arm's firmware (atomMain, minirobot)"
        )

    def _answer(self, question: Callable[[], T | None], what: str) -> T:
        for _ in range(ANSWER_TRIES):
            answer = question()
            if answer is not None:
                return answer
            self._pause(ANSWER_AGAIN_S)
        raise RobotError(
            f"{self._driver.port}: no answer when asked {what}; is the arm on, and an M5 set to "
            f"'Transponder', 'USB UART' on its screen?"
        )
