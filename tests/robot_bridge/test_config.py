"""Settings: the default file says what the code does, and every mistake is named."""

import dataclasses
import math
import re

import pytest

from robot_bridge.arm import COMMAND_LIMITS, HOME
from robot_bridge.safety.approach import ApproachLimits
from robot_bridge.safety.safety_filter import Limits
from robot_bridge.safety.watchdog import WatchdogLimits
from robot_bridge.settings.config import CameraSection, Config, default_text, read_config
from robot_bridge.settings.toml_sections import key_of, read_section


def write(folder, text):
    path = folder / "arm.toml"
    path.write_text(text)
    return path


def test_the_default_file_is_the_default_and_so_is_an_empty_one(tmp_path):
    assert read_config(None) == Config()
    assert read_config(write(tmp_path, "")) == Config()
    assert Config().safety.limits("adaptive") == Limits()
    assert Config().approach.limits() == ApproachLimits()
    assert Config().watchdog.limits() == WatchdogLimits()


def test_the_default_file_names_every_key():
    text = default_text()
    for section in dataclasses.fields(Config):
        kind = CameraSection if section.name == "camera" else section.default_factory
        part = text[text.index(f"[{section.name}]") :]
        part = part[: part.index("\n[", 1)] if "\n[" in part else part
        for field in dataclasses.fields(kind):
            if section.name == "camera" and field.name == "loop":
                continue  # of test videos
            assert re.search(rf"^(# )?{key_of(field.name)} = ", part, re.M), field.name


def test_commented_lines_of_the_default_file_are_valid(tmp_path):
    text = re.sub(r"^# (?=\w+ = |\[\[)", "", default_text(), flags=re.M)
    text = text.replace("artifact = ", "# artifact = ")  # the other way to have a policy
    config = read_config(write(tmp_path, text))
    assert config.policy.server.startswith("ws://")
    assert config.camera[0].spec.keep == ((230, 350, 412, 400),)
    assert config.camera[0].spec.crop == (80, 0, 560, 480)
    for low, limit in zip(config.safety.low_rad, COMMAND_LIMITS, strict=True):
        assert -limit <= low <= -limit + math.radians(0.1)


def test_degrees_become_radians(tmp_path):
    text = """
    [robot]
    start_deg = [0, 10, 20, 30, 40.0, -50]
    tool = "none"
    [safety]
    speed_deg_s = 30
    acceleration_deg_s2 = 180
    jump_deg = 10
    """
    config = read_config(write(tmp_path, text))
    assert config.robot.start_rad == pytest.approx(
        [math.radians(d) for d in (0, 10, 20, 30, 40, -50)]
    )
    limits = config.safety.limits(config.robot.tool)
    assert limits.speed == pytest.approx(math.pi / 6)
    assert limits.acceleration == pytest.approx(math.pi)
    assert limits.jump == pytest.approx(math.pi / 18)
    assert limits.tool.capsules == ()
    assert not config.robot.gripper
    assert Config().robot.start_rad == HOME
    assert Config().robot.gripper


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[robt]", "unknown key 'robt'; did you mean 'robot'?"),
        ("[robot]\nurll = ''", "robot: unknown key 'urll'; did you mean 'url'?"),
        (
            "[safety]\nspeed_rad_s = 1",
            "safety: unknown key 'speed_rad_s'; did you mean 'speed_deg_s'",
        ),
        ("[safety]\nspeed_deg_s = 720", "safety: safety speed=12.5"),
        ("[safety]\nspeed_deg_s = nan", "speed_deg_s must be finite"),
        ("[safety]\nspeed_deg_s = true", "speed_deg_s must be a number, found True"),
        ("[safety]\nhigh_deg = [170, 132, 142, 143, 165, 177]", "joint1: .* not inside"),
        ("[safety]\nlow_deg = [0, 0]", "low_deg needs 6 angles"),
        ("[safety]\nbox_low_m = [1, 0, 0]", "workspace x: need finite low < high"),
        ("[safety]\nbox_low_m = [1, 0]", "box_low_m needs 3 values, found 2"),
        ("[robot]\ntool = 'rod'", "tool_length_m: a rod needs its length"),
        ("[robot]\ntool = 'hammer'", r"robot: tool must be one of .*, found 'hammer'"),
        ("[robot]\nspeed_percent = 0", "speed_percent must be 1 ... 100"),
        ("[robot]\nspeed_percent = 40.0", "speed_percent must be a whole number"),
        ("[robot]\nstart_deg = [1]", "start_deg: 1 angles"),
        ("[loop]\nrate_hz = 1", "rate_hz must be 5 ... 100"),
        ("[approach]\nspeed_deg_s = 0", "approach: approach speed=0.0: must be"),
        ("[watchdog]\npolicy_s = [3, 2]", "watchdog: watchdog: need 0 < wait <= hold"),
        ("[web]\nport = 99999", "port must be 0"),
        ("[policy]\nserver = 'http://x'", "server must begin with ws://"),
        ("[policy]\nserver = 'ws://x'\nartifact = 'y'", "which one decides"),
        ("[[camera]]\nname = 'a'", "camera 1: source is missing"),
        ("[[camera]]\nname = '0 1'\nsource = '0'", "letters, digits and _ only"),
        ("[[camera]]\nname = 'a'\nsource = '0'\ncrop = [1, 2]", "crop needs left, top"),
        ("[[camera]]\nname = 'a'\nsource = '0'\ncrop = [9, 0, 2, 5]", "camera 'a': crop must be"),
        ("[[camera]]\nname = 'a'\nsource = '0'\n" * 2, "'a' stands there twice"),
        ("camera = 3", "camera must be a list"),
        ("robot = 3", r"robot: expected a table \(\[section\]\), found 3"),
        ("[robot", "no TOML"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        read_config(path)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"--config=none\.toml: cannot be read"):
        read_config("none.toml")


