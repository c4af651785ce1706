"""A program that runs beside this one, and what it prints, line by line.

In: a command of the checkout. Out: lines as they come, a match of one that is waited for, the exit
status. For demonstrations that need several programs at once; one command after another is
`quickstart.run_command`.
"""

import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]


class Program:
    """`python ARGUMENTS...` in the checkout; a context manager that interrupts it at the end.

    Args:
        name: stands before each line that it prints.
        arguments: of Python.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        print(f"\n$ python {shlex.join(arguments)}", flush=True)
        self._process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this program first, which ends the others
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=name)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.interrupt()

    def wait_line(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The first line that matches.

        Raises:
            RuntimeError: it ended, or the time is over, without one.
        """

        def found() -> re.Match[str] | None:
            return next((m for line in self.lines if (m := re.search(pattern, line))), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, timeout_s)
            match, why = found(), "it ended" if self._ended else f"{timeout_s:g} s are over"
        if match is None:
            raise RuntimeError(f"{self.name}: no line {pattern!r}: {why}")
        return match

    def interrupt(self, timeout_s: float = 60.0) -> int:
        """Interrupts it as Ctrl-C does, waits for its end and returns the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self.name} | {line}", end="", flush=True)
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
