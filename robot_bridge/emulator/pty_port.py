"""The emulated arm as a serial device: a pseudo-terminal that any serial client can open.

`PtyPort(emulator).path` is a link that stays the same when the device goes away and comes back
(`disconnect`, `connect`), as with a udev rule.
"""

import contextlib
import os
import select
import tempfile
import threading
import tty
from pathlib import Path
from typing import Any, Self

from robot_bridge.emulator.core import Emulator, disturbed
from robot_bridge.emulator.schedule import Outbox, Waker


class PtyPort:
    """Serves an emulator on a pseudo-terminal; a context manager, in a thread of its own.

    Args:
        emulator: the arm.

    Attributes:
        path: device to open.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._folder = tempfile.TemporaryDirectory(prefix="mycobot-")
        self.path = str(Path(self._folder.name) / "tty")
        self._lock = threading.Lock()
        self._master: int | None = None
        self._slave: int | None = None
        self._waker = Waker()
        self._closed = False
        self.connect()
        self._thread = threading.Thread(target=self._serve, name="emulated-pty", daemon=True)
        self._thread.start()

    def disconnect(self) -> None:
        """Pulls the cable: the device is gone, whoever has it open reads an end of file."""
        with self._lock:
            for descriptor in (self._master, self._slave):
                if descriptor is not None:
                    os.close(descriptor)
            self._master = self._slave = None
            Path(self.path).unlink(missing_ok=True)
        self._emulator.note("disconnected")
        self._waker.wake()

    def connect(self) -> None:
        """Plugs it in again, under the same path."""
        with self._lock:
            if self._master is not None:
                return
            # Our own end of the slave keeps the device alive between two clients.
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            os.symlink(os.ttyname(self._slave), self.path)
        self._emulator.note("connected")
        self._waker.wake()

    def close(self) -> None:
        """Ends the thread and removes the device; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self.disconnect()
        self._thread.join()
        self._waker.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()

    def _serve(self) -> None:
        outbox = Outbox(self._emulator)
        while not self._closed:
            master = self._master
            readable: list[Any] = [self._waker] if master is None else [master, self._waker]
            # The master may be closed between the look at it and the call.
            with contextlib.suppress(OSError, ValueError):
                ready, _, _ = select.select(readable, [], [], outbox.wait_s())
                if self._waker in ready:
                    self._waker.clear()
                if master is not None and master in ready:
                    self._emulator.receive(self._read(master))
            for reply in self._emulator.take():
                outbox.add(disturbed(self._emulator, reply.command, reply.content))
            self._write(outbox.due())

    def _read(self, master: int) -> bytes:
        with self._lock:
            return os.read(master, 4096) if master == self._master else b""

    def _write(self, content: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._master is not None and content:
                # Full only when nobody reads: then the bytes are lost, as on a real line.
                os.write(self._master, content)
