"""Arrays of a zarr (version 2) group, read a range of steps at a time; from a folder or a zip file.

In: where the group lies. Out: `ZarrArray`. Understood are C order, any chunk grid, one compressor
of numcodecs (JPEG 2000 through Pillow, other picture codecs if `imagecodecs` is installed), no
filters. What the arrays of a Diffusion-Policy replay mean is `zarr_replay.py`'s business.
"""

import dataclasses
import functools
import io
import itertools
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from PIL import Image

_BROKEN_PICTURE = (OSError, SyntaxError, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class FolderStore:
    """A group in a folder."""

    root: Path

    def read(self, key: str) -> bytes | None:
        """Content of a file, None when it is absent."""
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(f"{self.root}/{key}: cannot be read ({error.strerror})") from error

    def keys(self, prefix: str) -> list[str]:
        """Names of the arrays directly under `prefix`."""
        return sorted(path.parent.name for path in (self.root / prefix).glob("*/.zarray"))


@dataclasses.dataclass(frozen=True)
class ZipStore:
    """A group in a zip file, at its top or in one folder of it."""

    root: Path
    prefix: str

    def read(self, key: str) -> bytes | None:
        """Content of a file, None when it is absent."""
        try:
            return _open_zip(self.root, os.getpid()).read(self.prefix + key)
        except KeyError:
            return None
        except (OSError, zipfile.BadZipFile, ValueError, RuntimeError) as error:
            raise ValueError(f"{self.root}/{key}: is damaged ({error}); copy it again") from error

    def keys(self, prefix: str) -> list[str]:
        """Names of the arrays directly under `prefix`."""
        start = f"{self.prefix}{prefix}/"
        names = _open_zip(self.root, os.getpid()).namelist()
        found = [n[len(start) : -len("/.zarray")] for n in names if n.startswith(start)
                 and n.endswith("/.zarray")]  # fmt: skip
        return sorted(name for name in found if "/" not in name)


# Files by their key, e.g. "data/img/.zarray".
Store = FolderStore | ZipStore


@functools.lru_cache(maxsize=4)
def _open_zip(path: Path, process: int) -> zipfile.ZipFile:
    """Opened once a process (`process` is its id): the list of a large zip takes seconds to read,
    and processes that share a file handle disturb each other."""
    return zipfile.ZipFile(path)


def open_store(path: Path) -> Store:
    """The group in a folder that ends in .zarr, or in a zip file.

    Raises:
        ValueError: there is none.
    """
    if path.is_file():
        try:
            names = _open_zip(path, os.getpid()).namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: no whole zip file ({error}); copy it again") from error
        tops = [name[: -len(".zgroup")] for name in names if name.endswith(".zgroup")]
        if not tops:
            raise ValueError(f"{path}: no zarr group in this zip file")
        return ZipStore(path, min(tops, key=len))
    if (path / "zarr.json").is_file():
        raise ValueError(f"{path}: is of zarr version 3; write it again with zarr_format=2")
    if not (path / ".zgroup").is_file():
        raise ValueError(f"{path}: no zarr replay here; give the folder that ends in .zarr")
    return FolderStore(path)


@dataclasses.dataclass
class ZarrArray:
    """One array, cut into chunks along its axes.

    Attributes:
        store, key: where it lies, e.g. "data/img".
        shape, chunks, dtype: from its .zarray.
        codec: decompressor, or None when chunks are stored plain.
        separator: between the numbers in a chunk's name.
        fill: what a chunk without a file holds, or None: such a chunk is an error. Zarr leaves
            chunks out that hold nothing but their fill value, and so does an interrupted copy.
    """

    store: Store
    key: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    codec: Any
    separator: str = "."
    fill: Any = None
    _cached: tuple[int, np.ndarray] | None = dataclasses.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.store.root}/{self.key}"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as an array [stop - start, ...].

        Raises:
            ValueError: a chunk's file is missing or damaged; the message names the file.
        """
        length = self.chunks[0]
        parts = [
            self._rows(index)[max(start - index * length, 0) : stop - index * length]
            for index in range(start // length, -(-stop // length))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *self.shape[1:]), self.dtype)

    def _rows(self, index: int) -> np.ndarray:
        # Neighboring episodes share a chunk: keep the last one.
        if self._cached is None or self._cached[0] != index:
            self._cached = (index, self._decode_rows(index))
        return self._cached[1]

    def _decode_rows(self, index: int) -> np.ndarray:
        """All chunks of one range of steps, put together."""
        counts = [math.ceil(n / c) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        if all(count == 1 for count in counts) and self.chunks[1:] == self.shape[1:]:
            return self._decode_chunk((index, *[0] * len(counts)))
        whole = np.empty((self.chunks[0], *self.shape[1:]), self.dtype)
        for place in itertools.product(*map(range, counts)):
            part = self._decode_chunk((index, *place))
            begins = [p * c for p, c in zip(place, self.chunks[1:], strict=True)]
            ends = [
                min(b + c, n)
                for b, c, n in zip(begins, self.chunks[1:], self.shape[1:], strict=True)
            ]
            target = tuple(slice(b, e) for b, e in zip(begins, ends, strict=True))
            within = tuple(slice(0, e - b) for b, e in zip(begins, ends, strict=True))
            whole[(slice(None), *target)] = part[(slice(None), *within)]
        return whole

    def _decode_chunk(self, place: tuple[int, ...]) -> np.ndarray:
        key = f"{self.key}/{self.separator.join(map(str, place))}"
        path = f"{self.store.root}/{key}"
        stored = self.store.read(key)
        if stored is None:
            if self.fill is None:
                raise ValueError(f"{path}: chunk is missing; copy the replay again")
            return np.full(self.chunks, self.fill, self.dtype)
        damaged = f"{path}: chunk is truncated or damaged; copy the replay again"
        # Blosc's header holds the compressed size; the library itself may read past a short buffer.
        if isinstance(self.codec, numcodecs.Blosc) and (
            len(stored) < 16 or int.from_bytes(stored[12:16], "little") != len(stored)
        ):
            raise ValueError(damaged)
        try:
            plain = self.codec.decode(stored) if self.codec else stored
            return np.frombuffer(plain, self.dtype).reshape(self.chunks)
        except (RuntimeError, ValueError, *_BROKEN_PICTURE) as error:
            raise ValueError(damaged) from error


class _Jpeg2000:
    """Decodes chunks that hold one picture; Diffusion Policy's image sets are compressed so."""

    def decode(self, stored: bytes) -> bytes:
        with Image.open(io.BytesIO(stored)) as image:
            return np.asarray(image).tobytes()


