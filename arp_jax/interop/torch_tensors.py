"""Tensors as they stand in a pickle of PyTorch or numpy: where their numbers lie, and how to get
them.

In: the calls that a pickle makes to rebuild tensors, and a source of raw storages. Out: `Tensor`s,
read one by one with `array()` when they are wanted. Files and their framing are not here
(`torch_archive.py`); nothing is imported from torch.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from arp_jax.interop.inert_pickle import Builder, Global, Record, Stateful, described

# Name of a storage class without "Storage" -> dtype of its numbers.
_STORAGES: dict[str, Any] = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
    "Untyped": np.uint8,
}
# torch.NAME, where the file names a dtype instead of a storage class.
_DTYPES: dict[str, Any] = {
    **{name: getattr(np, name) for name in ("float64", "float32", "float16")},
    **{name: getattr(np, name) for name in ("int64", "int32", "int16", "int8")},
    **{name: getattr(np, name) for name in ("uint64", "uint32", "uint16", "uint8")},
    **{name: getattr(np, name) for name in ("complex64", "complex128")},
    **{name: getattr(ml_dtypes, name) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
    "bool": np.bool_,
}
# A tensor may repeat its storage (`expand`), but a small file must not fill the memory.
_MOST_REPEATED = 2**24
_MOST_AXES = 64  # of numpy


class StorageSource(Protocol):
    """Where the numbers are."""

    def read(self, storage: "Storage") -> np.ndarray:
        """Numbers [size] of a storage; ValueError when the file has fewer."""
        ...


@dataclass(frozen=True)
class Storage:
    """`size` numbers of the file, from the `start`th of the block called `key`."""

    key: str
    dtype: np.dtype
    size: int
    start: int = 0


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage.

    Attributes:
        source, storage: where the numbers are.
        dtype: of the numbers; offset and strides count them.
        offset, shape, strides: as `torch.Tensor` has them.
        conjugate, negative: lazy operations that the file asks for.
    """

    source: StorageSource
    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False

    def __post_init__(self) -> None:
        """Checks that the tensor lies inside its storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        whole = all(type(n) is int and 0 <= n < 2**63 for n in numbers)
        if not whole or not len(self.shape) == len(self.strides) <= _MOST_AXES:
            raise ValueError("a tensor has an impossible offset, shape or stride")
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        room = self.storage.size * self.storage.dtype.itemsize // self.dtype.itemsize
        if count and last >= room:
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage of {room}")
        if count > max(room, _MOST_REPEATED):
            raise ValueError(f"a tensor of shape {self.shape} repeats a storage of {room} numbers")

    def array(self) -> np.ndarray:
        """The numbers: a C-contiguous array of our own, in the machine's byte order."""
        if not math.prod(self.shape):
            return np.zeros(self.shape, self.dtype)
        raw = self.source.read(self.storage).view(np.uint8)
        start = self.offset * self.dtype.itemsize
        strides = tuple(n * self.dtype.itemsize for n in self.strides)
        view: np.ndarray = np.ndarray(self.shape, self.dtype, raw.data, start, strides)
        x = np.array(view, order="C")
        x = x.conj() if self.conjugate else x
        return -x if self.negative else x


