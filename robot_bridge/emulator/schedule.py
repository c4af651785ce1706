"""What ports need: bytes that leave later, and a way to wake a thread that waits in `select`."""

import os
from collections import deque

from robot_bridge.emulator.core import Emulator


class Outbox:
    """Pieces that leave one after the other, each after its pause; for one thread."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._pieces: deque[tuple[int, bytes]] = deque()

    def add(self, pieces: list[tuple[float, bytes]]) -> None:
        """Pieces with the pause (s) before each."""
        time_ns = self._emulator.clock()
        if self._pieces:
            time_ns = max(time_ns, self._pieces[-1][0])
        for pause, content in pieces:
            time_ns += round(pause * 1e9)
            self._pieces.append((time_ns, content))

    def due(self) -> bytes:
        """What leaves by now."""
        content = b""
        while self._pieces and self._pieces[0][0] <= self._emulator.clock():
            content += self._pieces.popleft()[1]
        return content

    def wait_s(self) -> float | None:
        """Until something is due, here or in the arm; None: nothing is."""
        times = [self._pieces[0][0]] if self._pieces else []
        following = self._emulator.next_ns()
        if following is not None:
            times.append(following)
        if not times:
            return None
        return max(0.0, (min(times) - self._emulator.clock()) / 1e9)


class Waker:
    """A pipe: `wake` from any thread ends another one's `select`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """For `select`."""
        return self._read

    def wake(self) -> None:
        """Ends the waiting."""
        os.write(self._write, b"\0")

    def clear(self) -> None:
        """Waiting waits again."""
        os.read(self._read, 4096)

    def close(self) -> None:
        """Gives the pipe back."""
        os.close(self._read)
        os.close(self._write)
