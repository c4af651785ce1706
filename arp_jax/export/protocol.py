"""Messages between a robot and a policy server: numpy and msgpack, no pickle, no jax.

A message is `head length | head | arrays`: the head is a msgpack map of plain values that also says
name, dtype and shape of each array; the arrays' bytes follow as they lie in memory, so that a
picture is neither copied by the writer nor by the reader. Flows in: dataclasses; flows out: pieces
of bytes; and back, refusing everything that is not exactly one message of this version.
"""

import dataclasses
import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from arp_jax.specs import PolicySpec

VERSION = 1
# What both ends accept in one message unless told otherwise: above four raw 1080p pictures.
MAX_MESSAGE_BYTES = 32 * 1024**2
# Larger messages travel in pieces: measured best on loopback (benchmarks/serving.py).
FRAGMENT_BYTES = 256 * 1024
# Where a server that is a child of the bridge finds its token.
TOKEN_VARIABLE = "ARP_JAX_TOKEN"
# WebSocket close codes of this protocol (4000-4999 are an application's own).
CLOSE_VERSION, CLOSE_MALFORMED = 4400, 4401
_LENGTH = struct.Struct("<I")
_MAX_HEAD_BYTES = 256 * 1024
_MAX_ARRAYS = 64
_MAX_DIMENSIONS = 8
_ALIGNMENT = 64  # of arrays in shared memory
_DTYPES: dict[str, np.dtype] = {
    "uint8": np.dtype("u1"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
# One array [W, ...], or its W rows, which need not lie side by side in memory.
Rows = np.ndarray | Sequence[np.ndarray]


class ProtocolError(ValueError):
    """The bytes are no message of this protocol; the message names what is wrong."""


class VersionError(ProtocolError):
    """A message of another version of the protocol."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The server's first message: what it serves.

    Attributes:
        policy: its name, e.g. "arp".
        spec: what it sees and commands.
        content_hash: of the artifact's manifest; tells two trainings of one policy apart.
        versions: of packages.
    """

    policy: str
    spec: PolicySpec
    content_hash: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Query:
    """A client asks for a chunk.

    Attributes:
        request: number chosen by the client, echoed.
        observed_ns: time of the newest observation on the client's own clock; only echoed, for two
            machines' monotonic clocks have nothing in common.
        observation: name -> [W, ...], oldest first, features in physical units, images uint8.
        seed: of the policy's sampling noise, 0 .. 2**32 - 1.
    """

    request: int
    observed_ns: int
    observation: Mapping[str, Rows]
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Actions:
    """The answer to a query.

    Attributes:
        request, observed_ns: the query's.
        actions: float32 [H, A], physical units; row j is meant for
            observed_ns + (j + action_offset) * period.
        timing_ms: how long the server took: "queue", waiting for its turn, and "infer".
        superseded: queries of this client, since its last answer, that were dropped because a newer
            one came before they were looked at.
    """

    request: int
    observed_ns: int
    actions: np.ndarray
    timing_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    superseded: int = 0


@dataclasses.dataclass(frozen=True)
class Problem:
    """A query that has no answer; the connection stays.

    Attributes:
        request: the query's number, -1 where it could not be read.
        field: what is wrong, e.g. "observation.image"; "policy" for a failure of the policy.
        message: for people, one line.
    """

    request: int
    field: str
    message: str


Message = Metadata | Query | Actions | Problem
Piece = bytes | memoryview


def encode(message: Message, shared: memoryview | None = None) -> list[Piece]:
    """The pieces whose concatenation is the message; arrays are viewed, not copied.

    Args:
        message: what is sent.
        shared: memory that the other end sees too: a query's arrays are copied there as long as
            there is room, and only their place is sent. They must stay until the answer is here.

    Raises:
        ValueError: an array of a dtype that is not sent, or rows of different shapes.
    """
    if isinstance(message, Metadata):
        head = dataclasses.asdict(message)
        return _join("metadata", head, {})
    if isinstance(message, Query):
        head = {"request": message.request, "time_ns": message.observed_ns, "seed": message.seed}
        return _join("query", head, message.observation, shared)
    if isinstance(message, Actions):
        head = {
            "request": message.request,
            "time_ns": message.observed_ns,
            "timing_ms": dict(message.timing_ms),
            "superseded": message.superseded,
        }
        return _join("actions", head, {"actions": message.actions})
    return _join("problem", dataclasses.asdict(message), {})


def fragments(pieces: Sequence[Piece], size: int) -> list[Piece]:
    """The same bytes in pieces of at most `size`; everything in one where that is enough.

    Small pieces of a large message keep both ends busy at the same time, and nobody holds an
    interpreter lock for long. Small arrays travel together.
    """
    if sum(map(len, pieces)) <= size:
        return [b"".join(pieces)]
    parts: list[Piece] = []
    for large, group in itertools.groupby(pieces, lambda piece: len(piece) > size // 8):
        for piece in group if large else [b"".join(group)]:
            view = memoryview(piece)
            parts.extend(view[i : i + size] for i in range(0, len(view), size))
    return parts


def decode(data: bytes | bytearray | memoryview, shared: memoryview | None = None) -> Message:
    """Reads one message; its arrays are read-only views of `data`, or of `shared` memory.

    Raises:
        VersionError: another version of the protocol.
        ProtocolError: anything else that is not exactly one message.
    """
    try:
        seen = None if shared is None else shared.toreadonly()
        return _decode(memoryview(data).toreadonly(), seen)
    except RecursionError as error:
        raise ProtocolError("the head is nested too deeply") from error


def _decode(view: memoryview, shared: memoryview | None) -> Message:
    head, body = _split(view)
    if head.get("v") != VERSION:
        raise VersionError(
            f"this program speaks version {VERSION} of the protocol, the message has version "
            f"{_shown(head.get('v'))}; install the same arp_jax on both machines"
        )
    arrays = _arrays(_value(head, "arrays", list), body, shared)
    kind = head.get("type")
    if kind == "query":
        return Query(
            _integer(head, "request"),
            _integer(head, "time_ns"),
            arrays,
            _integer(head, "seed", 0, 2**32 - 1),
        )
    if kind == "actions":
        return _decode_actions(head, arrays)
    if arrays:
        raise ProtocolError(f"a message of type {_shown(kind)} has no arrays")
    if kind == "metadata":
        return _decode_metadata(head)
    if kind == "problem":
        number = _integer(head, "request", -1)
        return Problem(number, _value(head, "field", str), _value(head, "message", str))
    raise ProtocolError(f"type: {_shown(kind)} is no kind of message")


def _decode_actions(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Actions:
    actions = arrays.get("actions")
    if actions is None or len(arrays) != 1 or actions.ndim != 2 or actions.dtype != np.float32:
        raise ProtocolError("actions: expected one array float32 [H, A]")
    timing = _value(head, "timing_ms", dict)
    if not all(isinstance(t, float) and math.isfinite(t) for t in timing.values()):
        raise ProtocolError("timing_ms: expected finite numbers")
    return Actions(
        _integer(head, "request"),
        _integer(head, "time_ns"),
        actions,
        timing,
        _integer(head, "superseded"),
    )


def _decode_metadata(head: dict[str, Any]) -> Metadata:
    versions = _value(head, "versions", dict)
    if not all(isinstance(version, str) for version in versions.values()):
        raise ProtocolError("versions: expected texts")
    try:
        spec = PolicySpec.from_json(_value(head, "spec", dict))
        # Whatever has the wrong type shows at the latest here.
        shown = (spec.observation.names, spec.action.size, spec.window + spec.horizon)
    except (ValueError, TypeError, AttributeError) as error:
        raise ProtocolError(f"spec: {error}") from error
    if not all(isinstance(name, str) for name in shown[0]):
        raise ProtocolError("spec: expected names")
    return Metadata(_value(head, "policy", str), spec, _value(head, "content_hash", str), versions)


def _join(
    kind: str, head: dict[str, Any], arrays: Mapping[str, Rows], shared: memoryview | None = None
) -> list[Piece]:
    """Head and bodies of a message."""
    entries: list[list[Any]] = []
    bodies: list[memoryview] = []
    used = 0
    for name, rows in arrays.items():
        # An array's rows are its own views: both forms are handled alike.
        parts = [rows] if isinstance(rows, np.ndarray) else list(rows)
        shape = parts[0].shape if parts[0] is rows else (len(parts), *parts[0].shape)
        dtype = parts[0].dtype.name
        if dtype not in _DTYPES:
            raise ValueError(f"{name}: {dtype} is not sent; use one of {', '.join(_DTYPES)}")
        if any(p.shape != parts[0].shape or p.dtype != parts[0].dtype for p in parts):
            raise ValueError(f"{name}: rows of different shapes or dtypes")
        entries.append([name, dtype, list(shape)])
        size = math.prod(shape) * _DTYPES[dtype].itemsize
        if shared is not None and 0 < size <= len(shared) - used:
            entries[-1].append(used)
            there = np.frombuffer(shared[used : used + size], _DTYPES[dtype])
            np.stack(parts, out=there.reshape(len(parts), *parts[0].shape))
            used += -(-size // _ALIGNMENT) * _ALIGNMENT
            continue
        for part in parts:
            body: np.ndarray = np.ascontiguousarray(part, _DTYPES[dtype])
            # A view of bytes; an array without elements cannot be cast to one.
            bodies.append(body.data.cast("B") if body.size else memoryview(b""))
    packed = msgpack.packb({"v": VERSION, "type": kind, "arrays": entries, **head})
    return [_LENGTH.pack(len(packed)), packed, *bodies]


def _split(view: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Head and the arrays' bytes."""
    if len(view) < _LENGTH.size:
        raise ProtocolError(f"{len(view)} bytes are no message")
    (length,) = _LENGTH.unpack(view[: _LENGTH.size])
    if length > _MAX_HEAD_BYTES or length > len(view) - _LENGTH.size:
        raise ProtocolError(f"a head of {length} bytes in a message of {len(view)}")
    end = _LENGTH.size + length
    try:
        head = msgpack.unpackb(
            view[_LENGTH.size : end],
            strict_map_key=True,
            max_ext_len=0,
            ext_hook=_refuse_ext,
        )
    # msgpack's own errors derive from several classes; all of them mean the same here.
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ProtocolError(f"the head is not msgpack: {error!r}") from error
    if not isinstance(head, dict):
        raise ProtocolError(f"the head is a {type(head).__name__}, not a map")
    return head, view[end:]


def _refuse_ext(code: int, data: bytes) -> Any:
    raise ProtocolError(f"extension type {code} is not accepted")


def _arrays(
    entries: list[Any], body: memoryview, shared: memoryview | None
) -> dict[str, np.ndarray]:
    """The arrays that `entries` describe; those that are not shared are together all of `body`."""
    if len(entries) > _MAX_ARRAYS:
        raise ProtocolError(f"arrays: {len(entries)} of them, at most {_MAX_ARRAYS} are accepted")
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for entry in entries:
        name, dtype, shape, place = _checked_entry(entry)
        if name in arrays:
            raise ProtocolError(f"arrays: {_shown(name)} stands there twice")
        size = math.prod(shape) * dtype.itemsize
        if place is None:
            source, begin, offset = body, offset, offset + size
        elif shared is None:
            raise ProtocolError(f"{_shown(name)}: there is no shared memory on this connection")
        else:
            source, begin = shared, place
        if size > len(source) - begin:
            raise ProtocolError(
                f"{_shown(name)}: {dtype.name} {shape} needs {size} bytes, "
                f"{max(len(source) - begin, 0)} are left"
            )
        arrays[name] = np.frombuffer(source[begin : begin + size], dtype).reshape(shape)
    if offset != len(body):
        raise ProtocolError(f"{len(body) - offset} bytes after the last array")
    return arrays


def _checked_entry(entry: Any) -> tuple[str, np.dtype, Any, int | None]:
    """Name, dtype and shape of one array, and its place in shared memory or None."""
    if not (isinstance(entry, list) and len(entry) in (3, 4) and isinstance(entry[0], str)):
        raise ProtocolError("arrays: expected [name, dtype, shape] each, and a place if shared")
    name, dtype, shape, place = (*entry, None)[:4]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ProtocolError(f"{_shown(name)}: dtype {_shown(dtype)} is not one of {list(_DTYPES)}")
    whole = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    if not whole or len(shape) > _MAX_DIMENSIONS:
        raise ProtocolError(
            f"{_shown(name)}: a shape is at most {_MAX_DIMENSIONS} positive numbers, found "
            f"{_shown(shape)}"
        )
    if len(entry) == 4 and (type(place) is not int or place < 0):
        raise ProtocolError(f"{_shown(name)}: {_shown(place)} is no place")
    return name, _DTYPES[dtype], shape, place


def _value(head: dict[str, Any], key: str, kind: type) -> Any:
    value = head.get(key)
    if not isinstance(value, kind):
        raise ProtocolError(f"{key}: expected a {kind.__name__}, found {_shown(value)}")
    return value


def _integer(head: dict[str, Any], key: str, low: int = 0, high: int = 2**63 - 1) -> int:
    value = head.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"{key}: expected a number {low}..{high}, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A stranger's value, short enough for one line of an error."""
    text = "".join(itertools.islice((c if c.isprintable() else "?" for c in repr(value)), 60))
    return text if len(text) < 60 else text + "..."
