"""Commands with a person at them: at a real terminal (a pseudo-terminal) and at the page."""

import contextlib
import os
import select
import subprocess
import sys
import time
from urllib.parse import urlparse

import pytest
from websockets.sync.client import connect

from robot_bridge.wire.frames import Command
from tests.robot_bridge.command_line import (
    PATIENCE_S,
    emulated_arm,
    logs_in,
    own_folders,
    running_bridge,
    wait_for_line,
    write_script,
)
from tests.robot_bridge.test_web_server import command, hello, wait_message


class Terminal:
    """The command at a terminal of its own: what it shows, and keys for it."""

    def __init__(self, folder, *arguments):
        self._master, other = os.openpty()
        flags = [*map(str, arguments), *own_folders(folder)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "robot_bridge", *flags],
            cwd=folder,
            stdin=other,
            stdout=other,
            stderr=other,
            close_fds=True,
        )
        os.close(other)
        self.shown = ""

    def wait_for(self, text):
        """Reads until the screen has shown `text` since the last call."""
        deadline = time.monotonic() + PATIENCE_S
        begin = len(self.shown)
        while text not in self.shown[begin:]:
            assert time.monotonic() < deadline, f"{text!r} never came after:\n{self.shown}"
            ready, _, _ = select.select([self._master], [], [], 0.2)
            if ready:
                try:
                    self.shown += os.read(self._master, 4096).decode(errors="replace")
                except OSError as error:  # the command has ended and so has its terminal
                    raise AssertionError(f"ended without {text!r}:\n{self.shown}") from error

    def press(self, keys):
        """Types."""
        os.write(self._master, keys.encode())

    def close(self):
        """Ends the command if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(OSError):
            while os.read(self._master, 4096):  # what nobody reads would block its end
                pass
        self.process.wait(timeout=PATIENCE_S)
        os.close(self._master)


def test_a_terminal_asks_first_and_its_space_bar_stops(tmp_path):
    with emulated_arm("serial") as (arm, url):
        flags = [write_script(tmp_path), f"--robot={url}", "--no_web", "--no_preflight"]
        terminal = Terminal(tmp_path, "replay", *flags, "--speed=0.1")
        try:
            terminal.wait_for("Is its space clear? [y/N]")
            assert not arm.journal.count(Command.SEND_ANGLES)
            terminal.press("y\n")
            terminal.wait_for("running ")
            terminal.press(" ")
            terminal.wait_for("estop ")
            terminal.press("s")  # latched: a start is refused
            terminal.wait_for("start is not possible in mode estop")
            terminal.press("q")
            terminal.wait_for("stopped (estop)")
            assert terminal.process.wait(timeout=PATIENCE_S) == 3
        finally:
            terminal.close()
    (log,) = logs_in(tmp_path)
    assert "estop" in log.end


@pytest.mark.slow
def test_whoever_says_no_sees_nothing_move(tmp_path):
    with emulated_arm("tcp") as (arm, url):
        flags = [write_script(tmp_path), f"--robot={url}", "--no_web", "--no_preflight"]
        terminal = Terminal(tmp_path, "replay", *flags)
        try:
            terminal.wait_for("[y/N]")
            terminal.press("\n")
            terminal.wait_for("error: not confirmed; nothing moved")
            assert terminal.process.wait(timeout=PATIENCE_S) == 2
        finally:
            terminal.close()
        assert not arm.journal.count(Command.SEND_ANGLES)


@pytest.mark.slow
def test_record_by_the_page_logs_what_the_page_moves(tmp_path):
    with emulated_arm("serial") as (arm, url):
        flags = ["--page", f"--robot={url}", "--yes", "--set=web.port=0"]
        with running_bridge(tmp_path, "record", *flags) as process:
            address = urlparse(wait_for_line(process, "page: ").split()[1])
            token = address.fragment.removeprefix("token=")
            with connect(f"ws://{address.netloc}/socket") as page:
                hello(page, token)
                until(page, lambda status: status["source"]["takeover"])
                start = until(page, lambda status: status["mode"] == "running")
                joint = start["reading"]["angles"][5]
                change = {"joint": "joint6", "change": 0.2}
                assert command(page, "jog", change)["ok"]
                until(page, lambda status: status["reading"]["angles"][5] > joint + 0.15)
                assert command(page, "success")["ok"]
                until(page, lambda status: status["mode"] == "idle")
        assert arm.journal.count(Command.SEND_ANGLES)
    (log,) = logs_in(tmp_path)
    assert log.outcome is True
    assert {step.source for step in log.steps} <= {"takeover"}
    assert log.steps[-1].command[5] - log.steps[0].command[5] == pytest.approx(0.2, abs=0.03)


def until(page, condition):
    """The first status for which something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = wait_message(page, "state")["status"]
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
