"""The light package: what it takes of arp_jax, what it imports, what it weighs."""

import ast
import configparser
import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from tests.policy_servers import running_server
from tests.robot_bridge.command_line import (
    HomeActor,
    emulated_arm,
    own_folders,
    policy_spec,
    wait_for_line,
)

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"jax", "jaxlib", "flax", "tensorflow", "optax", "orbax", "mujoco", "cv2", "pymycobot"}
MOST_MEGABYTES = 80


def shared():
    """`SHARED` of the light package's setup.py, which cannot be imported without running it."""
    tree = ast.parse((ROOT / "robot_bridge/setup.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SHARED":
            return ast.literal_eval(node.value)
    raise AssertionError("robot_bridge/setup.py has no SHARED")


def file_of(module):
    """The source file of a module of ours, None for what is no module (a name in one)."""
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imports_of(path):
    """Modules of arp_jax that a file imports, lazily or not; not what only mypy imports."""
    names, waiting = set(), [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "arp_jax" and file_of(name)}


def with_parents(module):
    """The module and the packages that importing it imports."""
    parts = module.split(".")
    return {".".join(parts[:size]) for size in range(1, len(parts) + 1)}


def test_the_list_of_shared_modules_is_what_is_imported():
    waiting = [path for path in ROOT.glob("robot_bridge/**/*.py") if path.name != "setup.py"]
    waiting.append(file_of("arp_jax.serve"))  # started by LocalPolicy, not imported
    needed, seen = {"arp_jax.serve"}, set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        found = set().union(*(with_parents(name) for name in imports_of(path)))
        needed |= found
        waiting += [file_of(name) for name in found]
    listed = set()
    for package, modules in shared().items():
        names = modules
        if modules == ["*"]:
            names = [path.stem for path in (ROOT / package.replace(".", "/")).glob("*.py")]
        listed |= {package if name == "__init__" else f"{package}.{name}" for name in names}
    whole = {package for package, modules in shared().items() if modules == ["*"]}
    assert needed - listed == set(), "add these to SHARED in robot_bridge/setup.py"
    unused = {name for name in listed - needed if name.rpartition(".")[0] not in whole}
    assert unused == set(), "these are in SHARED and nobody imports them"


def test_importing_the_command_line_imports_nothing_heavy():
    code = (
        "import sys, robot_bridge.__main__, robot_bridge.actions.policy\n"
        "import robot_bridge.web.web_server\n"
        f"print(sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_unit_and_the_rules_are_well_formed():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "robot_bridge/deploy/robot-bridge.service")
    command = unit["Service"]["ExecStart"].split()
    assert command[1] == "run"
    assert "--wait_for_start" in command
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    rules = (ROOT / "robot_bridge/deploy/99-mycobot.rules").read_text().splitlines()
    lines = [line for line in rules if line and not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        keys = dict(part.split("=", 1) for part in line.replace("==", "=").split(", "))
        assert keys["SUBSYSTEM"] == '"tty"'
        assert keys["GROUP"] == '"dialout"'
        assert keys["SYMLINK+"] == '"mycobot"'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The light package's wheel; building it leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    before = set((ROOT / "robot_bridge").iterdir())
    pip(sys.executable, "wheel", "--no-deps", f"--wheel-dir={folder}", ROOT / "robot_bridge")
    left = {path.name for path in set((ROOT / "robot_bridge").iterdir()) - before}
    assert not {name for name in left if name == "build" or name.endswith(".egg-info")}
    (path,) = folder.glob("*.whl")
    return path


def pip(python, *arguments):
    """Runs pip quietly; fails with what it said."""
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_wheel_holds_the_page_the_settings_and_no_training(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("mycobot320.toml", "web/index.html", "deploy/99-mycobot.rules", "commands/run.py"):
        assert f"robot_bridge/{name}" in names
    assert "robot_bridge/setup.py" not in names
    assert "arp_jax/specs.py" in names
    assert not [name for name in names if name.startswith(("arp_jax/models", "arp_jax/policies"))]


@pytest.mark.slow
def test_a_fresh_environment_runs_a_remote_policy_in_little_memory(wheel, tmp_path):
    """Needs a package index (or a folder of wheels that pip is configured with)."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    pip(python, "install", wheel)
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    packages = {
        line.partition("=")[0].lower().replace("-", "_") for line in installed.stdout.split()
    }
    assert "numpy" in packages
    assert not HEAVY & packages
    command = tmp_path / "env/bin/robot-bridge"
    assert "COMMAND" in subprocess.run([command, "--help"], capture_output=True, text=True).stdout
    # The arm is emulated in this process, so that only the bridge is weighed.
    with emulated_arm("tcp") as (_, url), running_server(HomeActor(policy_spec())) as server:
        flags = [f"--policy={server}", f"--robot={url}", "--yes", "--no_preflight", "--seconds=12"]
        flags += ["--no_replay_check", "--set=web.port=0", *own_folders(tmp_path)]
        process = subprocess.Popen(
            [command, "run", *flags],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        try:
            wait_for_line(process, "running")
            time.sleep(6.0)
            peak = resident_megabytes(process.pid)
            loaded = Path(f"/proc/{process.pid}/maps").read_text()
        finally:
            process.communicate(timeout=60)
    print(f"robot-bridge run with a remote policy: {peak:.1f} MB resident")
    assert not [name for name in ("jaxlib", "tensorflow", "mujoco") if name in loaded]
    assert peak < MOST_MEGABYTES
    assert process.returncode == 0


def resident_megabytes(pid):
    """Largest so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
