"""The two kinds of file that `torch.save` writes: a zip archive, and pickles followed by storages.

In: a path. Out: the saved object with `Tensor`s in it, which can be read while the file is open.
Nothing in the file is executed (`inert_pickle.py`); which of the object's parts is a state dict is
decided in `torch_file.py`.

    zip      NAME/data.pkl, NAME/data/KEY (raw numbers), NAME/byteorder
    before   magic number, protocol, system, object, storage keys (five pickles), then for each key
             an int64 count and the raw numbers, little-endian
"""

import contextlib
import functools
import io
import mmap
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.interop.inert_pickle import InertReader, described
from arp_jax.interop.torch_tensors import Storage, TensorCalls

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_TAR_OFFSET, _TAR_MAGIC = 257, b"ustar"
# Raw blocks kept for tensors that share them.
_KEPT_BLOCKS = 8


@contextlib.contextmanager
def open_torch_file(path: Path) -> Iterator[Any]:
    """The object that `torch.save` wrote; its tensors are readable inside the `with` block.

    Raises:
        ValueError and the errors of `InertReader.load`, zipfile.BadZipFile, OSError: the file is
        damaged, or was not written by `torch.save`.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield _read_zip(archive)
        elif path.stat().st_size == 0:
            raise ValueError("the file is empty")
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                yield _read_pickles(memory)


def _read_zip(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("it is a zip archive, but no data.pkl of torch.save is in it")
    root = roots[0]
    if f"{root}constants.pkl" in names:
        raise ValueError("it is a TorchScript program; save model.state_dict() instead")
    order = "little"
    if f"{root}byteorder" in names:
        order = archive.read(_entry(archive, f"{root}byteorder")).decode("ascii").strip()
    if order not in ("little", "big"):
        raise ValueError(f"byte order {order!r} is unknown")
    calls = TensorCalls(_ZipStorages(archive, root, order))
    pickle = archive.read(_entry(archive, f"{root}data.pkl"))
    return InertReader(calls.builders(), calls.storage).load(io.BytesIO(pickle))


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An entry that is as long as it says: torch.save never compresses."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"entry {name} is compressed, which torch.save never does")
    return entry


class _ZipStorages:
    """Storages that are entries of a zip archive; checksums are verified."""

    def __init__(self, archive: zipfile.ZipFile, root: str, order: str) -> None:
        self._archive, self._root, self._order = archive, root, order
        # Tensors of one block follow each other in a state dict.
        self._block = functools.lru_cache(_KEPT_BLOCKS)(self._read_block)

    def read(self, storage: Storage) -> np.ndarray:
        """See `StorageSource`."""
        raw = self._block(storage.key)
        numbers = _numbers(raw, storage)
        if self._order == sys.byteorder:
            return numbers
        # Byte by byte: numpy cannot swap the dtypes that it does not know itself (bfloat16).
        part = numbers.itemsize // (2 if numbers.dtype.kind == "c" else 1)
        swapped = numbers.view(np.uint8).reshape(-1, part)[:, ::-1]
        return np.ascontiguousarray(swapped).reshape(-1).view(numbers.dtype)

    def _read_block(self, key: str) -> bytes:
        return self._archive.read(_entry(self._archive, f"{self._root}data/{key}"))


def _numbers(raw: Any, storage: Storage) -> np.ndarray:
    """The numbers of a storage out of its block of bytes."""
    size = storage.dtype.itemsize
    end = (storage.start + storage.size) * size
    if len(raw) < end:
        raise ValueError(f"storage {storage.key} has {len(raw)} bytes, {end} are needed")
    return np.frombuffer(raw, np.uint8, end - storage.start * size, storage.start * size).view(
        storage.dtype
    )


def _read_pickles(memory: mmap.mmap) -> Any:
    if memory[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_MAGIC)] == _TAR_MAGIC:
        raise ValueError("it is a tar file of PyTorch 0.1; save it again with a newer PyTorch")
    plain = InertReader({})
    try:
        first = plain.load(memory)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"it was not written by torch.save ({error})") from error
    if first != MAGIC_NUMBER:
        raise ValueError("it is a pickle, but torch.save did not write it")
    if plain.load(memory) != PROTOCOL_VERSION:
        raise ValueError("its torch.save protocol is unknown")
    plain.load(memory)  # sizes of C types on the writer's machine; the storages say all we need
    source = _PickleStorages(memory)
    calls = TensorCalls(source)
    found = InertReader(calls.builders(), calls.storage).load(memory)
    keys = plain.load(memory)
    if not isinstance(keys, list):
        raise ValueError("its list of storages is damaged")
    source.index(keys, calls.storages)
    return found


class _PickleStorages:
    """Storages that follow each other at the end of a file."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._starts: dict[str, int] = {}

    def index(self, keys: list[Any], storages: dict[str, Storage]) -> None:
        """Notes where each storage begins; raises ValueError when the file ends too early."""
        position, end = self._memory.tell(), self._memory.size()
        for key in keys:
            if not isinstance(key, str) or key not in storages:
                raise ValueError(f"it holds a storage {described(key)} that no tensor uses")
            storage = storages[key]
            count = int.from_bytes(self._memory[position : position + 8], "little", signed=True)
            self._starts[key] = position + 8
            position += 8 + count * storage.dtype.itemsize
            if count != storage.size or position > end:
                raise ValueError(
                    f"storage {described(key)} should have {storage.size} numbers; cut short?"
                )
        absent = storages.keys() - self._starts.keys()
        if absent:
            raise ValueError(f"storage {min(absent)} is absent")

    def read(self, storage: Storage) -> np.ndarray:
        """See `StorageSource`."""
        begin = self._starts[storage.key]
        end = begin + (storage.start + storage.size) * storage.dtype.itemsize
        numbers = _numbers(self._memory[begin:end], storage)
        return numbers if sys.byteorder == "little" else numbers.byteswap()
