"""Numpy arrays to one serialised `tf.train.Example`: the inverse of `tf_example.py`.

In: an episode as `parse_episode(..., decode_images=False)` returns it, and its `Field`s. Out: the
bytes of a record as TFDS would store them. Used where TFDS's own serialiser cannot be (it needs
TensorFlow for some features); framing of files is `tfrecord.py`'s business.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from arp_jax.data.rlds_features import Field


def serialize_episode(episode: Mapping[str, Any], fields: Iterable[Field]) -> bytes:
    """The record of an episode.

    Args:
        episode: nested dict; fields of the steps [T, ...] or lists of T values, images encoded.
        fields: which of its fields to store, and how.

    Raises:
        KeyError: the episode lacks a field.
    """
    example = tf_example_pb2.Example()
    stored = example.features.feature
    for field in fields:
        value: Any = episode
        for key in field.path:
            value = value[key]
        values = value if field.rank else [value]
        for level in range(field.rank - 1):
            sizes = stored[field.row_lengths_key(level)].int64_list.value
            sizes.extend(len(row) for row in values)
            values = [item for row in values for item in row]
        if field.kind == "tensor" and field.encoding == "none" and field.dtype != "string":
            _put_numbers(stored[field.value_key], np.asarray(values, field.dtype))
            continue
        strings = stored[field.value_key].bytes_list.value
        strings.extend(_encoded(v, field) for v in _flat(values, field))
        if field.stored_shape:
            shapes = stored[field.shape_key].int64_list.value
            shapes.extend(size for v in values for size in np.shape(v))
    return example.SerializeToString(deterministic=True)


def _put_numbers(feature: Any, values: np.ndarray) -> None:
    flat = values.ravel()
    if values.dtype.kind == "f":
        feature.float_list.value.extend(flat.astype(np.float32))
    else:  # TFDS stores uint64 bit for bit in int64
        flat = flat.view(np.int64) if values.dtype == np.uint64 else flat.astype(np.int64)
        feature.int64_list.value.extend(flat)


def _flat(values: Any, field: Field) -> Iterable[Any]:
    """One entry per stored string: tensors of strings hold several a step."""
    is_strings = field.kind == "tensor" and field.encoding == "none"
    return np.asarray(values, object).ravel() if is_strings else values


def _encoded(value: Any, field: Field) -> bytes:
    if field.kind == "tensor" and field.encoding != "none":
        content = np.asarray(value, field.dtype).tobytes()
        return zlib.compress(content) if field.encoding == "zlib" else content
    return value if isinstance(value, bytes) else str(value).encode()