def test_changes_from_the_command_line():
    changes = ["loop.rate_hz=20", "robot.url=tcp:1.2.3.4:9000", "safety.box_low_m=[0, -1, 0]"]
    config = read_config(None, [*changes, 'policy.instruction="a \\"b\\" = c"'])
    assert config.loop.rate_hz == 20.0
    assert config.robot.url == "tcp:1.2.3.4:9000"
    assert config.safety.box_low_m == (0.0, -1.0, 0.0)
    assert config.policy.instruction == 'a "b" = c'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loop", "expected section.key=value"),
        ("loop.rate_hz", "expected section.key=value"),
        ("rate_hz=3", "expected section.key=value"),
        ("loop.rat_hz=3", "with loop.rat_hz=3: loop: unknown key 'rat_hz'"),
        ("loop.rate_hz=fast", "rate_hz must be a number, found 'fast'"),
    ],
)
def test_wrong_changes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        read_config(None, [change])


def test_how_chunks_become_actions():
    assert read_config(None).policy.execution is None
    chunks = read_config(None, ["policy.execute=10", "policy.blend=3"]).policy.execution
    assert (chunks.execute, chunks.blend, chunks.ensemble) == (10, 3, None)
    assert read_config(None, ["policy.ensemble=0.01"]).policy.execution.ensemble == 0.01
    with pytest.raises(ValueError, match="execute and blend must be 0 or more: -1, 2"):
        read_config(None, ["policy.execute=-1"])


def test_long_chunks_may_be_older_and_nothing_else():
    ages = Config().watchdog.limits(chunk_s=5.0)
    assert (ages.policy.wait_s, ages.policy.hold_s) == (7.0, 9.0)
    assert ages.wire == WatchdogLimits().wire
    assert ages.observation == WatchdogLimits().observation
    assert Config().watchdog.limits(chunk_s=1e6).policy.hold_s == 60.0


def test_sections_without_units_keep_their_names():
    @dataclasses.dataclass(frozen=True)
    class Section:
        radius: float
        rad_count: int = 3
        far: tuple[float, ...] = ()

    found = read_section(Section, {"radius": 1, "far": [1, 2.5]}, "x")
    assert found == Section(1.0, 3, (1.0, 2.5))
    assert key_of("speed_rad_s2") == "speed_deg_s2"
    assert key_of("lag_rad") == "lag_deg"
