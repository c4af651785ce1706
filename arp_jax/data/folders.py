"""Finds the dataset in a folder that a person names.

Flows in: a path or a URL. Flows out: the folder itself where it holds an RLDS dataset
(features.json) or a pack (meta.json), or the one version folder inside it that does (DATA/push_t ->
DATA/push_t/1.0.0). Opening it is `source.py` or `store.py`.
"""

from pathlib import Path
from typing import Any

from arp_jax.data.store import META_FILE
from arp_jax.data.tensorflow_files import remote_folder

RLDS_FILE = "features.json"


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds an RLDS dataset or a pack."""
    return any((folder / name).is_file() for name in (META_FILE, RLDS_FILE))


def find_dataset(path: str | Path) -> Path:
    """The folder of the dataset at `path`: a path, or what behaves as one where `path` is a URL.

    Raises:
        ValueError: nothing usable there, or several versions; the message says what was expected.
    """
    folder = _folder(path)
    if not folder.is_dir():
        raise ValueError(
            f"{str(folder)!r} is no directory; give an RLDS dataset (DATA_DIR/name/version) or a "
            "pack"
        )
    if is_dataset(folder):
        return folder
    files = (file for name in (META_FILE, RLDS_FILE) for file in folder.glob(f"*/{name}"))
    inside = {file.parent.name: file.parent for file in files}
    if len(inside) == 1:
        return next(iter(inside.values()))
    if inside:
        names = ", ".join(sorted(inside))
        raise ValueError(f"{str(folder)!r} holds several datasets: {names}; name one of them")
    raise ValueError(
        f"{str(folder)!r} holds neither {META_FILE} (a pack) nor {RLDS_FILE} (an RLDS dataset); "
        "name the version folder, e.g. push_t/1.0.0"
    )


def _folder(path: str | Path) -> Any:
    if not isinstance(path, str):
        return path
    if "://" not in path:
        return Path(path)
    try:
        return remote_folder(path)
    except ImportError as error:  # one line for a user of a command
        raise ValueError(f"{path}: {error}") from error
