"""Is everything wired, permitted, in the right mode and fast enough? Nothing moves.

One line each: ok, warn (it works, but) or FAIL (it will not), with what to do. The exit status is 1
after a failure. Looked at: settings, port and permission, firmware, power, errors, modes, joint
zeros, reading rate, gripper, cameras, the log's folder, packages; with --policy the policy too.

Examples:
    robot-bridge check
    robot-bridge check --robot=serial:/dev/ttyACM0
    robot-bridge check --robot=tcp:192.168.1.159:9000 --seconds=10
    robot-bridge check --config=my_arm.toml --policy=ws://192.168.1.20:8765
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator

from robot_bridge.commands.assembly import open_machine, open_policy
from robot_bridge.commands.check_arm import check_arm
from robot_bridge.commands.check_cameras import check_cameras, check_folder
from robot_bridge.commands.check_port import check_port
from robot_bridge.commands.check_zero import check_zero
from robot_bridge.commands.findings import Finding, report
from robot_bridge.commands.flags import add_config_flags, config_of
from robot_bridge.robots import RobotError
from robot_bridge.settings.config import Config

# module -> what it is needed for, and its extra.
_PACKAGES = {
    "mujoco": ("the twin: --robot=sim, dry runs", "twin"),
    "cv2": ("cameras", "cameras"),
    "pymycobot": ("robot.driver = pymycobot", "pymycobot"),
    "jax": ("artifacts on this computer", "local"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--policy", metavar="URL|DIR", help="checks this policy too")
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="how long rates are measured (3)"
    )
    add_config_flags(parser)


def main(flags: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 1 after a failure."""
    return report(findings(config_of(flags), flags.seconds), sys.stdout)


def findings(config: Config, seconds: float) -> Iterator[Finding]:
    """All checks in their order; what depends on a failed one is left out."""
    yield Finding("ok", "settings", f"{config.robot.url}, {config.loop.rate_hz:g} Hz")
    yield from check_packages(config)
    port = list(check_port(config.robot.url))
    yield from port
    if all(finding.level != "fail" for finding in port):
        yield from check_zero(config)
        yield from _check_machine(config, seconds)
    if config.log.enabled:
        yield check_folder(config.log.folder, len(config.camera))
    if config.policy.server or config.policy.artifact is not None:
        yield _check_policy(config)


def check_packages(config: Config) -> Iterator[Finding]:
    """What is installed; a package that the settings need and that is missing is a failure."""
    needed = {
        "mujoco": config.robot.url in ("sim", "sim:"),
        "cv2": any(camera.source != "twin" for camera in config.camera),
        "pymycobot": config.robot.driver == "pymycobot",
        "jax": config.policy.artifact is not None,
    }
    missing = {n: _PACKAGES[n] for n in _PACKAGES if importlib.util.find_spec(n) is None}
    for name, (purpose, extra) in missing.items():
        level = "fail" if needed[name] else "warn"
        if level == "fail" or name == "mujoco":
            advice = f"pip install 'robot-bridge[{extra}]'"
            yield Finding(level, "package", f"no {name} ({purpose})", advice)  # type: ignore[arg-type]
    shown = ", ".join(name for name in _PACKAGES if name not in missing) or "none"
    yield Finding("ok", "packages", f"optional ones here: {shown}")


def _check_machine(config: Config, seconds: float) -> Iterator[Finding]:
    try:
        with open_machine(config) as machine:
            robot = machine.robot
            yield from check_arm(robot, config.loop.rate_hz, config.robot.gripper, seconds)
            yield from check_cameras(machine.cameras, config.loop.rate_hz, seconds)
    except (RobotError, ValueError) as error:
        yield Finding("fail", "machine", "cannot be opened", str(error))


def _check_policy(config: Config) -> Finding:
    begin = time.monotonic()
    try:
        policy = open_policy(config, time.monotonic_ns, lambda line: None)
    except ValueError as error:
        return Finding("fail", "policy", "cannot be used", str(error))
    try:
        seconds = time.monotonic() - begin
        return Finding("ok", "policy", f"{policy.name}, ready after {seconds:.1f} s, fits this arm")
    finally:
        policy.close()
