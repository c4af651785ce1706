"""Pickles of plain values and numpy arrays, read without running anything in them.

In: a file that Python's pickle wrote. Out: dicts, lists, numbers, strings and arrays; what else it
names (classes, functions) stays an inert `Record`. Checkpoints of PyTorch are `torch_file.py`'s
business.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.interop.inert_pickle import Builder, InertReader
from arp_jax.interop.torch_tensors import NumpyArray, NumpyDtype, Storage, TensorCalls


def read_pickle(path: Path) -> Any:
    """The object in a file.

    Raises:
        ValueError: the file is missing, no whole pickle, or holds arrays of objects.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _with_arrays(InertReader(_builders()).load(io.BytesIO(content)))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: no whole pickle of numbers ({error}); copy it again") from error


def _builders() -> dict[str, Builder]:
    """Those of numpy, also for arrays of protocol 5."""
    every = TensorCalls(_NoStorages()).builders()
    table = {name: build for name, build in every.items() if not name.startswith("torch")}
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        table[f"{module}._frombuffer"] = _from_buffer
    for module in ("builtins", "__builtin__"):  # how protocol 2 writes no bytes at all
        table[f"{module}.bytes"] = _no_bytes
    return table


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise ValueError("bytes are made of something else than bytes")
    return b""


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, NumpyDtype):
        raise ValueError("a numpy array has no bytes or no dtype")
    return NumpyArray(state=(1, shape, dtype, order == "F", bytes(data)))


class _NoStorages:
    """A pickle of numpy has no storages of PyTorch."""

    def read(self, storage: Storage) -> np.ndarray:
        """Never called: nothing here makes a tensor."""
        raise ValueError(f"storage {storage.key} of PyTorch in a pickle of numbers")


def _with_arrays(value: Any) -> Any:
    """The same containers with arrays (scalars: numbers of numpy) where descriptions stood."""
    if isinstance(value, NumpyArray):
        return value.array()[()] if value.is_scalar else value.array()
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_arrays(item) for item in value)
    return value
