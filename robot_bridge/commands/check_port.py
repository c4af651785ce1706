"""Is the way to the arm there? Port, permission and group, or host and TCP port.

In: the robot's URL. Out: findings. Nothing is sent: a port is looked at, a TCP connection opened
and closed again (the vendor's server takes one client at a time, so the bridge connects later).
"""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from robot_bridge.commands.findings import Finding

_CONNECT_S = 3.0
_M5_ADVICE = (
    "plug in USB, release the e-stop, switch the arm on and choose "
    "Transponder -> USB UART on its screen"
)


def check_port(url: str) -> Iterator[Finding]:
    """Findings about `serial:`, `tcp:` and `sim:` URLs; a malformed one is a fail."""
    kind, _, rest = url.partition(":")
    if kind == "sim":
        yield Finding("ok", "port", "the twin needs none")
    elif kind == "serial" and rest:
        yield from _check_serial(Path(rest))
    elif kind == "tcp" and rest:
        yield from _check_tcp(rest)
    else:
        advice = "use sim:, serial:/dev/ttyACM0 or tcp:HOST:9000"
        yield Finding("fail", "port", f"robot.url {url!r} is none that is known", advice)


def _check_serial(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        ports = _ports_here()
        there = f"ports here: {', '.join(ports)}" if ports else "there is no serial port at all"
        yield Finding("fail", "port", f"{path}: {error.strerror}", f"{there}; {_M5_ADVICE}")
        return
    if not stat.S_ISCHR(mode):
        yield Finding("fail", "port", f"{path} is a file, no port", "look at `ls /dev/tty*`")
        return
    target = path.resolve()
    name = str(path) if target == path else f"{path} ({target})"
    yield Finding("ok", "port", f"{name} exists")
    if os.access(path, os.R_OK | os.W_OK):
        yield Finding("ok", "permission", "may be read and written")
    else:
        yield Finding("fail", "permission", f"{path}: {_owner(path)}", _group_advice(path))


def _owner(path: Path) -> str:
    try:
        group = path.group()
    except KeyError:
        group = str(path.stat().st_gid)
    return f"belongs to group {group}, mode {stat.filemode(path.stat().st_mode)}"


def _group_advice(path: Path) -> str:
    try:
        group = path.group()
    except KeyError:
        return "install deploy/99-mycobot.rules (docs/mycobot.md)"
    if path.stat().st_gid in os.getgroups():
        return f"you are in {group}, but the mode forbids it: install deploy/99-mycobot.rules"
    return f"sudo usermod -aG {group} $USER, then log out and in again"


def _ports_here() -> list[str]:
    from serial.tools import list_ports

    return sorted(f"{port.device} ({port.description})" for port in list_ports.comports())


def _check_tcp(rest: str) -> Iterator[Finding]:
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        yield Finding("fail", "port", f"tcp:{rest} has no port", "write tcp:HOST:9000")
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except OSError as error:
        advice = "is the arm in this network, and Server_320.py running on it (as user er)?"
        yield Finding("fail", "port", f"{host} port {port}: {error}", advice)
        return
    yield Finding("ok", "port", f"{host} port {port} answers")
