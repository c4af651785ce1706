"""From settings to parts: the arm, its cameras, a policy, the page, a bridge's `Parts`.

In: a `Config`. Out: opened cameras, a robot that is not connected yet, sources that fit it. What
needs MuJoCo, OpenCV or the vendor's package is imported only where the settings ask for it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from arp_jax import __version__
from arp_jax.specs import ActionSpec, ObservationSpec
from robot_bridge.actions.policy import RemotePolicy, default_execution
from robot_bridge.actions.policy_client import PolicyError
from robot_bridge.arm import HOME, action_spec, state_spec
from robot_bridge.loop.daemon import Bridge
from robot_bridge.loop.parts import Parts
from robot_bridge.observations import Camera
from robot_bridge.robots import Robot, RobotError
from robot_bridge.safety.compatibility import check_compatible
from robot_bridge.settings.config import CameraSection, Config
from robot_bridge.sources import ActionSource
from robot_bridge.web.web_server import WebServer, WebSettings
from robot_bridge.wire.mycobot import MyCobotConfig
from robot_bridge.wire.ports import open_robot

# An artifact on this computer compiles first; a server has done so.
_POLICY_S = 120.0
TWIN = "twin"


@dataclasses.dataclass(frozen=True)
class Machine:
    """An arm with its cameras, and what it offers to policies and logs."""

    robot: Robot
    cameras: tuple[Camera, ...]
    observation: ObservationSpec
    action: ActionSpec


def is_simulated(config: Config) -> bool:
    """Whether nothing real can move."""
    return config.robot.url in ("sim", "sim:")


def make_robot(config: Config) -> Robot:
    """The configured arm, not connected.

    Raises:
        ValueError: no such URL or driver.
        RobotError: the twin without MuJoCo.
    """
    settings = config.robot
    if is_simulated(config):
        from robot_bridge.twin.twin_robot import TwinRobot

        return TwinRobot(settings.tool, start=settings.start_rad or HOME)
    usage = MyCobotConfig(
        with_gripper=settings.gripper,
        speed=settings.speed_percent,
        gripper_speed=settings.gripper_speed_percent,
    )
    arm = open_robot(settings.url, settings.driver, usage)
    if settings.shadow_rad == 0:
        return arm
    from robot_bridge.twin.twin_robot import TwinRobot
    from robot_bridge.twin.twin_shadow import ShadowedRobot, ShadowLimits

    twin = TwinRobot(settings.tool, real_time=False)
    return ShadowedRobot(arm, twin, ShadowLimits(settings.shadow_rad))


def specs_of(config: Config) -> tuple[ObservationSpec, ActionSpec]:
    """What the configured machine offers, and what it takes."""
    cameras = tuple(camera.spec for camera in config.camera)
    observation = ObservationSpec((state_spec(config.robot.gripper),), cameras)
    return observation, action_spec(config.robot.gripper, config.loop.rate_hz)


@contextmanager
def open_machine(config: Config) -> Iterator[Machine]:
    """Arm and cameras; all of it is closed at the end (a bridge that did so before does no harm).

    Raises:
        ValueError, RobotError: see `make_robot`; a camera of the twin without the twin.
    """
    with ExitStack() as stack:
        robot = make_robot(config)
        stack.callback(robot.close)
        cameras = []
        for section in config.camera:
            cameras.append(_open_camera(section, robot))
            stack.callback(cameras[-1].close)
        yield Machine(robot, tuple(cameras), *specs_of(config))


def _open_camera(section: CameraSection, robot: Robot) -> Camera:
    if section.source == TWIN:
        from robot_bridge.cameras.synthetic_camera import SyntheticCamera
        from robot_bridge.twin.twin_robot import TwinRobot

        if not isinstance(robot, TwinRobot):
            raise ValueError(
                f"camera {section.name!r}: source 'twin' needs --robot=sim, this arm is real"
            )
        try:
            return SyntheticCamera(
                robot, section.spec, section.twin_view or None, section.fps or 30.0
            )
        except RuntimeError as error:
            raise RobotError(str(error)) from error
    from robot_bridge.cameras.capture import Capture, OpenCvCamera

    capture = Capture(
        section.source,
        section.capture_width or None,
        section.capture_height or None,
        section.fps or None,
        section.fourcc or None,
        section.loop,
    )
    return OpenCvCamera(section.spec, capture)


def open_policy(
    config: Config, clock: Callable[[], int], tell: Callable[[str], None]
) -> RemotePolicy:
    """The configured policy, connected, and checked against the configured machine.

    Args:
        clock: of the policy, monotonic ns.
        tell: gets a line when it takes a while.

    Raises:
        ValueError: none is configured, its files cannot be read, it does not answer, or it means
            something else than this robot (each differing field is named).
    """
    settings = config.policy
    if settings.artifact is not None:
        if not (settings.artifact / "manifest.json").is_file():
            raise ValueError(f"policy.artifact: {settings.artifact} holds no exported policy")
        from robot_bridge.actions.policy import LocalPolicy

        tell(f"starting the policy of {settings.artifact} (jax compiles; up to a minute)")
        source: RemotePolicy = LocalPolicy(
            settings.artifact, execution=settings.execution, clock=clock
        )
    elif settings.server:
        tell(f"connecting to the policy at {settings.server}")
        source = RemotePolicy(
            settings.server,
            token=read_token(settings.token_file, "policy.token_file"),
            ca_cert=settings.ca_file,
            execution=settings.execution,
            clock=clock,
        )
    else:
        raise ValueError(
            "no policy: say --policy=ws://HOST:PORT or --policy=ARTIFACT, "
            "or set policy.server or policy.artifact in the file"
        )
    try:
        found = source.wait_ready(_POLICY_S if settings.artifact else 15.0)
        observation, action = specs_of(config)
        check_compatible(found.spec, action, observation, f"the policy {found.policy}")
    except PolicyError as error:
        source.close()
        raise ValueError(f"policy: {error}") from error
    except BaseException:
        source.close()
        raise
    return source


def read_token(path: Path | None, key: str) -> str | None:
    """The token in a file, None without one; ValueError names the setting."""
    if path is None:
        return None
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ValueError(f"{key}: {path} cannot be read ({error.strerror})") from error
    if not token:
        raise ValueError(f"{key}: {path} is empty")
    return token


def make_parts(
    config: Config, machine: Machine, source: ActionSource, approach: np.ndarray | None
) -> Parts:
    """What a bridge is made of.

    Args:
        approach: action [A] at which the run begins: driven to slowly; None: it begins where the
            arm stands.
    """
    joints = len(machine.action.dims) - config.robot.gripper
    chunk_s = 0.0
    versions = {"robot_bridge": __version__, "source": source.name}
    if isinstance(source, RemotePolicy) and (found := source.metadata) is not None:
        execution = config.policy.execution or default_execution(found.spec)
        chunk_s = execution.period / found.spec.action.rate_hz
        versions |= {"policy": found.policy, "artifact": found.content_hash}
    return Parts(
        robot=machine.robot,
        source=source,
        limits=config.safety.limits(config.robot.tool),
        observation=machine.observation,
        action=machine.action,
        cameras=machine.cameras,
        rate_hz=config.loop.rate_hz,
        approach=None if approach is None else approach[:joints],
        approach_gripper=float(approach[joints])
        if approach is not None and len(approach) > joints
        else None,
        approach_limits=config.approach.limits(),
        watchdog=config.watchdog.limits(chunk_s),
        log_folder=config.log.folder if config.log.enabled else None,
        instruction=config.policy.instruction,
        versions=versions | _installed("numpy", "pymycobot"),
    )


def start_pose(config: Config) -> np.ndarray | None:
    """The configured pose [6] at which an episode begins, None: where the arm stands."""
    return np.array(config.robot.start_rad) if config.robot.start_rad else None


def make_page(config: Config, bridge: Bridge) -> WebServer:
    """The page's server, not started.

    Raises:
        ValueError: an address that others can reach without a token of your own.
    """
    settings = config.web
    return WebServer(
        bridge,
        WebSettings(
            host=settings.host,
            port=settings.port,
            token=read_token(settings.token_file, "web.token_file"),
            names=settings.names,
            deadman_s=settings.deadman_s,
            color_orders={camera.name: camera.color_order for camera in config.camera},
        ),
    )


def _installed(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
