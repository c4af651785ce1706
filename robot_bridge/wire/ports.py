"""From an arm's address to a `Robot`: `serial:/dev/ttyACM0`, `tcp:HOST:9000`, `sim:`.

In: the address as people write it, the driver's name, how the arm is used. Out: a `Robot` that is
not yet connected: nothing is opened and nothing moves here.
"""

from robot_bridge.robots import Robot
from robot_bridge.wire.arm_driver import ArmDriver
from robot_bridge.wire.lines import Line, SerialLine, TcpLine
from robot_bridge.wire.mycobot import MyCobot
from robot_bridge.wire.mycobot_config import MyCobotConfig
from robot_bridge.wire.wire_driver import WireDriver

DRIVERS = ("wire", "pymycobot")
TCP_PORT = 9000  # of the vendor's server
FORMS = "serial:/dev/ttyACM0, serial:COM11, tcp:HOST, tcp:HOST:9000 or sim:"


def open_robot(url: str, driver: str = "wire", config: MyCobotConfig | None = None) -> Robot:
    """The arm at an address.

    Args:
        url: see above.
        driver: "wire" speaks the protocol itself; "pymycobot" uses the vendor's classes.
        config: see `MyCobotConfig`; for `sim:` only `with_gripper` counts.

    Raises:
        ValueError: no such form of address or driver.
    """
    config = config or MyCobotConfig()
    kind, separator, address = url.partition(":")
    if kind == "sim" and separator and not address:
        from robot_bridge.twin.twin_robot import TwinRobot  # MuJoCo, only where it is asked for

        return TwinRobot(tool="adaptive" if config.with_gripper else "none")
    return MyCobot(arm_driver(url, driver), config)


def arm_driver(url: str, driver: str = "wire") -> ArmDriver:
    """The driver for an address, not yet open; errors as `open_robot`."""
    if driver not in DRIVERS:
        raise ValueError(f"driver {driver!r}: expected {' or '.join(DRIVERS)}")
    line = arm_line(url)
    if driver == "wire":
        return WireDriver(line)
    from robot_bridge.wire.pymycobot_driver import serial_driver, tcp_driver

    kind, _, address = url.partition(":")
    return serial_driver(address) if kind == "serial" else tcp_driver(*_host_and_port(url, address))


def arm_line(url: str) -> Line:
    """The line to an address, not yet open; errors as `open_robot`."""
    kind, _, address = url.partition(":")
    if kind == "serial" and address:
        return SerialLine(address)
    if kind == "tcp" and address:
        return TcpLine(*_host_and_port(url, address))
    raise ValueError(f"robot {url!r}: expected {FORMS}")


def _host_and_port(url: str, address: str) -> tuple[str, int]:
    """ "HOST", "HOST:PORT", "[IPv6]:PORT"."""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        port = rest.removeprefix(":") if bracket and rest[:1] in ("", ":") else "?"
    else:
        host, _, port = address.partition(":")
    number = int(port) if port.isascii() and port.isdigit() else 0 if port else TCP_PORT
    if not host or not 1 <= number <= 65535:
        raise ValueError(f"robot {url!r}: expected tcp:HOST or tcp:HOST:PORT, port 1 ... 65535")
    return host, number
