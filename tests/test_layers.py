"""The layer table of docs/architecture.md, enforced by parsing every import.

Data flows one way: an import may only point to the same or an earlier row, and heavy packages may
only be imported where the table allows them.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# package -> the project's packages that it may import (itself is always allowed).
ROW_1 = {"arp_jax.specs", "arp_jax.normalize", "arp_jax.control"}
MODELS = ROW_1 | {"arp_jax.models"}
POLICIES = MODELS | {"arp_jax.policies"}
UP_TO_DATA = POLICIES | {"arp_jax.data"}
TRAINING = UP_TO_DATA | {"arp_jax.training"}
EVALUATION = UP_TO_DATA | {"arp_jax.sim", "arp_jax.evaluation"}
EVERYTHING_BELOW_EXPORT = TRAINING | EVALUATION
# The digital twin is the simulated arm: the only part of the bridge that imports the simulation.
TWIN = "robot_bridge.twin"
BRIDGE = ROW_1 | {"robot_bridge", TWIN}
BRIDGE_IS_LIGHT = {"jax", "flax", "tensorflow", "optax", "orbax"}
ALLOWED = {
    "arp_jax.specs": ROW_1,
    "arp_jax.normalize": ROW_1,
    "arp_jax.control": ROW_1,
    "arp_jax.models": MODELS,
    "arp_jax.policies": POLICIES,
    "arp_jax.data": ROW_1 | {"arp_jax.data"},
    "arp_jax.sim": ROW_1 | {"arp_jax.sim"},
    "arp_jax.training": TRAINING,
    "arp_jax.evaluation": EVALUATION,
    "arp_jax.compile_cache": set(),
    "arp_jax.export": EVERYTHING_BELOW_EXPORT | {"arp_jax.export", "arp_jax.compile_cache"},
    "arp_jax.interop": EVERYTHING_BELOW_EXPORT | {"arp_jax.interop"},
    "robot_bridge": BRIDGE,
    TWIN: BRIDGE | {"arp_jax.sim"},
}
# The messages of the policy server: the one file that both of its ends import.
PROTOCOL = "arp_jax.export.protocol"
# package -> third-party packages that must not be imported there, anywhere in the file.
FORBIDDEN = {
    "arp_jax.specs": {"jax", "flax", "tensorflow"},
    "arp_jax.normalize": {"jax", "flax", "tensorflow"},
    "arp_jax.control": {"jax", "flax", "tensorflow"},
    "arp_jax.models": {"tensorflow", "tensorflow_datasets", "optax", "mujoco", "orbax"},
    "arp_jax.policies": {"tensorflow", "tensorflow_datasets", "mujoco", "orbax"},
    "arp_jax.data": {"flax", "optax", "mujoco", "orbax"},
    "arp_jax.sim": {"tensorflow", "tensorflow_datasets", "optax", "orbax"},
    "arp_jax.evaluation": {"tensorflow", "optax", "orbax"},
    "robot_bridge": BRIDGE_IS_LIGHT,
    TWIN: BRIDGE_IS_LIGHT,
}
# Commands that live in a package beside what they drive: they may import everything (row 8), and
# nobody may import them.
COMMANDS = {"arp_jax.sim.record"}
# The runtime of an artifact runs where only numpy, jax and safetensors are installed.
RUNTIME = ROOT / "arp_jax/export/runtime.py"
RUNTIME_MAY_IMPORT = {"numpy", "jax", "safetensors"}
RUNTIME_OF_OURS = ROW_1 | {"arp_jax.export", "arp_jax.compile_cache", "arp_jax"}
PROTOCOL_MAY_IMPORT = {"numpy", "msgpack"}


def package_of(path: Path) -> str | None:
    """Row of the table that a file belongs to; None for entry points."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if ".".join(parts) in COMMANDS:
        return None
    for size in (2, 1):
        name = ".".join(parts[:size])
        if name in ALLOWED:
            return name
    return None


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything that a file imports, lazily or not."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write it in full"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted([*ROOT.glob("arp_jax/*/**/*.py"), *ROOT.glob("arp_jax/*.py")])
FILES += sorted(ROOT.glob("robot_bridge/**/*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    package = package_of(path)
    assert not COMMANDS & imported_modules(path), f"{path.name} imports a command"
    if package is None:
        return  # an entry point (row 8) may import everything; test_entry_points covers the reverse
    for name in imported_modules(path):
        if package == "robot_bridge" and (name + ".").startswith(PROTOCOL + "."):
            continue
        top = name.split(".")[0]
        assert top not in FORBIDDEN.get(package, set()), f"{path.name} imports {name}"
        own = ".".join(name.split(".")[:2])
        if own in ALLOWED:
            assert own in ALLOWED[package], f"{package} may not import {own}"
        else:
            entry_point = top == "arp_jax" and (ROOT / f"{own.replace('.', '/')}.py").exists()
            assert not entry_point, f"{package} may not import the entry point {own}"


def test_every_package_stands_in_the_table():
    packages = {p.parent for p in ROOT.glob("arp_jax/*/__init__.py")}
    names = {f"arp_jax.{p.name}" for p in packages}
    assert names <= set(ALLOWED), f"add {names - set(ALLOWED)} to the layer table"


def test_datasets_is_not_a_package():
    assert not (ROOT / "datasets/__init__.py").exists()


def check_only_imports(path, third_party):
    """Row 1, the file's own package, the standard library and what is named; nothing else."""
    for name in imported_modules(path):
        top = name.split(".")[0]
        if top == "arp_jax":
            own = ".".join(name.split(".")[:2])
            assert own in RUNTIME_OF_OURS, f"{path.name} imports {name}"
        else:
            standard = top in __import__("sys").stdlib_module_names
            assert standard or top in third_party, f"{path.name} imports {name}"


def test_the_artifact_runtime_stays_small():
    check_only_imports(RUNTIME, RUNTIME_MAY_IMPORT)


def test_the_protocol_stays_small():
    path = ROOT / (PROTOCOL.replace(".", "/") + ".py")
    check_only_imports(path, PROTOCOL_MAY_IMPORT)
    assert not {n for n in imported_modules(path) if n.startswith("arp_jax.export")}
