"""Finds the dataset in a folder that a person names.

Flows in: a path. Flows out: the folder itself where it holds an RLDS dataset (features.json) or a
pack (meta.json), or the one version folder inside it that does (DATA/push_t -> DATA/push_t/1.0.0).
Opening it is `source.py` or `store.py`.
"""

from pathlib import Path

from arp_jax.data.store import META_FILE

RLDS_FILE = "features.json"


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds an RLDS dataset or a pack."""
    return any((folder / name).is_file() for name in (META_FILE, RLDS_FILE))


def find_dataset(path: str | Path) -> Path:
    """The folder of the dataset at `path`.

    Raises:
        ValueError: nothing usable there, or several versions; the message says what was expected.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(
            f"{str(folder)!r} is no directory; give an RLDS dataset (DATA_DIR/name/version) or a "
            "pack"
        )
    if is_dataset(folder):
        return folder
    inside = sorted(child for child in folder.iterdir() if child.is_dir() and is_dataset(child))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(child.name for child in inside)
        raise ValueError(f"{str(folder)!r} holds several datasets: {names}; name one of them")
    raise ValueError(
        f"{str(folder)!r} holds neither {META_FILE} (a pack) nor {RLDS_FILE} (an RLDS dataset); "
        "name the version folder, e.g. push_t/1.0.0"
    )
