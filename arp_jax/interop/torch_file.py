"""Checkpoint files: `.npz`, `.safetensors` and what PyTorch writes <-> a flat {name: array}.

Reading needs no torch and executes nothing that the file says (see `inert_pickle.py`), so files of
strangers are safe to read. Writing `.pth` needs the extra `torch-import`; the other two do not.
What the names mean is the business of the modules that convert.
"""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from arp_jax.interop.inert_pickle import Record, described
from arp_jax.interop.torch_archive import open_torch_file
from arp_jax.interop.torch_tensors import NumpyArray, Tensor

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
# Where trainers put the parameters, the first that is there is read: the moving average before the
# last parameters, because it is what the published scores were measured with.
PREFERRED_KEYS = (
    "state_dicts.ema_model",
    "state_dicts.model",
    "model_state",
    "state_dict",
    "model",
    "ema",
    "nets",
)
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
_SEARCH_DEPTH = 4
_LONGEST_MESSAGE = 1000
_DAMAGE = (LookupError, TypeError, ArithmeticError, EOFError, RuntimeError, NotImplementedError)
_UNREADABLE = (ValueError, OSError, MemoryError, zipfile.BadZipFile, SafetensorError, *_DAMAGE)

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class _StateDicts:
    """{key: state dict} of a file, and which is meant without a key (None: the caller must say)."""

    parts: dict[str, dict[str, Any]]
    default: str | None

    def choose(self, key: str | None) -> dict[str, Any]:
        """The state dict to read; raises ValueError listing the possible keys."""
        listed = ", ".join(repr(name) for name in self.parts)
        if not self.parts:
            raise ValueError("there is no state dict in it")
        key = self.default if key is None else key
        if key is None:
            raise ValueError(f"there are several state dicts; choose with a key one of {listed}")
        if key not in self.parts:
            raise ValueError(f"there is no state dict {key!r}; choose one of {listed}")
        return self.parts[key]


def read_state(path: str | Path, key: str | None = None) -> State:
    """The state dict in a file.

    Args:
        path: .npz, .safetensors, or anything that torch.save wrote (.pth, .pt, .ckpt, .bin).
        key: dotted path of the state dict in a PyTorch file, e.g. "state_dicts.model", or the
            common prefix of the wanted names in the other two; None takes the first of
            `PREFERRED_KEYS` that is there, else the only one.

    Returns:
        {name: array}, in the file's dtypes (bfloat16 is that of `ml_dtypes`), C-contiguous and
        writable. Prefixes "module." and "_orig_mod." that all names share are removed. Numbers
        that are no tensors become arrays; other entries are no parameters and are left out.

    Raises:
        ValueError: naming the file: it cannot be read, or has no state dict at `key`.
    """
    with _one_error(path) as path, _opened(path) as found:
        return _without_wrappers(_arrays(found.choose(key)))


def state_keys(path: str | Path) -> list[str]:
    """Every `key` that `read_state` would accept, preferred ones first; raises as it does."""
    with _one_error(path) as path, _opened(path) as found:
        return list(found.parts)


def write_state(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes {name: array} as .npz, .safetensors, .pth or .pt; the old file stays until it is done.

    Raises:
        ValueError: another suffix, an array that the format cannot hold, or torch is needed and
            not installed.
    """
    path = Path(path)
    writers: dict[str, Callable[[BinaryIO, State], None]] = {
        ".npz": _write_npz,
        ".safetensors": _write_safetensors,
        ".pth": _write_torch,
        ".pt": _write_torch,
    }
    if path.suffix not in writers:
        raise ValueError(f"{path}: choose a name that ends with one of {', '.join(writers)}")
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    with _one_error(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                writers[path.suffix](file, arrays)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


@contextlib.contextmanager
def _one_error(path: str | Path) -> Iterator[Path]:
    """Whatever goes wrong inside is one ValueError that names the file."""
    path = Path(path)
    try:
        yield path
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except _UNREADABLE as error:
        is_ours = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError)
        said = (
            str(error) if is_ours else f"damaged, or of an unknown format ({type(error).__name__})"
        )
        # Names from the file may hold anything: one line, of bounded length.
        raise ValueError(f"{path}: {' '.join(said.split())[:_LONGEST_MESSAGE]}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_StateDicts]:
    """What a file holds; its values can be turned into arrays inside the `with` block."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz archive")
            yield _by_prefix({name: archive[name] for name in archive.files})
    elif path.suffix == ".safetensors":
        yield _by_prefix(safetensors_numpy.load_file(path))
    elif path.suffix in TORCH_SUFFIXES:
        with open_torch_file(path) as content:
            yield _state_dicts(content)
    else:
        known = ", ".join((".npz", ".safetensors", *TORCH_SUFFIXES))
        raise ValueError(f"unknown kind of file; known are {known}")


