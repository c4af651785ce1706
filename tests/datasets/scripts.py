"""Runs the scripts of `datasets/` in this process, where that saves seconds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]


def load_script(path: Path, name: str) -> ModuleType:
    """Imports a script under a name of its own, its neighbors as when it is run."""
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(path.parent))


def load_converter(name: str) -> ModuleType:
    """`datasets/NAME.py`."""
    return load_script(REPOSITORY / "datasets" / f"{name}.py", name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset's folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_refused(script: ModuleType, arguments, out: Path, capsys, *parts: str) -> None:
    """The command ends with status 2 and one line that has all `parts`; no dataset appears."""
    capsys.readouterr()
    status = script.main([*map(str, arguments), "--out", str(out), "--workers", "1"])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert len(errors) == 1
    for part in parts:
        assert part in errors[0], f"{part!r} is not in {errors[0]!r}"
    assert [path for path in out.glob("*/1.0.0")] == []
