"""One serialised `tf.train.Example` to numpy arrays, as the table of fields says.

In: the bytes of a record and the wanted `Field`s. Out: an episode: nested dict of arrays, per-step
fields stacked to [T, ...]. Only wanted fields are converted, so an image that nobody asked for is
never decoded. Files and shards are `rlds.py`'s business.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from arp_jax.data.images import decode_pixels
from arp_jax.data.rlds_features import Field


def parse_episode(
    record: bytes, fields: Iterable[Field], decode_images: bool = True
) -> dict[str, Any]:
    """Decodes the wanted fields of one record.

    Args:
        record: serialised tf.train.Example.
        fields: what is wanted.
        decode_images: False leaves images encoded: object arrays [T] of bytes (PNG, JPEG).

    Returns:
        Nested dict, e.g. {"observation": {"image": uint8 [T, H, W, C]}, "action": [T, A]}. Text is
        a numpy array of str, string tensors are object arrays of bytes, everything else has the
        dtype of features.json. Values of unknown size (lists within a step, tensors and images with
        unknown dimensions) become object arrays [T] of arrays in episodes where they differ, and
        [T, ...] where they do not: element [t] is the value of step t either way.

    Raises:
        ValueError: the record is no Example, lacks a field, or holds a value that does not fit;
            the message names the field.
    """
    try:
        stored = tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError("the record is no serialised tf.train.Example") from error
    episode: dict[str, Any] = {}
    steps: tuple[str, int] | None = None
    for field in fields:
        if field.optional and field.record_key not in stored:
            continue
        try:
            values = _decode_field(stored, field, decode_images)
        except (ValueError, IndexError) as error:
            raise ValueError(f"field {field.name!r}: {error}") from error
        if field.per_step:
            steps = steps or (field.name, len(values))
            if len(values) != steps[1]:
                raise ValueError(
                    f"field {field.name!r} has {len(values)} steps, {steps[0]!r} has {steps[1]}"
                )
        node = episode
        for key in field.path[:-1]:
            node = node.setdefault(key, {})
        node[field.path[-1]] = values
    return episode


def _decode_field(stored: Any, field: Field, decode_images: bool) -> Any:
    """All values of a field: [T, ...] per step, [N, ...] for a list, else one value."""
    if field.kind == "unsupported":
        raise ValueError(
            f"TFDS feature {field.class_name} of shape {field.shape} is not supported"
            + ("; its values are stored without their sizes" if None in field.shape else "")
        )
    values: Any
    if field.kind == "tensor" and field.encoding == "none" and field.dtype != "string":
        values = _shaped(_numbers(stored, field), field)
    else:
        content = list(_take(stored, field.value_key).bytes_list.value)
        values = _decode_bytes(content, field, decode_images)
        if field.stored_shape:
            shapes = np.asarray(_take(stored, field.shape_key).int64_list.value)
            shapes = shapes.reshape(-1, len(field.shape))
            values = [v.reshape(s) for v, s in zip(values, shapes, strict=True)]
    for level in reversed(range(field.rank - 1)):
        sizes = _take(stored, field.row_lengths_key(level)).int64_list.value
        values = _rows(_stack(values), np.asarray(sizes, np.int64))
    if field.rank == 0:
        return values[0]
    return _stack(values) if len(values) else _empty(field)


def _take(stored: Any, key: str) -> Any:
    # Indexing a protobuf map would silently create the entry.
    if key not in stored:
        raise ValueError(f"the record has no key {key!r}")
    return stored[key]


def _numbers(stored: Any, field: Field) -> np.ndarray:
    feature = _take(stored, field.value_key)
    expected = "float_list" if field.dtype.startswith(("float", "bfloat")) else "int64_list"
    kind = feature.WhichOneof("kind") or expected  # an empty list may have no kind
    if kind != expected:
        raise ValueError(f"stored as {kind.split('_')[0]}, features.json says {field.dtype}")
    if kind == "float_list":
        return np.asarray(feature.float_list.value, np.float32).astype(field.dtype)
    values = np.asarray(feature.int64_list.value, np.int64)
    # TFDS stores uint64 bit for bit in int64.
    return values.view(np.uint64) if field.dtype == "uint64" else values.astype(field.dtype)


def _shaped(values: np.ndarray, field: Field) -> np.ndarray:
    """Flat values as [N, *shape]; a plain value has N = 1."""
    inner = tuple(-1 if d is None else d for d in field.shape)
    try:
        if field.rank == 0:
            return values.reshape(1, *inner)
        count = values.size // max(int(np.prod(inner)), 1)
        return values.reshape(count, *inner)
    except ValueError:
        raise ValueError(f"{values.size} values do not fill shape {field.shape}") from None


def _decode_bytes(values: list[bytes], field: Field, decode_images: bool) -> Any:
    """Stored strings as a list of values, or as an array [N, *shape] of strings."""
    if field.kind == "image":
        return [_decode_image(v, field) for v in values] if decode_images else _strings(values)
    if field.kind == "text":
        return [np.str_(v.decode("utf-8")) for v in values]
    if field.encoding == "none":
        return _shaped(_strings(values), field)
    return [_decode_tensor(v, field) for v in values]


def _strings(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _decode_tensor(value: bytes, field: Field) -> np.ndarray:
    """The array of one encoded value; flat when its shape is stored beside it."""
    if field.encoding == "zlib":
        try:
            value = zlib.decompress(value)
        except zlib.error as error:
            raise ValueError(f"zlib data is damaged ({error})") from error
    flat = np.frombuffer(value, field.dtype)
    if field.stored_shape:
        return flat
    return flat.reshape([-1 if d is None else d for d in field.shape])


def _decode_image(value: bytes, field: Field) -> np.ndarray:
    """[H, W, C] of features.json's dtype."""
    pixels = decode_pixels(value, (field.shape or (3,))[-1] or 3, field.dtype)
    expected = zip(field.shape, pixels.shape, strict=True) if field.shape else ()
    if any(want is not None and want != have for want, have in expected):
        raise ValueError(f"image has shape {pixels.shape}, features.json says {field.shape}")
    return pixels


def _rows(values: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Cuts [N, ...] into lists of the given sizes."""
    if sizes.sum() != len(values):
        raise ValueError(f"{len(values)} values do not fill lists of {sizes.sum()} in total")
    return np.split(values, np.cumsum(sizes)[:-1]) if len(sizes) else []


def _stack(values: Any) -> np.ndarray:
    """[N, ...] when all values have one shape, else an object array [N] of them."""
    if isinstance(values, np.ndarray):
        return values
    if len({np.shape(v) for v in values}) <= 1:
        return np.stack(values) if values else np.empty((0,))
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _empty(field: Field) -> np.ndarray:
    strings = object if field.kind == "tensor" else np.str_
    dtype = strings if field.dtype == "string" else field.dtype
    return np.empty((0, *(d or 0 for d in field.shape)), dtype)