class TensorCalls:
    """The calls in a pickle that make tensors, for one source of storages."""

    def __init__(self, source: StorageSource) -> None:
        self._source = source
        self.storages: dict[str, Storage] = {}

    def storage(self, identifier: Any) -> Storage | Record:
        """Persistent id of PyTorch -> where the storage is.

        ("storage", class, key, device, numbers) and, in files that do not use zip, a sixth value:
        None or the (key, start, numbers) of the part that is meant.
        """
        if not isinstance(identifier, tuple) or not identifier or identifier[0] != "storage":
            return Record(Global("persistent id", "object"), (identifier,))
        kind, key, _, size, *view = identifier[1:]
        dtype = _storage_dtype(kind)
        if not isinstance(key, str) or type(size) is not int or size < 0:
            raise ValueError(f"a storage has key {described(key)} and size {described(size)}")
        whole = self.storages.setdefault(key, Storage(key, dtype, size))
        if (whole.dtype, whole.size) != (dtype, size):
            raise ValueError(f"storage {described(key)} is described in two ways")
        if not view or view[0] is None:
            return whole
        _, start, part = view[0]
        if not (type(start) is type(part) is int and 0 <= start <= start + part <= size):
            raise ValueError(f"storage {described(key)} has an impossible view")
        return Storage(key, dtype, part, start)

    def tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any
    ) -> "Tensor | Record":
        """`torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`; rest: requires_grad, hooks,
        metadata.
        """
        if not isinstance(storage, Storage):
            raise ValueError("a tensor has no storage")
        return self._tensor(storage, storage.dtype, (offset, shape, strides), rest[2:])

    def tensor_of_dtype(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any
    ) -> "Tensor | Record":
        """`torch._utils._rebuild_tensor_v3`; rest: requires_grad, hooks, dtype, metadata."""
        named = rest[2] if len(rest) > 2 else None
        if not isinstance(storage, Storage) or not isinstance(named, Global):
            raise ValueError("a tensor has no storage or no dtype")
        if named.module != "torch" or named.name not in _DTYPES:
            raise ValueError(f"tensors of dtype {described(named)} are not supported")
        dtype = np.dtype(_DTYPES[named.name])
        return self._tensor(storage, dtype, (offset, shape, strides), rest[3:])

    def _tensor(
        self, storage: Storage, dtype: np.dtype, place: tuple[Any, Any, Any], metadata: Any
    ) -> Tensor:
        flags = metadata[0] if metadata and isinstance(metadata[0], dict) else {}
        offset, shape, strides = place
        return Tensor(
            *(self._source, storage, dtype, offset, tuple(shape), tuple(strides)),
            conjugate=bool(flags.get("conj")),
            negative=bool(flags.get("neg")),
        )

    def builders(self) -> Mapping[str, Builder]:
        """Everything that a file of tensors may build, for `InertReader`."""
        torch = {
            "_rebuild_tensor": self.tensor,
            "_rebuild_tensor_v2": self.tensor,
            "_rebuild_tensor_v3": self.tensor_of_dtype,
            "_rebuild_parameter": lambda data, *_: data,
            "_rebuild_parameter_with_state": lambda data, *_: data,
        }
        numpy: dict[str, Builder] = {}
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            numpy |= {f"{module}._reconstruct": NumpyArray, f"{module}.scalar": NumpyArray.scalar}
        table = {f"torch._utils.{name}": builder for name, builder in torch.items()}
        return {
            **table,
            **numpy,
            "torch._tensor._rebuild_from_type_v2": self._subclass,
            "torch.Size": lambda *sizes: tuple(sizes[0]) if sizes else (),
            "collections.OrderedDict": _ordered_dict,
            "numpy.dtype": NumpyDtype,
            "_codecs.encode": _encode,
        }

    def _subclass(self, function: Any, kind: Any, args: Any, state: Any) -> Any:
        """A tensor with attributes, or of a subclass: the plain tensor below it."""
        builder = self.builders().get(str(function)) if isinstance(function, Global) else None
        return Record(function, args) if builder is None else builder(*args)


@dataclass(eq=False)
class NumpyDtype(Stateful):
    """`numpy.dtype("f4", ...)`; the byte order follows in its state."""

    code: Any
    align: Any = False
    copy: Any = True
    order: Any = "|"

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a numpy dtype has an unknown state")
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """The dtype; only numbers and truth values, no strings, structures or objects."""
        if not isinstance(self.code, str) or not re.fullmatch(r"[biufc]\d{1,2}", self.code):
            raise ValueError(f"numpy arrays of dtype {described(self.code)} are not supported")
        return np.dtype(self.code).newbyteorder(self.order)


@dataclass(eq=False)
class NumpyArray(Stateful):
    """`numpy.core.multiarray._reconstruct(...)`; shape, dtype and bytes follow in its state."""

    kind: Any = None
    shape: Any = None
    code: Any = None
    state: Any = None
    is_scalar: bool = False

    @classmethod
    def scalar(cls, dtype: Any, data: Any = b"") -> "NumpyArray":
        """`numpy.core.multiarray.scalar`."""
        return cls(state=(1, (), dtype, False, data), is_scalar=True)

    def set_state(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The numbers, C-contiguous, in the machine's byte order."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("a numpy array has no content")
        _, shape, kind, fortran, data = self.state
        if not isinstance(kind, NumpyDtype) or not isinstance(data, bytes):
            raise ValueError("a numpy array holds objects, not numbers")
        dtype = kind.dtype()
        x = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        return np.array(x, dtype.newbyteorder("="), order="C")


def _storage_dtype(kind: Any) -> np.dtype:
    """dtype of a storage class named in the file."""
    if isinstance(kind, Global) and kind.module in ("torch", "torch.cuda", "torch.storage"):
        name = kind.name.removesuffix("Storage")
        if name != kind.name and name in _STORAGES:
            return np.dtype(_STORAGES[name])
    raise ValueError(f"storages of class {described(kind)} are not supported")


def _ordered_dict(*args: Any) -> dict[Any, Any]:
    """`OrderedDict()` or `OrderedDict([[key, value], ...])`."""
    return {k: v for k, v in args[0] if isinstance(k, str | int)} if args else {}


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """`_codecs.encode(text, "latin1")`: how old pickle protocols write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"a pickle encodes text as {described(encoding)}")
    return text.encode("latin1")
