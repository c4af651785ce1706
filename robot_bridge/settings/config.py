"""The bridge's configuration: one TOML file for people, frozen dataclasses for the program.

In: the file (degrees, seconds) and changes from the command line. Out: a `Config` (rad), or one
line that names file and key. The commented default is `mycobot320.toml` beside this module; what is
absent in a file is as there. Nothing is opened or connected here: `commands/assembly.py` does.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from arp_jax.control.execution import Execution
from arp_jax.specs import CameraSpec
from robot_bridge.arm import HOME
from robot_bridge.settings.limit_sections import (
    ApproachSection,
    SafetySection,
    ToolName,
    WatchdogSection,
)
from robot_bridge.settings.toml_sections import read_section

DEFAULT_FILE = "mycobot320.toml"
_HOME = Path("~/robot-bridge").expanduser()


@dataclasses.dataclass(frozen=True)
class RobotSection:
    """Which arm, and where an episode begins.

    Attributes:
        url: sim:, serial:/dev/ttyACM0 or tcp:HOST:9000.
        driver: "wire" (ours) or "pymycobot" (through the vendor's classes).
        tool: what the flange carries: "adaptive" or "force" (grippers: actions have a seventh
            number), "rod" or "none".
        speed_percent, gripper_speed_percent: speed argument of each command on the wire.
        start_rad: pose driven to before an episode; empty: it begins where the arm stands.
        shadow_rad: the twin runs beside a real arm, and motion ends when a joint is this far from
            where the twin says it can be (needs MuJoCo); 0: no twin.
    """

    url: str = "sim:"
    driver: Literal["wire", "pymycobot"] = "wire"
    tool: ToolName = "adaptive"
    speed_percent: int = 40
    gripper_speed_percent: int = 50
    start_rad: tuple[float, ...] = HOME
    shadow_rad: float = 0.0

    def __post_init__(self) -> None:
        if len(self.start_rad) not in (0, len(HOME)):
            raise ValueError(f"start_deg: {len(self.start_rad)} angles; {len(HOME)} or none []")
        if self.shadow_rad != 0 and not math.radians(3.0) <= self.shadow_rad <= math.radians(45.0):
            raise ValueError(
                f"shadow_deg must be 0 or 3 ... 45, is {math.degrees(self.shadow_rad)}"
            )
        for name in ("speed_percent", "gripper_speed_percent"):
            if not 1 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} must be 1 ... 100, found {getattr(self, name)}")

    @property
    def gripper(self) -> bool:
        """Whether the tool is one."""
        return self.tool in ("adaptive", "force")


@dataclasses.dataclass(frozen=True)
class LoopSection:
    """The clock: control steps a second (the vendor advises 10 ... 20 for streamed targets)."""

    rate_hz: float = 10.0

    def __post_init__(self) -> None:
        # Below, a course's time would take every tick for a pause (trajectory.py).
        if not 5.0 <= self.rate_hz <= 100.0:
            raise ValueError(f"rate_hz must be 5 ... 100, found {self.rate_hz}")


@dataclasses.dataclass(frozen=True)
class CameraSection:
    """One camera: what policies and logs get, and where it comes from.

    Attributes:
        name: as policies and data call it; never an index.
        source: a device's name, path or number, a file (`camera_devices.find_source`), or "twin":
            the rendered simulation.
        height, width: of the image after crop and scaling.
        color_order: "rgb" or "bgr", of what policies and logs get.
        crop: (left, top, right, bottom) of the captured picture; empty: all of it.
        keep: rectangles of the image outside of which it is black; empty: nothing is.
        capture_height, capture_width, fps, fourcc: asked from the device; 0 and "": its own.
        loop: a video file begins again at its end.
        twin_view: the twin's camera that stands for this one in a dry run (top, front, wrist);
            "": the one of this name.
    """

    name: str
    source: str
    height: int = 480
    width: int = 640
    color_order: Literal["rgb", "bgr"] = "rgb"
    crop: tuple[int, ...] = ()
    keep: tuple[tuple[int, int, int, int], ...] = ()
    capture_height: int = 0
    capture_width: int = 0
    fps: float = 0.0
    fourcc: str = ""
    loop: bool = False
    twin_view: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name {self.name!r}: letters, digits and _ only, e.g. top or wrist")
        if len(self.crop) not in (0, 4):
            raise ValueError(f"crop needs left, top, right, bottom; found {list(self.crop)}")
        if len(self.fourcc) not in (0, 4):
            raise ValueError(f"fourcc needs four characters, e.g. MJPG; found {self.fourcc!r}")
        _ = self.spec  # refuses rectangles without area

    @property
    def spec(self) -> CameraSpec:
        """What policies and logs get."""
        crop = (self.crop[0], self.crop[1], self.crop[2], self.crop[3]) if self.crop else None
        return CameraSpec(self.name, self.height, self.width, self.color_order, crop, self.keep)


@dataclasses.dataclass(frozen=True)
class PolicySection:
    """Who decides in `robot-bridge run`: a server or an artifact on this computer.

    Attributes:
        server: ws://HOST:PORT or wss://HOST:PORT; "" for none.
        artifact: folder of an exported policy; None for none.
        token_file: file with the server's token.
        ca_file: certificates that the server's is checked against; None: the system's.
        instruction: the task in words.
        execute: actions of a chunk before the next query; 0: half of them.
        blend: periods over which one chunk fades into the next.
        ensemble: temperature of temporal ensembling; below 0: none.
    """

    server: str = ""
    artifact: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    instruction: str = ""
    execute: int = 0
    blend: int = 2
    ensemble: float = -1.0

    def __post_init__(self) -> None:
        if self.server and self.artifact is not None:
            raise ValueError("server and artifact are both set; which one decides?")
        if self.server and not self.server.startswith(("ws://", "wss://")):
            raise ValueError(f"server must begin with ws:// or wss://, found {self.server!r}")
        if self.execute < 0 or self.blend < 0:
            raise ValueError(f"execute and blend must be 0 or more: {self.execute}, {self.blend}")

    @property
    def execution(self) -> Execution | None:
        """How chunks become actions; None: as `policy.default_execution` says."""
        if self.ensemble >= 0:
            return Execution(ensemble=self.ensemble)
        return Execution(execute=self.execute, blend=self.blend) if self.execute else None


@dataclasses.dataclass(frozen=True)
class LogSection:
    """Where episodes are written: one .arplog each; enabled = false records nothing."""

    enabled: bool = True
    folder: Path = _HOME / "episodes"


@dataclasses.dataclass(frozen=True)
class ReplayCheckSection:
    """A policy may move a real arm only after a replay that the arm followed.

    Attributes:
        valid_days: so long that counts; 0: for one run (within a day).
        folder: one small file for each arm and tool; not below `log.folder`, which may be another
            for each task.
    """

    valid_days: float = 7.0
    folder: Path = _HOME / "replay_checks"

    def __post_init__(self) -> None:
        if not 0 <= self.valid_days <= 365:
            raise ValueError(f"valid_days must be 0 ... 365, found {self.valid_days}")


@dataclasses.dataclass(frozen=True)
class WebSection:
    """The page; see `web_server.WebSettings`.

    Attributes:
        enabled: whether it is served.
        host, port: address; another host than loopback needs a token of your own.
        token_file: file with the page's token; None: a new random one each time.
        names: names by which browsers reach this computer, besides its own.
        deadman_s: the arm moves only while a visible page was heard within this time; 0: off.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8320
    token_file: Path | None = None
    names: tuple[str, ...] = ()
    deadman_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 (a free one) ... 65535, found {self.port}")


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a file may say; each section has its defaults."""

    robot: RobotSection = dataclasses.field(default_factory=RobotSection)
    loop: LoopSection = dataclasses.field(default_factory=LoopSection)
    safety: SafetySection = dataclasses.field(default_factory=SafetySection)
    approach: ApproachSection = dataclasses.field(default_factory=ApproachSection)
    watchdog: WatchdogSection = dataclasses.field(default_factory=WatchdogSection)
    policy: PolicySection = dataclasses.field(default_factory=PolicySection)
    log: LogSection = dataclasses.field(default_factory=LogSection)
    replay_check: ReplayCheckSection = dataclasses.field(default_factory=ReplayCheckSection)
    web: WebSection = dataclasses.field(default_factory=WebSection)
    camera: tuple[CameraSection, ...] = ()

    def __post_init__(self) -> None:
        self.safety.limits(self.robot.tool)  # refuses what does not fit the tool
        names = [camera.name for camera in self.camera]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"camera: the name {name!r} stands there twice")


def default_text() -> str:
    """The commented default file."""
    return (resources.files("robot_bridge") / DEFAULT_FILE).read_text()


def read_config(path: str | Path | None, changes: Sequence[str] = ()) -> Config:
    """Reads a file, then applies changes.

    Args:
        path: None: the default.
        changes: "section.key=value" each, value as in TOML; quotes around a text may be left out.

    Raises:
        ValueError: names the file (or the change) and the key.
    """
    where = DEFAULT_FILE if path is None else str(path)
    try:
        text = default_text() if path is None else Path(path).read_text()
        table = tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"--config={where}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: no TOML: {error}") from error
    for change in changes:
        _apply(table, change)
    if changes:
        where = f"{where} with {', '.join(changes)}"
    return read_section(Config, table, where)


def _apply(table: dict[str, Any], change: str) -> None:
    """Sets one key of one section."""
    name, equals, value = change.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or "." in key:
        raise ValueError(f"{change!r}: expected section.key=value, e.g. loop.rate_hz=20")
    part = table.setdefault(section, {})
    if not isinstance(part, Mapping):
        raise ValueError(f"{change!r}: [[{section}]] is a list; change it in the file")
    table[section] = {**part, key: _toml_value(value.strip())}


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a text without its quotes
