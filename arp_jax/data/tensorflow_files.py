"""Folders that only TensorFlow's file systems reach, as objects that look like `pathlib` paths.

In: a URL such as gs://bucket/folder, or any local path. Out: the few methods of `pathlib.Path` that
reading a dataset takes. The one place where arp_jax.data imports TensorFlow (`import_tensorflow`);
it is needed for remote folders and the tf.data stream only: `pip install "arp_jax[tf]"`.
"""

import importlib
import io
import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple


def import_tensorflow() -> Any:
    """The tensorflow module, told to leave every GPU to JAX.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise ImportError(
            "reading remote folders and streaming need TensorFlow: "
            "pip install 'arp_jax[tf]' (or pip install tensorflow-cpu)"
        ) from error
    tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow


class FileStat(NamedTuple):
    """What `FilePath.stat` tells: the size in bytes."""

    st_size: int


class FilePath:
    """A file or folder on any file system that TensorFlow knows."""

    def __init__(self, path: str) -> None:
        self._path = path.rstrip("/") if not path.endswith("://") else path
        self._files = import_tensorflow().io.gfile

    def __str__(self) -> str:
        return self._path

    __repr__ = __fspath__ = __str__

    def __truediv__(self, name: str) -> "FilePath":
        return FilePath(posixpath.join(self._path, name))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self._path)

    @property
    def parent(self) -> "FilePath":
        """The folder that holds it."""
        return FilePath(posixpath.dirname(self._path))

    def relative_to(self, folder: "FilePath") -> PurePosixPath:
        """The path below `folder`."""
        return PurePosixPath(posixpath.relpath(self._path, str(folder)))

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return bool(self._files.isdir(self._path))

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self._files.exists(self._path)) and not self.is_dir()

    def stat(self) -> FileStat:
        """Size of a file; raises OSError when there is none or it cannot be reached."""
        try:
            return FileStat(int(self._files.stat(self._path).length))
        except import_tensorflow().errors.OpError as error:
            raise OSError(str(error).splitlines()[0]) from error

    def glob(self, pattern: str) -> Iterator["FilePath"]:
        """Paths below the folder that fit the pattern."""
        return map(FilePath, self._files.glob(posixpath.join(self._path, pattern)))

    def read_text(self) -> str:
        """Content of a text file; raises OSError when it cannot be read."""
        try:
            with self._files.GFile(self._path) as file:
                return file.read()
        except import_tensorflow().errors.OpError as error:
            raise OSError(str(error).splitlines()[0]) from error

    def open(self, mode: str) -> io.BufferedReader:
        """The file's bytes; `mode` must be "rb"."""
        if mode != "rb":
            raise ValueError(
                f"{self._path}: remote files are read only, in mode 'rb', not {mode!r}"
            )
        return io.BufferedReader(_Bytes(self._files.GFile(self._path, "rb")))


class _Bytes(io.RawIOBase):
    """A file of TensorFlow's as the standard library knows files."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def remote_folder(url: str) -> FilePath:
    """The folder at a URL ("gs://bucket/folder").

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: this TensorFlow knows no such file system.
    """
    scheme, remote, _ = url.partition("://")
    known = import_tensorflow().io.gfile.get_registered_schemes()
    if remote and scheme not in known:
        schemes = ", ".join(f"{name}://" for name in sorted(known) if name)
        raise ValueError(
            f"{url}: this TensorFlow does not read {scheme}:// (it reads {schemes}); "
            "copy or mount the folder"
        )
    return FilePath(url)
