"""The emulated arm behind the vendor's TCP server (`Server_320.py` on the Pi model).

One client at a time; each received block goes raw to the arm's serial line, then the first frame
that the line gives within .1 s, other than an echo of the request, goes back; later ones wait in
the line and answer the next request. GPIO commands stay on the Pi. No framing on the way in, no
authentication: as the real one, which also takes an acknowledgement that equals its request (as
that of set_fresh_mode(1) does) for an echo.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Any, Self

from robot_bridge.emulator.core import Emulator, disturbed
from robot_bridge.emulator.schedule import Waker
from robot_bridge.wire.frames import FOOTER, HEADER, Command, encode

_PATIENCE_S = 0.1
_GPIO = frozenset(
    {
        Command.SET_GPIO_MODE,
        Command.SET_GPIO_UP,
        Command.SET_GPIO_OUTPUT,
        Command.GET_GPIO_INPUT,
    }
)


class TcpPort:
    """Serves an emulator on loopback; a context manager, in a thread of its own.

    Args:
        emulator: the arm.
        port: to listen on, 0 for any free one.

    Attributes:
        address: (host, port) to connect to; it stays the same.
    """

    def __init__(self, emulator: Emulator, port: int = 0) -> None:
        self._emulator = emulator
        self._line = bytearray()  # what came from the arm and was not handed on yet
        self._pins: dict[int, int] = {}
        self._waker = Waker()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._closed = False
        self.address = ("127.0.0.1", port)
        self.connect()
        self._thread = threading.Thread(target=self._serve, name="emulated-tcp", daemon=True)
        self._thread.start()

    def disconnect(self) -> None:
        """The server dies: connections are reset, new ones refused."""
        with self._lock:
            self._reset_client()
            if self._listener is not None:
                # Closing alone takes effect when the thread leaves its `select`.
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
            self._listener = None
        self._emulator.note("disconnected")
        self._waker.wake()

    def reset(self) -> None:
        """Resets the connection; a new one is welcome."""
        with self._lock:
            self._reset_client()
        self._emulator.note("connection reset")
        self._waker.wake()

    def connect(self) -> None:
        """The server is there (again), at the same address."""
        with self._lock:
            if self._listener is not None:
                return
            self._listener = socket.create_server(self.address, backlog=1)
            self.address = self._listener.getsockname()[:2]
        self._emulator.note("connected")
        self._waker.wake()

    def close(self) -> None:
        """Ends the thread and the connections; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self.disconnect()
        self._thread.join()
        self._waker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()

    def _reset_client(self) -> None:
        if self._client is not None:
            # Lingering for no time at all: a reset instead of an orderly end.
            with contextlib.suppress(OSError):
                self._client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self._client.close()
        self._client = None

    def _serve(self) -> None:
        while not self._closed:
            # Sockets may be closed by another thread at any point of this.
            with contextlib.suppress(OSError, ValueError):
                client, listener = self._client, self._listener
                source = listener if client is None else client
                if not self._wait(source, None):
                    continue
                if client is not None:
                    self._serve_block(client)
                elif listener is not None:
                    self._welcome(listener)

    def _welcome(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        with self._lock:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client = client

    def _serve_block(self, client: socket.socket) -> None:
        try:
            block = client.recv(1024)
        except OSError:
            block = b""
        try:
            if block:
                self._respond(client, block)
                return
        except IndexError:
            # The real one sends the traceback of its exception to the client, then hangs up.
            client.sendall(b"Traceback (most recent call last):\nIndexError: list index\n")
        with self._lock:
            if self._client is client:
                client.close()
                self._client = None

    def _respond(self, client: socket.socket, block: bytes) -> None:
        command = block[3]
        if command in _GPIO:
            client.sendall(self._gpio(command, block))
            return
        self._emulator.receive(block)
        for pause, content in self._reply(block):
            time.sleep(pause)
            client.sendall(content)

    def _gpio(self, command: int, block: bytes) -> bytes:
        if command == Command.SET_GPIO_OUTPUT:
            self._pins[block[4]] = block[5]
        value = self._pins.get(block[4], 0) if command == Command.GET_GPIO_INPUT else 1
        return encode(command, bytes((value,)))

    def _reply(self, block: bytes) -> list[tuple[float, bytes]]:
        """What goes back for a block: pieces with the pause before each."""
        deadline = self._emulator.clock() + round(_PATIENCE_S * 1e9)
        while True:
            for reply in self._emulator.take():
                self._line += reply.content
            for content in self._frames():
                if content != block:
                    return disturbed(self._emulator, content[3], content)
            left = deadline - self._emulator.clock()
            if left <= 0 or self._closed:
                # As the real one does: the torso of a reply is thrown away.
                self._line.clear()
                return []
            following = self._emulator.next_ns()
            wait = left if following is None else min(left, following - self._emulator.clock())
            self._wait(None, max(0, wait) / 1e9)

    def _frames(self) -> Any:
        """Takes whole frames off the line, one by one; a length byte is believed up to 127."""
        while True:
            start = self._line.find(HEADER)
            del self._line[: start if start >= 0 else max(0, len(self._line) - 1)]
            end = self._line[2] + 3 if len(self._line) > 2 else 0
            if not end or len(self._line) < end:
                return
            content = bytes(self._line[:end])
            if content[2] > 127 or content[-1] != FOOTER:
                del self._line[0]
                continue
            del self._line[:end]
            yield content

    def _wait(self, source: socket.socket | None, seconds: float | None) -> bool:
        """Waits for a socket (or only the time, or a wake-up); True when the socket is ready."""
        sources: list[Any] = [self._waker] if source is None else [source, self._waker]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._waker in ready:
            self._waker.clear()
        return source is not None and source in ready
