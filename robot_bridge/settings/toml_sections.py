"""TOML tables as frozen dataclasses: every key known, every type right, every angle converted.

In: a dataclass and a parsed table. Out: an instance, or one line that names the file and the key.
People write degrees, the bridge calculates in radians: a field `x_rad`, `x_rad_s` or `x_rad_s2` is
read from the key `x_deg`, `x_deg_s` or `x_deg_s2`. What the sections are is `config.py`'s business.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_ANGLE = re.compile(r"_rad(?=_s2?$|$)")
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def key_of(field_name: str) -> str:
    """The TOML key of a field: max_speed_rad_s -> max_speed_deg_s."""
    return _ANGLE.sub("_deg", field_name)


def read_section(kind: type[T], table: Any, where: str) -> T:
    """An instance of the dataclass `kind` from a table.

    Fields are bool, int, float, str, Path, tuples of those, dataclasses, tuples of dataclasses, or
    one of those and None (an empty text). Fields with a default may be absent.

    Args:
        where: file and section, for messages.

    Raises:
        ValueError: an unknown key, a missing one, a value of another type, or what the dataclass
            itself refuses; `where` and the key are in the message.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: expected a table ([section]), found {table!r}")
    hints = typing.get_type_hints(kind)
    fields = {key_of(f.name): f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(fields))}"
            raise ValueError(f"{where}: unknown key {key!r}; {hint}")
    values = {}
    for key, field in fields.items():
        if key in table:
            value = _value(hints[field.name], table[key], f"{where}: {key}")
            values[field.name] = _radians(value) if _ANGLE.search(field.name) else value
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: {key} is missing")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotation wants it."""
    if isinstance(hint, types.UnionType):
        if value == "":
            return None  # TOML has no null
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read_section(hint, value, where)
    if typing.get_origin(hint) is tuple:
        return _items(typing.get_args(hint), value, where)
    if hint is Path:
        return Path(_value(str, value, where)).expanduser()
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ValueError(f"{where} must be one of {list(choices)}, found {value!r}")
        return value
    # A whole number serves as a float; true is an int in Python but nowhere else.
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} must be {_NAMES.get(hint, hint)}, found {value!r}")
    if hint is float and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, found {value!r}")
    return value


def _items(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list, found {value!r}")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise ValueError(f"{where} needs {len(hints)} values, found {len(value)}: {value!r}")
    pairs = enumerate(zip(hints, value, strict=True), 1)
    return tuple(_value(hint, item, f"{where} {number}") for number, (hint, item) in pairs)


def _radians(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_radians(item) for item in value)
    return None if value is None else math.radians(value)