def open_array(store: Store, key: str, fill_missing: bool = False) -> ZarrArray:
    """Reads an array's header.

    Args:
        store: where the group lies.
        key: e.g. "data/img".
        fill_missing: take the fill value for chunks without a file.

    Raises:
        ValueError: the array is missing, its header is damaged, or it is stored in an unknown way.
    """
    path = f"{store.root}/{key}/.zarray"
    content = store.read(f"{key}/.zarray")
    if content is None:
        raise ValueError(f"{store.root}/{key}: array is missing from the replay; copy it again")
    try:
        header = json.loads(content)
        shape, chunks = tuple(header["shape"]), tuple(header["chunks"])
        supported = (
            header["zarr_format"] == 2
            and header["order"] == "C"
            and not header["filters"]
            and len(chunks) == len(shape) >= 1
            and all(isinstance(n, int) and n > 0 for n in chunks)
        )
        dtype, codec = np.dtype(header["dtype"]), _codec(header["compressor"])
        fill = (header["fill_value"] or 0) if fill_missing else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: is no zarr array header ({error}); copy it again") from error
    if not supported or dtype.hasobject:
        raise ValueError(f"{path}: only zarr 2, C order, no filters, numbers")
    separator = header.get("dimension_separator", ".")
    return ZarrArray(store, key, shape, chunks, dtype, codec, separator, fill)


def _codec(compressor: dict[str, Any] | None) -> Any:
    if not compressor:
        return None
    name = str(compressor["id"])
    if name == "imagecodecs_jpeg2k":
        return _Jpeg2000()
    if name.startswith("imagecodecs_"):
        try:
            from imagecodecs.numcodecs import register_codecs
        except ImportError as error:
            raise ValueError(f"compressor {name!r} needs: pip install imagecodecs") from error
        register_codecs()
    return numcodecs.get_codec(dict(compressor))
