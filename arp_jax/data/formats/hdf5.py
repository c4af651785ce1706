"""HDF5 files that others wrote: opened and read so that every fault names file and field.

In: a path. Out: h5py files, arrays of one expected form. Which fields a file has is the business of
`act_hdf5_read.py` and `robomimic_hdf5.py`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def import_h5py() -> Any:
    """The h5py package; raises ImportError that says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"HDF5 files need the h5py package: pip install h5py ({error})"
        ) from error
    return h5py


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The file, for reading.

    Raises:
        ValueError: it is missing, no HDF5 file, or truncated.
    """
    h5py = import_h5py()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be opened as HDF5 ({reason}); copy it again") from error
    with file:
        yield file


def dataset_of(file: Any, key: str, where: str) -> Any:
    """The h5py dataset `key`; raises ValueError naming what stands there instead."""
    h5py = import_h5py()
    try:
        found = file.get(key)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{where}: {key!r} is damaged ({error}); copy the file again") from error
    if found is None:
        raise ValueError(f"{where}: no {key!r}; there are {contents(file)}")
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{where}: {key!r} is a group, expected an array")
    return found


def read_array(dataset: Any, where: str, part: Any = ()) -> np.ndarray:
    """All of a dataset, or the part that `part` indexes.

    Raises:
        ValueError: the file is damaged there.
    """
    try:
        return np.asarray(dataset[part])
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{where}: {dataset.name!r} cannot be read ({reason}); copy the file again"
        ) from error


def contents(group: Any, limit: int = 12) -> str:
    """Names of the arrays in a group, for messages."""
    names: list[str] = []
    group.visititems(lambda name, node: names.append(name) if hasattr(node, "shape") else None)
    shown = ", ".join(sorted(names)[:limit]) or "no arrays"
    return shown + (f", ... ({len(names)} in all)" if len(names) > limit else "")
