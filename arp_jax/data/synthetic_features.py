"""Plausible values for the raw fields of a published dataset, made from the types on its card.

In: a card's `fields` (name -> type, e.g. "float32[7]", "image[480,640,3]:jpeg", "int32[3]:zlib").
Out: `Field`s as features.json would give them, the TFDS features that write them, and arrays
[T, ...] of smooth, bounded, right-shaped values. Nobody's robot made them: they test formats and
conventions, never a policy. Writing folders is `synthetic.py`'s business.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from arp_jax.data.images import encode_image
from arp_jax.data.rlds_features import Field

EPISODE_PREFIX = "/"
# Fields that belong to the whole episode without being marked.
_EPISODE_GROUP = "episode_metadata"
_TYPE = re.compile(r"^(?P<base>[a-z]+\d*)(\[(?P<shape>[\d?]+(,[\d?]+)*)\])?(?P<options>(:\w+)*)$")
_TENSOR_ENCODINGS, _IMAGE_ENCODINGS = ("none", "bytes", "zlib"), ("png", "jpeg")
_IMAGE_DTYPES = ("uint8", "uint16", "float32")
# What an unknown dimension becomes.
_UNKNOWN_SIZE = 3
SENTENCES = (
    "pick up the red block",
    "move the sponge near the apple",
    "close the top drawer",
    "put the cup into the sink",
    "öffne die Schublade",
)
# Half the range of a vector whose key holds the word; the first match counts.
_RANGES = (
    ("rotation_delta", 0.1),
    ("world_vector", 0.05),
    ("residual", 0.05),
    ("delta", 0.05),
    ("joint", 1.5),
    ("velocity", 0.3),
    ("force", 5.0),
    ("pos", 0.5),
)


def fields_of_types(types: Mapping[str, str]) -> list[Field]:
    """The fields that a card lists.

    Args:
        types: name -> type. The first part of a name is its group ("observation/..."), the rest is
            one key even where it holds a "/" (as in kuka's files). A name that begins with "/" or
            with "episode_metadata/" belongs to the whole episode.

    Raises:
        ValueError: a type cannot be read; the message names the field.
    """
    return [_field_of_type(name, text) for name, text in types.items()]


def _field_of_type(name: str, text: str) -> Field:
    match = _TYPE.match(text)
    if match is None:
        raise ValueError(f"field {name!r}: type {text!r} is not like 'float32[7]:zlib'")
    base, options = match["base"], match["options"].split(":")[1:]
    shape = tuple(None if d == "?" else int(d) for d in (match["shape"] or "").split(",") if d)
    kind, dtype = "tensor", base
    encodings: tuple[str, ...] = _TENSOR_ENCODINGS
    if base == "image":
        kind, encodings = "image", _IMAGE_ENCODINGS
        dtype = next((o for o in options if o in _IMAGE_DTYPES), "uint8")
        options = [o for o in options if o not in _IMAGE_DTYPES]
    elif base == "text":
        kind, dtype = "text", "string"
    elif base != "string":
        try:
            np.dtype(base)
        except TypeError:
            raise ValueError(f"field {name!r}: {base!r} is no numpy type") from None
    encoding = options[0] if options else encodings[0]
    if encoding not in encodings or len(options) > 1:
        raise ValueError(f"field {name!r}: type {text!r} may end in one of {encodings}")
    per_step = not name.startswith((EPISODE_PREFIX, f"{_EPISODE_GROUP}/"))
    path = tuple(name.removeprefix(EPISODE_PREFIX).split("/", 1))
    return Field(path, kind, shape, dtype, encoding, per_step, 0, base.capitalize())


def tfds_features(fields: Iterable[Field]) -> Any:
    """The `tfds.features.FeaturesDict` of episodes with these fields."""
    import tensorflow_datasets as tfds

    step: dict[str, Any] = {}
    episode: dict[str, Any] = {}
    for field in fields:
        if field.kind == "image":
            feature = tfds.features.Image(
                shape=field.shape, dtype=np.dtype(field.dtype), encoding_format=field.encoding
            )
        elif field.kind == "text":
            feature = tfds.features.Text()
        else:
            dtype = np.object_ if field.dtype == "string" else np.dtype(field.dtype)
            feature = tfds.features.Tensor(shape=field.shape, dtype=dtype, encoding=field.encoding)
        put(step if field.per_step else episode, field.path, feature)
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step), **episode})


def put(tree: dict[str, Any], path: Iterable[str], value: Any) -> None:
    """Sets tree[path[0]][path[1]]... = value, making the dicts on the way."""
    *groups, key = path
    for group in groups:
        tree = tree.setdefault(group, {})
    tree[key] = value


def synthetic_values(field: Field, length: int, seed: int) -> Any:
    """Values of one field in one episode.

    Args:
        field: what is wanted.
        length: T.
        seed: of the episode; a field's values do not depend on which other fields there are.

    Returns:
        [T, ...] for a field of the steps, else one value; images as object arrays [T] of encoded
        bytes, text as an array of str, string tensors as object arrays of bytes.
    """
    rng = np.random.default_rng([seed, zlib.crc32(field.name.encode())])
    steps = length if field.per_step else 1
    if field.kind == "image":
        values = np.empty(steps, object)
        values[:] = [_encoded(frame, field) for frame in _pictures(field, steps, rng)]
    elif field.dtype == "string":
        values = _strings(field, steps, seed)
    else:
        values = _numbers(field, steps, rng, seed).astype(field.dtype)
    return values if field.per_step else values[0]


def smooth_curve(
    rng: np.random.Generator, length: int, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """A slow sine per dimension inside the middle 80 % of [low, high]: float32 [length, D]."""
    size = low.shape[0]
    phase, cycles = rng.uniform(0, 2 * np.pi, size), rng.uniform(0.5, 1.5, size)
    time = np.arange(length)[:, None] / length  # [T, 1]
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * cycles * time + phase)  # [T, D]
    return (low + (high - low) * wave).astype(np.float32)


def _strings(field: Field, steps: int, seed: int) -> np.ndarray:
    key = field.path[-1]
    is_language = any(word in key for word in ("instruction", "language", "task"))
    # "language_instruction_2" is another way to say it.
    alternative = int(key[-1]) - 1 if key[-1].isdigit() else 0
    text = SENTENCES[(seed + alternative) % len(SENTENCES)] if is_language else f"{key}_{seed}"
    if field.kind == "text":
        return np.full(steps, text)
    inner = tuple(d or _UNKNOWN_SIZE for d in field.shape)
    values = np.empty((steps, *inner), object)
    values[...] = text.encode()
    return values


def _numbers(field: Field, steps: int, rng: np.random.Generator, seed: int) -> np.ndarray:
    """[T, *shape], not yet of the field's dtype."""
    key = field.path[-1].lower()
    inner = tuple(_UNKNOWN_SIZE if d is None else d for d in field.shape)
    shape = (steps, *inner)
    special = _special(key, shape, rng, seed, field)
    if special is not None:
        return special
    kind = np.dtype(field.dtype).kind
    if len(inner) >= 2 and max(inner) >= 32:
        return np.stack(list(_pictures(field, steps, rng))).reshape(shape)
    if kind == "b":
        return np.broadcast_to(_switching(steps, (0, 1), rng).reshape(-1, *[1] * len(inner)), shape)
    if kind in "iu":
        return np.cumsum(np.ones(shape, np.int64), axis=0) - 1
    half = next((half for word, half in _RANGES if word in key), 1.0)
    if field.path == ("action",):
        half = 0.05
    size = int(np.prod(inner, dtype=int))
    values = smooth_curve(rng, steps, np.full(size, -half), np.full(size, half))  # [T, size]
    if field.path == ("action",) and size == 7:
        values[:, -1] = _switching(steps, (0, 1), rng)
    if size == 7 and "pose" in key:  # position and quaternion
        values[:, 3:] /= np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    return values.reshape(shape)


def _special(
    key: str, shape: tuple[int, ...], rng: np.random.Generator, seed: int, field: Field
) -> np.ndarray | None:
    """Values whose key says what they are, or None."""
    steps, last = np.arange(shape[0]), shape[0] - 1
    over_time = (-1, *[1] * (len(shape) - 1))
    is_last = (steps == last).reshape(over_time)
    is_float = field.dtype.startswith("float")
    if key == "is_first":
        return np.broadcast_to((steps == 0).reshape(over_time), shape)
    if key in ("is_last", "is_terminal", "reward"):
        return np.broadcast_to(is_last, shape)
    if key == "discount":
        return np.broadcast_to(1 - is_last, shape)
    if "terminate" in key and shape[1:] == (3,):  # (terminate, go on, unused)
        return np.where(is_last, [1, 0, 0], [0, 1, 0])
    if "terminate" in key:
        return np.broadcast_to(is_last, shape)
    if "embedding" in key and is_float:
        vector = rng.normal(size=shape[1:])
        return np.broadcast_to(vector / np.linalg.norm(vector), shape)
    if "instruction" in key and len(shape) == 2:  # UTF-8 bytes padded with zeros (language_table)
        text = SENTENCES[seed % len(SENTENCES)].encode()[: shape[1]]
        return np.broadcast_to(np.frombuffer(text.ljust(shape[1], b"\0"), np.uint8), shape)
    if "gripper" in key and is_float and np.prod(shape[1:], dtype=int) == 1:
        levels = (-1, 0, 1) if field.path[0] == "action" else (0, 1)
        return _switching(shape[0], levels, rng).reshape(shape)
    if shape[1:] == (4,) and is_float:  # quaternion
        values = smooth_curve(rng, shape[0], np.full(4, -1.0), np.ones(4))
        return values / np.linalg.norm(values, axis=1, keepdims=True)
    return None


def _switching(steps: int, levels: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """One of the levels at a time, each for a while: float64 [T]."""
    order = rng.permutation(len(levels))
    return np.asarray(levels, float)[order[np.arange(steps) * len(levels) // max(steps, 1)]]


def _pictures(field: Field, steps: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
    """Frames [H, W, C] of the field's dtype: a shaded background with a square that moves."""
    inner = tuple(32 if d is None else d for d in field.shape)
    height, width, channels = (*inner, 1)[:3]
    dtype = np.dtype(field.dtype)
    top = np.iinfo(dtype).max if dtype.kind in "iu" else 1.0
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    shade = rng.uniform(0.3, 0.6, channels)  # [C]
    background = (0.2 * rows / height + 0.2 * columns / width + shade) * top  # [H, W, C]
    side = max(height // 8, 1)
    corners = smooth_curve(rng, steps, np.zeros(2), np.array([height - side, width - side]))
    for row, column in corners.astype(int):
        frame = background.astype(dtype)
        frame[row : row + side, column : column + side] = 0.1 * top
        yield frame


def _encoded(frame: np.ndarray, field: Field) -> bytes:
    if frame.dtype == np.float32:  # TFDS stores the four bytes of a float as RGBA
        return encode_image(frame.view(np.uint8), "png")
    return encode_image(frame[..., 0] if frame.shape[-1] == 1 else frame, field.encoding)
