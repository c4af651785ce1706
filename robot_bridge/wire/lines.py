"""The two lines to an arm, a serial port and a TCP connection, as bytes in and out.

No frames here (`frames.py`) and no decisions (`wire_driver.py`). A line that breaks raises
`LineError`; opening it says in words what is wrong with port, cable or permission.
"""

import contextlib
import errno
import socket
from typing import Protocol

import serial

from robot_bridge.robots import RobotError

# A read waits this long for a first byte: how quickly a driver notices an interruption.
STEP_S = 0.005
# Frames are shorter than any buffer: only a dead adapter takes longer.
WRITE_S = 1.0
CONNECT_S = 1.0
BAUD = 115200


class LineError(Exception):
    """The line broke: unplugged, closed by the other side, or stuck."""


class Line(Protocol):
    """A line to an arm; not thread safe.

    Attributes:
        name: for people.
        relayed: a server stands between, which hands on one reply per message and may keep a late
            one for the next message.
    """

    name: str
    relayed: bool

    def open(self) -> None:
        """Opens it, or opens it again; raises RobotError saying what to do."""
        ...

    def close(self) -> None:
        """Closes it; twice does no harm."""
        ...

    def write(self, data: bytes) -> None:
        """Sends everything; raises LineError."""
        ...

    def read(self) -> bytes:
        """What has arrived, after at most `STEP_S` b"" for nothing; raises LineError."""
        ...

    def drain(self) -> int:
        """Throws away what has arrived; returns how many bytes; raises LineError."""
        ...


class SerialLine:
    """A serial port: the M5's USB, the Pi's UART, a pseudo-terminal."""

    relayed = False

    def __init__(self, path: str) -> None:
        self.name = f"serial:{path}"
        self._path = path
        self._port: serial.Serial | None = None

    def open(self) -> None:
        """Exclusive: a second program on the same port would mix its commands with ours."""
        self.close()
        port = serial.Serial(baudrate=BAUD, timeout=STEP_S, write_timeout=WRITE_S, exclusive=True)
        port.port = self._path
        port.rts = False  # as the vendor's client; RTS alone would restart the M5
        try:
            port.open()
        except (OSError, ValueError) as error:
            raise RobotError(f"{self.name}: {serial_advice(error)}") from None
        self._port = port

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):  # unplugged: nothing is left to close
                port.close()

    def write(self, data: bytes) -> None:
        try:
            self._opened().write(data)
        except OSError as error:
            raise LineError(f"{self.name}: {error}") from error

    def read(self) -> bytes:
        port = self._opened()
        try:
            first = port.read(1)
            return first + port.read(port.in_waiting) if first else first
        except (OSError, TypeError) as error:  # TypeError: pyserial, closed while reading
            raise LineError(f"{self.name}: {error}") from error

    def drain(self) -> int:
        port = self._opened()
        try:
            return len(port.read(port.in_waiting)) if port.in_waiting else 0
        except (OSError, TypeError) as error:
            raise LineError(f"{self.name}: {error}") from error

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise LineError(f"{self.name}: the port is not open")
        return self._port


class TcpLine:
    """A TCP connection to the server that the vendor ships for the Pi.

    It is closed in order, not reset: after a reset that server closes its own port to the arm and
    swallows the next message. The price: a frame that is under way when the network fails may
    still be delivered when it comes back.
    """

    relayed = True

    def __init__(self, host: str, port: int, connect_s: float = CONNECT_S) -> None:
        self.name = f"tcp:{host}:{port}"
        self._address = (host, port)
        self._connect_s = connect_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self.close()
        try:
            connection = socket.create_connection(self._address, self._connect_s)
        except OSError as error:
            raise RobotError(f"{self.name}: {tcp_advice(error)}") from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is None:
            return
        with contextlib.suppress(OSError):  # cut already
            connection.shutdown(socket.SHUT_WR)
            connection.setblocking(False)
            connection.recv(4096)  # unread bytes would make a reset of it
        connection.close()

    def write(self, data: bytes) -> None:
        connection = self._opened()
        try:
            connection.settimeout(WRITE_S)
            connection.sendall(data)
        except OSError as error:
            raise LineError(f"{self.name}: {error}") from error

    def read(self) -> bytes:
        return self._receive(STEP_S)

    def drain(self) -> int:
        return len(self._receive(0.0))

    def _receive(self, wait_s: float) -> bytes:
        connection = self._opened()
        try:
            connection.settimeout(wait_s)
            data = connection.recv(4096)
        except (TimeoutError, BlockingIOError):
            return b""
        except OSError as error:
            raise LineError(f"{self.name}: {error}") from error
        if not data:
            raise LineError(f"{self.name}: the server closed the connection")
        return data

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise LineError(f"{self.name}: the connection is not open")
        return self._socket


def serial_advice(error: Exception) -> str:
    """What to do about a port that does not open."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "there is no such port; is the USB cable plugged in and the arm on?"
    if number == errno.EACCES:
        return "no permission; add your user to the group dialout and log in again"
    if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK) or "lock" in str(error):
        return "another program uses the port; close it first"
    return f"{error}; is it the arm's port?"


def tcp_advice(error: Exception) -> str:
    """What to do about a server that cannot be reached."""
    return f"{error}; is the arm on, in this network, and Server_320.py running on it?"
