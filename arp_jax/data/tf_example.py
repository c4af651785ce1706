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
        dtype of features.json.

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
        values = _decode_field(stored, field, decode_images)
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


def _decode_field(stored: Any, field: Field, decode_images: bool) -> np.ndarray:
    """All values of a field: [T, ...] per step, [N, ...] for a sequence, else one value."""
    many = field.per_step or field.sequence
    if field.kind == "image" and not decode_images:
        encoded = _bytes(stored, field)
        array = np.empty(len(encoded), object)
        array[:] = encoded
        return array if many else array[0]
    try:
        if field.kind == "unsupported":
            raise ValueError(f"TFDS feature {field.class_name} of this form is not supported")
        if field.kind == "tensor" and field.encoding == "none" and field.dtype != "string":
            return _numbers(stored, field, many)
        values = [_decode_bytes(v, field) for v in _bytes(stored, field)]
        if field.stored_shape:
            shapes = np.asarray(_take(stored, f"{field.record_key}/shape").int64_list.value)
            shapes = shapes.reshape(-1, len(field.shape))
            values = [v.reshape(s) for v, s in zip(values, shapes, strict=True)]
        if field.kind == "tensor" and field.dtype == "string":
            array = np.empty(len(values), object)
            array[:] = values
            return _shaped(array, field, many)
        if len({np.shape(v) for v in values}) > 1:
            raise ValueError("values of different shapes cannot be stacked")
        array = np.stack(values) if values else _empty(field)
        return array if many else array[0]
    except (ValueError, IndexError) as error:
        raise ValueError(f"field {field.name!r}: {error}") from error


def _take(stored: Any, key: str) -> Any:
    # Indexing a protobuf map would silently create the entry.
    if key not in stored:
        raise ValueError(f"the record has no key {key!r}")
    return stored[key]


def _numbers(stored: Any, field: Field, many: bool) -> np.ndarray:
    feature = _take(stored, field.record_key)
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        raise ValueError(f"stored as bytes, features.json says {field.dtype}")
    if kind == "float_list":
        values = np.asarray(feature.float_list.value, np.float32)
    else:
        values = np.asarray(feature.int64_list.value, np.int64)
    # TFDS stores uint64 bit for bit in int64.
    values = values.view(np.uint64) if field.dtype == "uint64" else values.astype(field.dtype)
    return _shaped(values, field, many)


def _shaped(values: np.ndarray, field: Field, many: bool) -> np.ndarray:
    inner = tuple(d or 0 for d in field.shape)  # None never comes here: such a field is unsupported
    if many and values.size == 0:
        return values.reshape(0, *inner)
    try:
        return values.reshape((-1, *inner) if many else inner)
    except ValueError:
        raise ValueError(f"{values.size} values do not fill shape {field.shape}") from None


def _bytes(stored: Any, field: Field) -> list[bytes]:
    key = f"{field.record_key}/value" if field.stored_shape else field.record_key
    return list(_take(stored, key).bytes_list.value)


def _decode_bytes(value: bytes, field: Field) -> Any:
    if field.kind == "image":
        return _decode_image(value, field)
    if field.kind == "text":
        return np.str_(value.decode("utf-8"))
    if field.dtype == "string" and field.encoding == "none":
        return value
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
    pixels = decode_pixels(value, field.shape[-1] or 3, field.dtype)
    expected = zip(field.shape, pixels.shape, strict=True)
    if any(want is not None and want != have for want, have in expected):
        raise ValueError(f"image has shape {pixels.shape}, features.json says {field.shape}")
    return pixels


def _empty(field: Field) -> np.ndarray:
    dtype = np.str_ if field.kind == "text" else field.dtype
    return np.empty((0, *(d or 0 for d in field.shape)), dtype)