def _by_prefix(flat: State) -> _StateDicts:
    """The whole of a flat file under "", and its parts under the first component of the names."""
    found: dict[str, dict[str, Any]] = {"": dict(flat)} if flat else {}
    for name, value in flat.items():
        first, dot, rest = name.partition(".")
        if dot:
            found.setdefault(first, {})[rest] = value
    return _StateDicts(found, default="")


def _state_dicts(content: Any) -> _StateDicts:
    """Dotted path -> mapping with tensors in it, preferred paths first; optimisers are left out."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()

    def search(node: Any, path: tuple[str, ...]) -> None:
        is_new = isinstance(node, dict) and id(node) not in seen
        if not is_new or len(path) > _SEARCH_DEPTH or any("optim" in part for part in path):
            return
        seen.add(id(node))
        named = {k: v for k, v in node.items() if isinstance(k, str)}
        if any(_is_tensor(v) for v in named.values()):
            found[".".join(path)] = named
        for name, value in named.items():
            search(value, (*path, name))

    search(content, ())
    first = [key for key in PREFERRED_KEYS if key in found]
    if not found and isinstance(content, Record):
        what = described(content.of)
        raise ValueError(f"it holds an object of {what}, no state dict; save x.state_dict()")
    ordered = {key: found[key] for key in (*first, *found)}
    return _StateDicts(ordered, next(iter(ordered)) if first or len(ordered) == 1 else None)


def _is_tensor(value: Any) -> bool:
    """A tensor, or an array of numpy that is more than a number (such as a score)."""
    return isinstance(value, Tensor) or (isinstance(value, NumpyArray) and not value.is_scalar)


def _arrays(named: Mapping[str, Any]) -> State:
    """Reads the tensors of one state dict."""
    state: State = {}
    for name, value in named.items():
        if isinstance(value, Tensor | NumpyArray):
            state[name] = value.array()
        elif isinstance(value, np.ndarray):
            if not _is_numeric(value.dtype):
                raise ValueError(f"{name} has dtype {value.dtype}; .npz cannot keep such numbers")
            state[name] = np.array(value, order="C")
        elif isinstance(value, int | float):
            state[name] = np.asarray(value)
        elif isinstance(value, Record) and "_rebuild_" in described(value.of):
            raise ValueError(f"{name} is made by {described(value.of)}: no kind of tensor we read")
    return state


def _is_numeric(dtype: np.dtype) -> bool:
    """Whether arithmetic is possible: numpy's own numbers, or those of ml_dtypes."""
    return dtype.kind in "biufc" or hasattr(ml_dtypes, dtype.name)


def _without_wrappers(state: State) -> State:
    for prefix in _WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _write_npz(file: BinaryIO, state: State) -> None:
    for name, value in state.items():
        if value.dtype.kind not in "biufc":
            raise ValueError(f"{name} is {value.dtype}, which .npz cannot hold; use .safetensors")
    np.savez(file, **state)  # type: ignore[arg-type]


def _write_safetensors(file: BinaryIO, state: State) -> None:
    file.write(safetensors_numpy.save(state, metadata={"format": "pt"}))


def _write_torch(file: BinaryIO, state: State) -> None:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "writing it needs PyTorch: choose a name that ends with .safetensors, or "
            "pip install 'arp_jax[torch-import]'"
        ) from error

    def tensor(x: np.ndarray) -> Any:
        if x.dtype.name == "bfloat16":  # not a dtype of numpy itself
            return torch.from_numpy(x.view(np.uint16).copy()).view(torch.bfloat16)
        return torch.from_numpy(x.copy())

    torch.save({name: tensor(value) for name, value in state.items()}, file)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
